"""Judges that vote."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest

from negrefine import VoteJudge, WordNetJudge
from negrefine.errors import InputError
from negrefine.judges.base import Answer, Query, answer_all


class Fixed:
    """Gives the same answer to everything."""

    def __init__(self, name: str, yes: bool | None, ranks_per_round: int = 1) -> None:
        self.name, self.yes, self.ranks_per_round = name, yes, ranks_per_round

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        return [Answer(self.yes)] * len(words)

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        return [Answer(self.yes)] * len(pairs)


@pytest.mark.parametrize("answers", list(product((True, False, None), repeat=3)))
def test_votes_are_counted(answers: tuple[bool | None, ...]) -> None:
    judges = [Fixed(name, yes) for name, yes in zip("abc", answers, strict=True)]
    n_yes, n_no = answers.count(True), answers.count(False)
    by_majority = True if n_yes > n_no else False if n_no > n_yes else None
    together = True if n_yes == 3 else False if n_no else None
    for rule, expected in (("majority", by_majority), ("unanimous", together)):
        vote = VoteJudge(judges, rule=rule)
        for query in (Query("w"), Query("w", ("c",)), Query("w", ("c", "d"))):
            (answer,) = answer_all(vote, [query])
            assert answer.yes is expected
            share = None if expected is None else (n_yes if expected else n_no) / 3
            assert answer.confidence == share
    who = ", ".join(j.name for j in judges if j.yes) or "none"
    assert answer.reason == f"{n_yes} yes and {n_no} no of 3 judges (yes: {who})"


def test_vote_names_its_judges_and_says_what_is_wrong() -> None:
    vote = VoteJudge([WordNetJudge(), Fixed("f", True, ranks_per_round=7)])
    assert (vote.name, vote.ranks_per_round) == ("majority(wordnet, f)", 7)
    assert [a.yes for a in vote.is_proper_noun(["Paris", "oak"])] == [True, None]
    with pytest.raises(InputError, match="at least two judges, not 1"):
        VoteJudge([WordNetJudge()])
    with pytest.raises(InputError, match="rule must be"):
        VoteJudge([WordNetJudge(), WordNetJudge()], rule="most")
