"""A judge whose answers are kept in memory, so that no question is put to it twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from negrefine.judges.base import Answer, AnswerBatch, Judge, Query, QueryJudge, Usage, iter_answers


class RememberedJudge(QueryJudge):
    """Asks another judge, and repeats what it answered before.

    Attributes:
        judge: The other judge.
        answers: Every question so far and its answer, in the order of the answers.
    """

    def __init__(self, judge: Judge) -> None:
        """Begin without answers."""
        self.judge = judge
        self.name = judge.name
        self.answers: dict[Query, Answer] = {}

    @property
    def ranks_per_round(self) -> int:
        """The preference of the judge."""
        return int(getattr(self.judge, "ranks_per_round", 1))

    @property
    def usage(self) -> Usage:
        """The usage of the judge."""
        usage: Usage = getattr(self.judge, "usage", Usage())
        return usage

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        """Yield lists of (position, answer), first those that are known."""
        places: dict[Query, list[int]] = {}
        known = []
        for i, query in enumerate(queries):
            if query in self.answers:
                known.append((i, self.answers[query]))
            else:
                places.setdefault(query, []).append(i)
        if known:
            yield known
        new = list(places)
        for batch in iter_answers(self.judge, new):
            self.answers.update((new[i], answer) for i, answer in batch)
            yield [(place, answer) for i, answer in batch for place in places[new[i]]]
