"""Cheap judges first; expensive judges answer only what the cheap ones are unsure of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass

from negrefine.errors import InputError
from negrefine.judges.base import Answer, AnswerBatch, Judge, Query, QueryJudge, Usage, iter_answers

_KINDS = ("proper_noun", "subcategory")


@dataclass(repr=False, eq=False)
class CascadeJudge(QueryJudge):
    """Asks the first judge, and passes on the questions that it is unsure of to the next one.

    A judge is sure of a yes or no whose confidence is at least `min_confidence`, or that has no
    confidence. The last judge's answers are always accepted.

    Args:
        judges: At least one, cheapest first.
        trust: Which answers of a judge other than the last are accepted: with ("no",) every yes is
            checked by the next judge, with ("yes",) every no. A mapping has such lists by kind,
            "proper_noun" and "subcategory"; questions of a missing kind go to the last judge.

    Attributes:
        answered: For each judge, how many of its answers were accepted.

    Raises:
        InputError: There are no judges, or a parameter is out of range.

    Example:
        >>> server = negrefine.OpenAIJudge("qwen2.5:14b", "http://localhost:11434/v1", store=None)
        >>> judge = negrefine.CascadeJudge([negrefine.WordNetJudge(), server])
        >>> [answer.yes for answer in judge.is_proper_noun(["paris", "xylqua"])], judge.answered
        ([True, False], [1, 1])
    """

    judges: Sequence[Judge]
    _: KW_ONLY
    min_confidence: float = 0.5
    trust: Sequence[str] | Mapping[str, Sequence[str]] = ("yes", "no")

    def __post_init__(self) -> None:
        """Check the parameters."""
        self.judges = list(self.judges)
        if not self.judges:
            raise InputError("CascadeJudge needs at least one judge: give a list, cheapest first.")
        if not 0 <= self.min_confidence <= 1:
            raise InputError(f"min_confidence must be between 0 and 1, not {self.min_confidence}.")
        trust = self.trust
        self._trusted = trust if isinstance(trust, Mapping) else dict.fromkeys(_KINDS, trust)
        for kind, answers in self._trusted.items():
            if kind not in _KINDS or isinstance(answers, str) or set(answers) - {"yes", "no"}:
                raise InputError(
                    "trust must be a list of 'yes' and 'no', or a mapping from 'proper_noun' and "
                    f"'subcategory' to such lists, not {trust!r}."
                )
        self.name = "+".join(judge.name for judge in self.judges)
        self.answered = [0] * len(self.judges)

    @property
    def ranks_per_round(self) -> int:
        """The preference of the last judge, which is the slowest."""
        return int(getattr(self.judges[-1], "ranks_per_round", 1))

    @property
    def usage(self) -> Usage:
        """The sum of the judges' usages."""
        return sum((getattr(judge, "usage", Usage()) for judge in self.judges), Usage())

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        """Yield lists of (position, answer) as the judges find them."""
        unanswered = set(range(len(queries)))
        for level, judge in enumerate(self.judges):
            last = level == len(self.judges) - 1
            positions = sorted(unanswered)
            for batch in iter_answers(judge, [queries[i] for i in positions]):
                accepted = [
                    (positions[i], answer)
                    for i, answer in batch
                    if last or self._accepts(queries[positions[i]], answer)
                ]
                self.answered[level] += len(accepted)
                unanswered.difference_update(position for position, _ in accepted)
                if accepted:
                    yield accepted

    def _accepts(self, query: Query, answer: Answer) -> bool:
        kind = "subcategory" if query.class_names else "proper_noun"
        trusted = self._trusted.get(kind, ())
        if answer.yes is None or ("yes" if answer.yes else "no") not in trusted:
            return False
        return answer.confidence is None or answer.confidence >= self.min_confidence
