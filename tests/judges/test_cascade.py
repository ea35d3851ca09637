"""Judges put together."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from negrefine import CascadeJudge, WordNetJudge
from negrefine.errors import InputError
from negrefine.judges.base import Answer


class Scripted:
    """Gives the answers it was made with."""

    name = "scripted"

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        self.asked += words
        return [self.answers[word] for word in words]

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        return self.is_proper_noun([f"{word}<{name}" for word, name in pairs])


def test_cascade_passes_on_what_the_first_is_unsure_of() -> None:
    first = Scripted(
        {
            "sure": Answer(True, "first", 0.9),
            "plain": Answer(False, "first"),
            "unsure": Answer(True, "first", 0.6),
            "undecided": Answer(None, "first"),
        }
    )
    last = Scripted(
        {
            "unsure": Answer(False, "last", 0.51),
            "undecided": Answer(None, "last"),
            "sure": Answer(False, "last"),
            "plain": Answer(True, "last"),
        }
    )
    words = ["undecided", "sure", "unsure", "plain"]
    cascade = CascadeJudge([first, last], min_confidence=0.8)
    answers = cascade.is_proper_noun(words)
    assert [answer.reason for answer in answers] == ["last", "first", "last", "first"]
    assert last.asked == ["undecided", "unsure"]
    assert cascade.answered == [2, 2]
    assert cascade.name == "scripted+scripted"
    checked = CascadeJudge([first, last], trust=["no"])
    assert [a.reason for a in checked.is_proper_noun(words)] == ["last", "last", "last", "first"]


def test_cascade_may_trust_one_kind_of_question_only() -> None:
    answers = {"w": Answer(False, "first"), "w<c": Answer(False, "first")}
    last = Scripted({"w": Answer(True, "last"), "w<c": Answer(True, "last")})
    cascade = CascadeJudge([Scripted(answers), last], trust={"subcategory": ["no"]})
    assert cascade.is_proper_noun(["w"])[0].reason == "last"
    assert cascade.is_subcategory([("w", "c")])[0].reason == "first"


def test_cascade_says_what_is_wrong() -> None:
    with pytest.raises(InputError, match="at least one judge"):
        CascadeJudge([])
    with pytest.raises(InputError, match="min_confidence"):
        CascadeJudge([WordNetJudge()], min_confidence=2)
    for trust in (["maybe"], {"noun": ["yes"]}, {"proper_noun": "yes"}):
        with pytest.raises(InputError, match="trust must be"):
            CascadeJudge([WordNetJudge()], trust=trust)
