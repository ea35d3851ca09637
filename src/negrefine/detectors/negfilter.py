"""NegFilter: removing negative labels that are proper nouns or kinds of a class.

NegRefine (ICCV 2025, arXiv 2507.09795), section on NegFilter: a judge is asked about every mined
label whether it is a proper noun, and whether it is a subcategory of the class names nearest to it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeAlias

from negrefine.constraints import Boolean, Constraint, Strings, Whole, check_all
from negrefine.detectors.class_candidates import class_candidates
from negrefine.detectors.parameters import Unsaved
from negrefine.encoders.base import Encoder
from negrefine.errors import InputError
from negrefine.files.records import from_row
from negrefine.judges.base import Answer, Judge, Query, iter_answers
from negrefine.labels.embedding import embed
from negrefine.labels.negatives import Cause, NegativeLabel, Negatives, Removal
from negrefine.labels.prompts import Prompts
from negrefine.progress import Advance, progress_bar
from negrefine.similar_names import plain_name

PROPER_NOUN = "proper_noun"
SUBCATEGORY = "subcategory"
FILTERS = (PROPER_NOUN, SUBCATEGORY)


def _check_filters(name: str, value: Any) -> None:
    Strings()(name, value)
    unknown = sorted(set(value) - set(FILTERS))
    if unknown:
        raise InputError(f"Unknown filter {unknown[0]!r}: choose from {list(FILTERS)}.")


CONSTRAINTS: Mapping[str, Constraint] = MappingProxyType(
    {
        "filters": _check_filters,
        "keep": Strings(),
        "drop": Strings(),
        "n_candidates": Whole(1),
        "wordnet_candidates": Boolean(),
        "names_per_question": Whole(1),
        "ranks_per_round": Whole(1, optional=True),
    }
)
"""What the fields of `FilterRules` may be."""


@dataclass(frozen=True)
class FilterRules:
    """What NegFilter asks, and what the user has decided already.

    The fields are the parameters of `NegRefine` with these names; `keep` wins over `drop`. With
    `ranks_per_round`, a word's answers are looked at after this many class names: a few questions
    more, but a model that shares prefixes reads the word once, and the kept set is the same. None
    is what the judge prefers. Raises InputError for values that `CONSTRAINTS` refuses.
    """

    filters: Collection[str] = FILTERS
    keep: Collection[str] = ()
    drop: Collection[str] = ()
    n_candidates: int = 10
    wordnet_candidates: bool = False
    names_per_question: int = 1
    ranks_per_round: int | None = None

    def __post_init__(self) -> None:
        check_all(self, CONSTRAINTS)


# A label by position, and the class names it is asked about.
_Names: TypeAlias = tuple[int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Question:
    """One line of the audit trail: a question about a label, and the fields of `Answer`.

    Attributes:
        kind: "proper_noun" or "subcategory".
        class_name: The class name in question, several as "cat | dog", None for proper nouns.
    """

    text: str
    kind: str
    class_name: str | None
    yes: bool | None
    reason: str
    confidence: float | None = None

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> Question:
        """Rebuild a question from `as_row`; ValueError if the row is something else."""
        question = from_row(cls, row)
        if question.kind not in FILTERS:
            raise ValueError(f"the kind of a question is {question.kind!r}")
        return question


def clean_word(text: str) -> str | None:
    """Keep letters, "_", "-" and spaces; None if two characters or fewer are left."""
    cleaned = "".join(c for c in text if c.isalpha() or c in "_- ")
    return cleaned if len(cleaned) > 2 else None


def clean_labels(labels: Sequence[NegativeLabel]) -> list[NegativeLabel]:
    """Clean the texts of labels; what is too short or a repetition is marked as removed.

    Nouns and adjectives are compared among themselves, as published; the first one stays.
    """
    seen: set[tuple[str, str]] = set()
    cleaned = []
    for mined in labels:
        label = replace(mined, text=mined.mined_text, removed_by=None, pinned=False)
        text = clean_word(label.text)
        if text is None:
            cleaned.append(replace(label, removed_by=Removal(Cause.TOO_SHORT)))
        elif (label.pos, text) in seen:
            cleaned.append(replace(label, text=text, removed_by=Removal(Cause.REPEATED, text)))
        else:
            seen.add((label.pos, text))
            cleaned.append(replace(label, text=text))
    return cleaned


def filter_labels(
    labels: Sequence[NegativeLabel],
    candidates: Sequence[Sequence[str]],
    judge: Judge,
    rules: FilterRules = FilterRules(),
    *,
    progress: bool = False,
) -> tuple[list[NegativeLabel], list[Question]]:
    """Ask `judge` about every label that is still kept.

    All words get the proper-noun question first; then the class names are asked about rank by rank,
    and a word leaves at its first yes. The kept set is the one of asking word by word. A class name
    equal to the word removes it without a question. `candidates` are, for each of M cleaned labels,
    the class names to ask about, in order.

    Returns the M labels with `removed_by` set, in the same order, and the audit trail by label:
    every answered question in the order of ranks, one about several names before those about each.
    Raises InputError if the judge gives anything but one answer for each question.
    """
    settled = apply_user_lists(labels, rules.keep, rules.drop)
    open_ = [i for i, label in enumerate(settled) if label.kept and not label.pinned]
    ask_names, ask_proper = SUBCATEGORY in rules.filters, PROPER_NOUN in rules.filters
    names = {i: tuple(candidates[i]) if ask_names else () for i in open_}
    expected = {i: len(names[i]) + ask_proper for i in open_}
    with progress_bar(
        "Filtering negative labels", sum(expected.values()), enabled=progress, unit="questions"
    ) as advance:
        asking = _Asking(judge, settled, expected, advance)
        if ask_proper:
            asking.ask([(i, ()) for i in open_])
        ranks = rules.ranks_per_round or int(getattr(judge, "ranks_per_round", 1))
        step = max(rules.names_per_question, ranks)
        for start in range(0, max(map(len, names.values()), default=0), step):
            round_ = [
                (i, names[i][start : start + step])
                for i in open_
                if settled[i].kept and start < len(names[i])
            ]
            if rules.names_per_question > 1:
                round_ = asking.rule_out(round_, rules.names_per_question)
            asking.ask([(i, (name,)) for i, block in round_ for name in block])
    return settled, [question for trail in asking.trail for question in trail]


class _Asking:
    """Asks a judge and settles labels, in place, that may cost `expected` questions each."""

    def __init__(
        self, judge: Judge, labels: list[NegativeLabel], expected: dict[int, int], advance: Advance
    ) -> None:
        self._judge = judge
        self._labels = labels
        self._expected = expected
        self._advance = advance
        self.trail: list[list[Question]] = [[] for _ in labels]

    def ask(self, questions: Sequence[_Names]) -> None:
        """Ask for each (label, no or one class name), and settle the labels in that order."""
        answers = self._answers(questions)
        for (i, names), answer in zip(questions, answers, strict=True):
            if answer is None:
                self._remove(i, Removal(Cause.CLASS_NAME, names[0]))
                continue
            self._note(i, names, answer)
            if answer.yes and names:
                self._remove(i, Removal(Cause.SUBCATEGORY, names[0], answer.reason))
            elif answer.yes:
                self._remove(i, Removal(Cause.PROPER_NOUN, detail=answer.reason))

    def rule_out(self, questions: Sequence[_Names], names_per_question: int) -> list[_Names]:
        """Ask about several class names at once; return what has to be asked one by one."""
        blocks = [
            (i, names[start : start + names_per_question])
            for i, names in questions
            for start in range(0, len(names), names_per_question)
        ]
        # One name is no block, and a label that is a class name itself needs no question.
        several = [
            (i, names)
            for i, names in blocks
            if len(names) > 1 and self._labels[i].text not in names
        ]
        ruled_out = set()
        for (i, names), answer in zip(several, self._answers(several, count=False), strict=True):
            if answer is not None:
                self._note(i, names, answer)
                if answer.yes is False:
                    ruled_out.add((i, names))
                    self._count(i, len(names))
        return [block for block in blocks if block not in ruled_out]

    def _answers(self, questions: Sequence[_Names], *, count: bool = True) -> list[Answer | None]:
        """Return the answers in order, None where the class name is the label itself."""
        put = [n for n, (i, names) in enumerate(questions) if names != (self._labels[i].text,)]
        queries = [Query(self._labels[questions[n][0]].text, questions[n][1]) for n in put]
        answers: list[Answer | None] = [None] * len(questions)
        for batch in iter_answers(self._judge, queries):
            for position, answer in batch:
                answers[put[position]] = answer
                if count:
                    self._count(questions[put[position]][0], 1)
        return answers

    def _count(self, i: int, n: int) -> None:
        self._expected[i] -= n
        self._advance(n)

    def _note(self, i: int, names: tuple[str, ...], answer: Answer) -> None:
        kind = SUBCATEGORY if names else PROPER_NOUN
        class_name = " | ".join(names) if names else None
        decision = (answer.yes, answer.reason, answer.confidence)
        self.trail[i].append(Question(self._labels[i].text, kind, class_name, *decision))

    def _remove(self, i: int, removal: Removal) -> None:
        if self._labels[i].kept:
            self._labels[i] = replace(self._labels[i], removed_by=removal)
            self._advance.drop(self._expected[i])
            self._expected[i] = 0


def apply_user_lists(
    labels: Sequence[NegativeLabel], keep: Collection[str], drop: Collection[str]
) -> list[NegativeLabel]:
    """Return the labels with those on the user's lists kept or removed; `keep` wins.

    Words that are no labels, or on both lists, give a warning.
    """
    _warn_of_lists(labels, keep, drop)
    kept, dropped = set(keep), set(drop)
    result = []
    for label in labels:
        names = {label.word, label.text}
        if names & kept:
            result.append(replace(label, removed_by=None, pinned=True))
        elif label.kept and names & dropped:
            result.append(replace(label, removed_by=Removal(Cause.DROP_LIST)))
        else:
            result.append(label)
    return result


def _warn_of_lists(
    labels: Sequence[NegativeLabel], keep: Collection[str], drop: Collection[str]
) -> None:
    """Warn of words on the user's lists that do not do what they are there for."""
    known = {name for label in labels for name in (label.word, label.text)}
    plain = {plain_name(name): name for name in sorted(known)}
    for verb, words in (("keep", keep), ("drop", drop)):
        unknown = [word for word in words if word not in known]
        if unknown:
            meant = plain.get(plain_name(unknown[0]))
            tail = f" (did you mean {meant!r}?)" if meant else ""
            warnings.warn(
                f"{len(unknown)} of {len(words)} words to {verb} are no mined labels and have no "
                f"effect, the first: {unknown[0]!r}{tail}.",
                stacklevel=4,
            )
    both = [word for word in keep if word in set(drop)]
    if both:
        warnings.warn(
            f"{len(both)} words are to be kept and to be dropped, {both[0]!r} first: they are "
            "kept.",
            stacklevel=4,
        )


