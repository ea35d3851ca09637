"""Several judges on the same labels: agreement, the labels that flip, and what each error does."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from typing_extensions import Self

from negrefine.detectors import NegRefine
from negrefine.detectors.class_candidates import class_candidates
from negrefine.detectors.negfilter import (
    FILTERS,
    PROPER_NOUN,
    SUBCATEGORY,
    FilterRules,
    clean_labels,
    filter_labels,
)
from negrefine.errors import InputError
from negrefine.judges.agreement import Agreement, measure_agreement
from negrefine.judges.base import AnswerBatch, Judge, Query, QueryJudge, answer_all
from negrefine.judges.remembered import RememberedJudge
from negrefine.judges.replay import ReplayJudge
from negrefine.labels.negatives import NegativeLabel


@dataclass(frozen=True)
class FilterTask:
    """The labels that NegFilter is to judge, and what it asks.

    Attributes:
        labels: M cleaned labels.
        candidates: For each label the class names to ask about, in order.
        rules: The questions, and the user's lists.
    """

    labels: Sequence[NegativeLabel]
    candidates: Sequence[Sequence[str]]
    rules: FilterRules = field(default_factory=FilterRules)

    @classmethod
    def of_detector(cls, detector: NegRefine, *, progress: bool = False) -> Self:
        """Return the mined labels of a fitted detector, with its parameters of the filter."""
        detector._check_fitted()
        rules = detector.filter_rules
        labels = clean_labels(detector.mined_.labels)
        candidates = class_candidates(
            detector.encoder,
            [label.text for label in labels],
            detector.class_names_,
            n_candidates=rules.n_candidates,
            wordnet_candidates=rules.wordnet_candidates,
            progress=progress,
        )
        return cls(labels, candidates, rules)

    @classmethod
    def of_log(cls, log: ReplayJudge) -> Self:
        """Return the words of an official log, with the class names that were asked about.

        Words that the log calls proper nouns have none.
        """
        labels = [NegativeLabel(word, word, word, "noun", "", 0.0) for word in log.recorded]
        return cls(labels, [list(dict.fromkeys(log.candidates[word])) for word in log.recorded])

    def about(self, words: Collection[str]) -> Self:
        """Return the labels with these texts alone."""
        places = [i for i, label in enumerate(self.labels) if label.text in words]
        labels = [self.labels[i] for i in places]
        known = {name for label in labels for name in (label.word, label.text)}
        rules = replace(
            self.rules,
            keep=[word for word in self.rules.keep if word in known],
            drop=[word for word in self.rules.drop if word in known],
        )
        candidates = [self.candidates[i] for i in places]
        return replace(self, labels=labels, candidates=candidates, rules=rules)

    def settle(self, judge: Judge, *, progress: bool = False) -> list[NegativeLabel]:
        """Return the labels as the judge leaves them."""
        return filter_labels(self.labels, self.candidates, judge, self.rules, progress=progress)[0]


@dataclass(frozen=True, slots=True)
class Flip:
    """A label that not all judges keep.

    Attributes:
        text: The label.
        reasons: By judge, why it was removed; None where it is kept.
    """

    text: str
    reasons: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class ErrorEffect:
    """What one kind of disagreement with the first judge does by itself.

    Attributes:
        judge: The judge that disagrees.
        kind: "proper_noun" or "subcategory".
        says_yes: It says yes where the first judge does not; otherwise the other way round.
        n_questions: Such questions among all that were asked.
        removed, kept: Labels that are removed (kept) instead of kept (removed) if the first judge
            answers these questions like the other one, and all others as it does.
    """

    judge: str
    kind: str
    says_yes: bool
    n_questions: int
    removed: int
    kept: int


@dataclass(frozen=True, slots=True)
class ClassAgreement:
    """The questions about one class name, as the first judge and another one decided them."""

    class_name: str
    judge: str
    n: int
    both_yes: int
    first_only: int
    other_only: int


@dataclass(frozen=True)
class JudgeComparison:
    """Several judges on the same labels; the first is what the others' errors are measured against.

    Attributes:
        labels: By judge, the labels as it leaves them.
        agreements: Of every two judges, by kind of question, on all questions that the filter asked
            one of the judges. A judge is asked what only the others' runs needed, too.
        effects: Of every other judge, by kind of question and direction.
        classes: Of every other judge, the classes with at least one yes, most disagreements first.
        flips: In the order of the labels.
    """

    labels: Mapping[str, Sequence[NegativeLabel]]
    agreements: Sequence[Agreement]
    effects: Sequence[ErrorEffect]
    classes: Sequence[ClassAgreement]
    flips: Sequence[Flip]


def compare_judges(
    judges: Mapping[str, Judge],
    task: FilterTask,
    *,
    n_bootstrap: int = 1000,
    progress: bool = False,
) -> JudgeComparison:
    """Let judges, by name, settle the same labels, and compare answers and kept labels.

    No question is put to a judge twice, nor one that a `RememberedJudge` has answered. Raises
    InputError for fewer than two judges.
    """
    if len(judges) < 2:
        raise InputError("There is nothing to compare: give at least two judges.")
    # Answers about several names at once are no answers about each.
    task = replace(task, rules=replace(task.rules, names_per_question=1))
    asked = {
        name: judge if isinstance(judge, RememberedJudge) else RememberedJudge(judge)
        for name, judge in judges.items()
    }
    labels = {name: task.settle(judge, progress=progress) for name, judge in asked.items()}
    questions = list(dict.fromkeys(query for judge in asked.values() for query in judge.answers))
    for judge in asked.values():
        answer_all(judge, questions)
    first, *others = asked
    kinds = [kind for kind in FILTERS if kind in task.rules.filters]
    return JudgeComparison(
        labels=labels,
        agreements=[
            measure_agreement(
                kind,
                (a, b),
                [query for query in questions if _kind(query) == kind],
                asked[a].answers,
                asked[b].answers,
                n_bootstrap=n_bootstrap,
            )
            for a, b in combinations(asked, 2)
            for kind in kinds
        ],
        effects=[
            _effect(task, questions, asked[first], name, asked[name], kind, says_yes)
            for name in others
            for kind in kinds
            for says_yes in (True, False)
        ],
        classes=[
            each
            for name in others
            for each in _by_class(questions, asked[first], name, asked[name])
        ],
        flips=list(_flips(labels)),
    )


class _OneError(QueryJudge):
    """Answers like one judge, but like another where it disagrees in one way."""

    def __init__(
        self, judge: RememberedJudge, other: RememberedJudge, kind: str, says_yes: bool
    ) -> None:
        self.name = other.name
        self._judge, self._other, self._kind, self._says_yes = judge, other, kind, says_yes

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        answers = answer_all(self._judge, queries)
        asked = [i for i, query in enumerate(queries) if _kind(query) == self._kind]
        for i, other in zip(
            asked, answer_all(self._other, [queries[i] for i in asked]), strict=True
        ):
            if _differs(answers[i].yes, other.yes, self._says_yes):
                answers[i] = other
        yield list(enumerate(answers))


def _differs(first: bool | None, other: bool | None, says_yes: bool) -> bool:
    """Whether `other` says yes and `first` does not, or the other way round."""
    return bool(other) == says_yes and bool(first) != says_yes


def _effect(
    task: FilterTask,
    questions: Sequence[Query],
    first: RememberedJudge,
    name: str,
    other: RememberedJudge,
    kind: str,
    says_yes: bool,
) -> ErrorEffect:
    differing = [
        query
        for query in questions
        if _kind(query) == kind
        and _differs(first.answers[query].yes, other.answers[query].yes, says_yes)
    ]
    # The others are asked and answered as by the first judge.
    affected = task.about({query.word for query in differing})
    settled = affected.settle(_OneError(first, other, kind, says_yes))
    pairs = [(a.kept, b.kept) for a, b in zip(affected.settle(first), settled, strict=True)]
    return ErrorEffect(
        name, kind, says_yes, len(differing), pairs.count((True, False)), pairs.count((False, True))
    )


def _by_class(
    questions: Sequence[Query], first: RememberedJudge, name: str, other: RememberedJudge
) -> list[ClassAgreement]:
    counts: dict[str, list[tuple[bool, bool]]] = {}
    for query in questions:
        a, b = first.answers[query].yes, other.answers[query].yes
        if query.class_names and a is not None and b is not None:
            counts.setdefault(query.class_names[0], []).append((a, b))
    rows = [
        ClassAgreement(
            class_name,
            name,
            len(pairs),
            pairs.count((True, True)),
            pairs.count((True, False)),
            pairs.count((False, True)),
        )
        for class_name, pairs in counts.items()
        if any(map(any, pairs))
    ]
    return sorted(rows, key=lambda row: (-row.first_only - row.other_only, row.class_name))


def _flips(labels: Mapping[str, Sequence[NegativeLabel]]) -> Iterator[Flip]:
    for of_judges in zip(*labels.values(), strict=True):
        if len({label.kept for label in of_judges}) > 1:
            reasons = [None if label.kept else label.reason for label in of_judges]
            yield Flip(of_judges[0].text, dict(zip(labels, reasons, strict=True)))


def _kind(query: Query) -> str:
    return SUBCATEGORY if query.class_names else PROPER_NOUN
