"""Cheap judges first, expensive ones only where those are unsure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from negrefine.errors import InputError
from negrefine.judges.base import (
    Answer,
    Judge,
    Query,
    Usage,
    answer_all,
    iter_answers,
)

_KINDS = ("proper_noun", "subcategory")


class CascadeJudge:
    """Puts each question to the first judge, and passes on what it is unsure of.

    A judge is sure of a yes or no whose confidence is at least `min_confidence`, or that comes
    without a number. The last judge's answer stands whatever it is.

    Attributes:
        judges: The judges, cheapest first.
        name: Their names joined by "+".
        answered: For each judge, how many of its answers stood.
    """

    def __init__(
        self,
        judges: Sequence[Judge],
        *,
        min_confidence: float = 0.5,
        trust: Sequence[str] | Mapping[str, Sequence[str]] = ("yes", "no"),
    ) -> None:
        """Take the judges.

        Args:
            judges: At least one, cheapest first.
            min_confidence: Below this an answer is passed on.
            trust: Which answers of a judge other than the last may stand: with ("no",) every yes
                is checked by the next one, with ("yes",) every no. A mapping says it for
                "proper_noun" and "subcategory" each; a kind left out goes to the last judge.

        Raises:
            InputError: No judges, or a parameter that cannot be used.
        """
        self.judges = list(judges)
        if not self.judges:
            raise InputError("CascadeJudge needs at least one judge: give a list, cheapest first.")
        if not 0 <= min_confidence <= 1:
            raise InputError(f"min_confidence must lie between 0 and 1, not {min_confidence}.")
        by_kind = trust if isinstance(trust, Mapping) else dict.fromkeys(_KINDS, trust)
        for kind, answers in by_kind.items():
            if kind not in _KINDS or isinstance(answers, str) or set(answers) - {"yes", "no"}:
                raise InputError(
                    "trust must be a list of 'yes' and 'no', or a mapping from 'proper_noun' and "
                    f"'subcategory' to such lists, not {trust!r}."
                )
        self.min_confidence = min_confidence
        self.trust = {kind: tuple(answers) for kind, answers in by_kind.items()}
        self.name = "+".join(judge.name for judge in self.judges)
        self.answered = [0] * len(self.judges)

    @property
    def ranks_per_round(self) -> int:
        """What the last judge wants, because it answers slowest."""
        return int(getattr(self.judges[-1], "ranks_per_round", 1))

    @property
    def usage(self) -> Usage:
        """What the judges have done together."""
        known = (getattr(judge, "usage", Usage()) for judge in self.judges)
        return sum(known, Usage())

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        """Is each word the name of one place, person or other entity?"""
        return answer_all(self, [Query(word) for word in words])

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """For each (word, class name): is the word a kind of the class?"""
        return answer_all(self, [Query(word, (name,)) for word, name in pairs])

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[list[tuple[int, Answer]]]:
        """Yield (position, answer) as the judges find them."""
        open_ = list(range(len(queries)))
        for level, judge in enumerate(self.judges):
            last = level == len(self.judges) - 1
            passed_on: list[int] = []
            for batch in iter_answers(judge, [queries[i] for i in open_]):
                stands = []
                for position, answer in batch:
                    if last or self._stands(queries[open_[position]], answer):
                        stands.append((open_[position], answer))
                    else:
                        passed_on.append(open_[position])
                self.answered[level] += len(stands)
                if stands:
                    yield stands
            open_ = sorted(passed_on)

    def _stands(self, query: Query, answer: Answer) -> bool:
        if answer.yes is None:
            return False
        kind = "subcategory" if query.class_names else "proper_noun"
        if ("yes" if answer.yes else "no") not in self.trust.get(kind, ()):
            return False
        return answer.confidence is None or answer.confidence >= self.min_confidence