def refine(
    mined: Negatives,
    class_names: Sequence[str],
    judge: Judge | None,
    rules: FilterRules,
    *,
    encoder: Encoder,
    prompts: Prompts,
    progress: bool = False,
) -> tuple[Negatives, list[Question]]:
    """Clean mined labels and remove those that a judge calls proper nouns or kinds of a class.

    Without a judge nothing is asked: only the user's lists apply, and texts stay as mined. The
    encoder finds the nearest class names and encodes the texts that cleaning changed. Raises
    InputError as `filter_labels`, or if nothing is left.
    """
    trail: list[Question] = []
    if judge is None:
        labels = apply_user_lists(mined.labels, rules.keep, rules.drop)
    else:
        labels, trail = clean_and_ask(
            mined.labels, class_names, judge, rules, encoder=encoder, progress=progress
        )
    if not any(label.kept for label in labels):
        raise InputError(
            f"The filter removed all {len(labels)} negative labels: check the judge, "
            "or use judge='none'."
        )
    features = mined.features.copy()
    for pos, templates in (("noun", prompts.noun), ("adj", prompts.adjective)):
        changed = [i for i in changed_texts(labels) if labels[i].pos == pos]
        if changed:
            features[changed] = embed(encoder, [labels[i].text for i in changed], templates)
    return Negatives(tuple(labels), features), trail


