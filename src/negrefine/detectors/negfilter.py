"""NegFilter: removing negative labels that are proper nouns or kinds of a class.

NegRefine (ICCV 2025, arXiv 2507.09795), section on NegFilter: a judge answers two yes/no questions
about every mined label, "is it a proper noun" and "is it a subcategory of this class name" for the
class names nearest to it, and a yes removes the label.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeAlias

from negrefine.constraints import Boolean, Constraint, Strings, Whole, check_all
from negrefine.errors import InputError
from negrefine.judges.base import Answer, Judge, Query, iter_answers
from negrefine.labels.negatives import Cause, NegativeLabel, Removal
from negrefine.progress import Advance, progress_bar

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

    Attributes:
        filters: Which of "proper_noun" and "subcategory" to ask.
        keep: Words or texts that stay whatever the judge says.
        drop: Words or texts that are removed without a question; `keep` wins.
        n_candidates: Class names, the nearest ones, about which each label is asked.
        wordnet_candidates: Also ask about class names among a label's hypernyms or in its gloss.
        names_per_question: Above 1, ask about at most this many class names in one question, and
            one by one only where the answer is not no. A language model may answer such a question
            differently; the published code asks one by one.
        ranks_per_round: Ask about this many class names of a word before its answers are looked at:
            a few questions more, but a model that shares prefixes reads the word once. The kept set
            is the same. None is what the judge prefers.

    Raises:
        InputError: Unknown filter names, a string in place of a list, or numbers below 1.
    """

    filters: Collection[str] = FILTERS
    keep: Iterable[str] = ()
    drop: Iterable[str] = ()
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
    """One line of the audit trail.

    Attributes:
        text: The label that was asked about.
        kind: "proper_noun" or "subcategory".
        class_name: The class name in question, several as "cat | dog", None for proper nouns.
        yes: The answer; None if the judge could not decide, which keeps the label.
        reason: Why, in the judge's words.
        confidence: Between 0 and 1, None where the judge has no number.
    """

    text: str
    kind: str
    class_name: str | None
    yes: bool | None
    reason: str
    confidence: float | None = None


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
    equal to the word removes it without a question.

    Args:
        labels: M labels, cleaned.
        candidates: For each label the class names to ask about, in order.
        judge: Anything with `is_proper_noun(words)` and `is_subcategory(pairs)`.
        rules: What to ask.
        progress: Draw a progress bar on a terminal.

    Returns:
        The M labels with `removed_by` set, in the same order, and the audit trail by label: every
        answered question in the order of ranks, one about several names before those about each.

    Raises:
        InputError: The judge gives something else than one answer for each question.
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
    """Puts questions to a judge and settles labels by the answers.

    Attributes:
        trail: Audit by label.
    """

    def __init__(
        self,
        judge: Judge,
        labels: list[NegativeLabel],
        expected: dict[int, int],
        advance: Advance,
    ) -> None:
        """Take the labels, which are changed in place, and how many questions each may cost."""
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
        self.trail[i].append(
            Question(
                text=self._labels[i].text,
                kind=SUBCATEGORY if names else PROPER_NOUN,
                class_name=" | ".join(names) if names else None,
                yes=answer.yes,
                reason=answer.reason,
                confidence=answer.confidence,
            )
        )

    def _remove(self, i: int, removal: Removal) -> None:
        if self._labels[i].kept:
            self._labels[i] = replace(self._labels[i], removed_by=removal)
            self._advance.drop(self._expected[i])
            self._expected[i] = 0


def apply_user_lists(
    labels: Sequence[NegativeLabel], keep: Iterable[str], drop: Iterable[str]
) -> list[NegativeLabel]:
    """Return the labels with those on the user's lists kept or removed; `keep` wins."""
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
