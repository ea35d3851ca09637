"""Several judges that vote on every question."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass

from negrefine.errors import InputError
from negrefine.judges.base import Answer, AnswerBatch, Judge, Query, QueryJudge, Usage, answer_all

RULES = ("majority", "unanimous")


@dataclass(repr=False, eq=False)
class VoteJudge(QueryJudge):
    """Asks every judge every question and counts their answers.

    Undecided judges do not vote. By "majority" the more frequent answer wins, and a tie is
    undecided, which keeps the label. By "unanimous" the answer is yes only if every judge says yes,
    no if one of them says no, and otherwise undecided. The confidence of an answer is the share of
    the judges that gave it.

    Args:
        judges: At least two.
        rule: "majority" or "unanimous".

    Raises:
        InputError: There are fewer than two judges, or the rule is unknown.

    Example:
        >>> server = negrefine.OpenAIJudge("qwen2.5:14b", "http://localhost:11434/v1", store=None)
        >>> judge = negrefine.VoteJudge([negrefine.WordNetJudge(), server], rule="unanimous")
        >>> [answer.yes for answer in judge.is_proper_noun(["paris", "dallas"])]
        [False, True]
    """

    judges: Sequence[Judge]
    _: KW_ONLY
    rule: str = "majority"

    def __post_init__(self) -> None:
        """Check the parameters."""
        self.judges = list(self.judges)
        if len(self.judges) < 2:
            raise InputError(
                f"VoteJudge needs at least two judges, not {len(self.judges)}: give a list of them."
            )
        if self.rule not in RULES:
            raise InputError(f"rule must be 'majority' or 'unanimous', not {self.rule!r}.")
        self.name = f"{self.rule}({', '.join(judge.name for judge in self.judges)})"

    @property
    def ranks_per_round(self) -> int:
        """The largest preference of the judges."""
        return max(int(getattr(judge, "ranks_per_round", 1)) for judge in self.judges)

    @property
    def usage(self) -> Usage:
        """The sum of the judges' usages."""
        return sum((getattr(judge, "usage", Usage()) for judge in self.judges), Usage())

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        """Yield one list of (position, answer), when every judge has answered."""
        votes = zip(*(answer_all(judge, queries) for judge in self.judges), strict=True)
        yield [(i, self._count(answers)) for i, answers in enumerate(votes)]

    def _count(self, answers: Sequence[Answer]) -> Answer:
        given = [answer.yes for answer in answers]
        n_yes, n_no = given.count(True), given.count(False)
        if self.rule == "unanimous":
            yes = True if n_yes == len(given) else False if n_no else None
        else:
            yes = None if n_yes == n_no else n_yes > n_no
        names = [j.name for j, answer in zip(self.judges, given, strict=True) if answer is True]
        said = f"yes: {', '.join(names)}" if names else "yes: none"
        reason = f"{n_yes} yes and {n_no} no of {len(given)} judges ({said})"
        return Answer(yes, reason, None if yes is None else given.count(yes) / len(given))
