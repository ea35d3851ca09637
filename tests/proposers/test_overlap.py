"""EOE's rules against proposals that are class names in other words."""

from __future__ import annotations

import pytest

from negrefine.proposers.overlap import OverlapRules

CLASSES = ["water jug", "tabby cat", "Great Dane", "St. Bernard"]


@pytest.mark.parametrize(
    ("text", "objection"),
    [
        ("water lily", "shares the word 'water' with the class 'water jug'"),
        ("Water Lily", "shares the word 'water' with the class 'water jug'"),
        ("big  cat", "shares the word 'cat' with the class 'tabby cat'"),
        ("waterlily", ""),
        ("TABBY CAT", "is a class name"),
        ("great dane", "is a class name"),
        # Proposals are lower-cased and class names are not: as published.
        ("dane", ""),
        ("Great Auk", ""),
        ("cat-bird", ""),
        ("cats", ""),
    ],
)
def test_a_name_like_a_class_may_share_no_word_with_any(text: str, objection: str) -> None:
    assert OverlapRules(CLASSES).objection(text) == objection


def test_a_far_name_may_share_words_but_not_be_a_class() -> None:
    rules = OverlapRules(CLASSES)
    assert rules.objection("water lily", similar=False) == ""
    assert rules.objection("Water Jug", similar=False) == "is a class name"


def test_the_first_class_with_the_word_is_named() -> None:
    rules = OverlapRules(["fire truck", "dump truck"])
    assert rules.objection("truck") == "shares the word 'truck' with the class 'fire truck'"