def clean_and_ask(
    given: Sequence[NegativeLabel],
    class_names: Sequence[str],
    judge: Judge,
    rules: FilterRules,
    *,
    encoder: Encoder,
    asked_first: Callable[[NegativeLabel], Iterable[str]] | None = None,
    progress: bool = False,
) -> tuple[list[NegativeLabel], list[Question]]:
    """Return the labels, cleaned and filtered, and the questions about them.

    Each is asked about the class names that `asked_first` returns for it, then the nearest ones.
    """
    cleaned = clean_labels(given)
    candidates = class_candidates(
        encoder,
        [label.text for label in cleaned],
        class_names,
        n_candidates=rules.n_candidates,
        wordnet_candidates=rules.wordnet_candidates,
        progress=progress,
    )
    if asked_first is not None:
        candidates = [
            list(dict.fromkeys([*asked_first(label), *names]))
            for label, names in zip(cleaned, candidates, strict=True)
        ]
    return filter_labels(cleaned, candidates, judge, rules, progress=progress)


def changed_texts(labels: Sequence[NegativeLabel]) -> list[int]:
    """Return the indices of the labels whose text is no longer the mined one."""
    return [i for i, label in enumerate(labels) if label.text != label.mined_text]


def check_judge(name: str, judge: object) -> None:
    """Raise InputError for what is neither a judge nor the name of one."""
    if isinstance(judge, Unsaved):
        raise judge.error()
    methods = (getattr(judge, method, None) for method in ("is_proper_noun", "is_subcategory"))
    usable = all(map(callable, methods)) and not isinstance(judge, (str, type))
    if not (judge is None or judge in ("wordnet", "none") or usable):
        raise InputError(
            f"{name} must be 'wordnet', 'none' or an object with the methods is_proper_noun and "
            f"is_subcategory, not {judge!r}."
        )


def resolve_judge(judge: Judge | Unsaved | str | None) -> Judge | None:
    """Return the judge that the parameter of `NegRefine` means, or None for no filter."""
    if judge is None or judge == "wordnet":
        from negrefine.judges.wordnet import WordNetJudge

        return WordNetJudge()
    return None if isinstance(judge, (str, Unsaved)) else judge
