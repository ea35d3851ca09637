"""Proposals in a file, and what is taken from any proposer."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from negrefine import ReplayProposer
from negrefine.errors import InputError
from negrefine.proposers.base import Proposer, ask_far, ask_similar, clean_names, read_list
from negrefine.proposers.replay import write_proposals

TEN = Path(__file__).with_name("ten_classes.json")
NAMES = list(json.loads(TEN.read_text(encoding="utf-8"))["similar"])


class Given:
    """Proposes what it was given."""

    name = "given"

    def __init__(self, similar: Any, far: Any = ()) -> None:
        self.similar, self.far = similar, far

    def propose_similar(self, class_names: Any, n: int) -> Any:  # noqa: ARG002
        return self.similar

    def propose_far(self, class_names: Any, n: int) -> Any:  # noqa: ARG002
        return self.far


def test_proposes_the_first_names_of_each_class() -> None:
    proposer = ReplayProposer(TEN)
    assert isinstance(proposer, Proposer)
    assert (proposer.name, proposer.proposer) == ("replay(ten_classes.json)", "by hand")
    found = ask_similar(proposer, [*NAMES, "zebra"], 2)
    assert list(found) == NAMES
    assert found["water jug"] == ["watering can", "teapot"]
    assert {len(names) for names in found.values()} == {2}
    assert ask_similar(proposer, NAMES, 9)["water jug"][2:] == ["Milk bottle", "Vase"]
    assert ask_far(proposer, NAMES, 4) == ["guitar", "waterfall", "Zebra", "cathedral"]


def test_a_class_that_is_not_in_the_file_is_named() -> None:
    with pytest.warns(UserWarning, match=r"proposed nothing for 2 of 3 class names: 'yak', 'gnu'"):
        assert ask_similar(ReplayProposer(TEN), ["yak", "owl", "gnu"], 3)["yak"] == []


def test_what_was_asked_is_written_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "copy.json"
    write_proposals(path, ReplayProposer(TEN), NAMES, n_similar=3, n_far=5)
    content = path.read_bytes()
    write_proposals(path, ReplayProposer(TEN), NAMES, n_similar=3, n_far=5)
    assert path.read_bytes() == content
    again = ReplayProposer(path)
    assert ask_similar(again, NAMES, 5) == ask_similar(ReplayProposer(TEN), NAMES, 3)
    assert ask_far(again, NAMES, 5) == ask_far(ReplayProposer(TEN), NAMES, 5)
    other = tmp_path / "notes.json"
    other.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="is not what negrefine writes there"):
        write_proposals(other, ReplayProposer(TEN), NAMES)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read as JSON"),
        ("{", "cannot be read as JSON"),
        ("[]", "is no file of proposals"),
        ('{"similar": {}}', "is no file of proposals"),
        ({"version": True}, "of version True, and this installation reads version 1"),
        ({"version": 2}, "of version 2, and this installation reads version 1"),
        ({"closest": {}}, "the unknown field 'closest'"),
        ({"similar": ["a"]}, "must be an object with a list of names for each class"),
        ({"similar": {"a": "b"}}, "must be an object with a list of names for each class"),
        ({"far": [1]}, '"far" of .* must be a list of names'),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    path = tmp_path / "p.json"
    if isinstance(content, dict):
        content = json.dumps({"format": "negrefine-proposals", "version": 1, **content})
    if content is not None:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        ReplayProposer(path)


@pytest.mark.parametrize(
    ("similar", "said"),
    [
        (["a"], "returned list instead of lists of names by class name"),
        ({"b": ["x"]}, "proposed names for 'b', which is no class"),
        ({"a": "x"}, "returned 'x' instead of a list of names"),
        ({"a": ["x", 3]}, "returned 3, which is no name"),
    ],
)
def test_a_proposer_of_ones_own_is_checked(similar: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ask_similar(Given(similar), ["a"], 2)


def test_names_are_cleaned() -> None:
    names = ["  Sea  lion. ", "sea lion", "", "a\tb", "x" * 101, "\x1b[31m", "…", "walrus"]
    assert clean_names(names, 9, "me") == ["Sea lion", "a b", "…", "walrus"]
    assert clean_names(names, 1, "me") == ["Sea lion"]
    # Joiners belong to the spelling of Persian and of emoji, and hide a difference in "wolf".
    joined = ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\U0001f469\u200d\U0001f680"]
    assert clean_names([*joined, "wo\u200dlf"], 9, "me") == joined
    with (
        pytest.warns(UserWarning, match="3 names that 'given' proposed are left out"),
        pytest.warns(UserWarning, match="proposed nothing for 1 of 2"),
    ):
        assert ask_similar(Given({"a": names, "b": ["\u202egod"]}), ["a", "b"], 1)["b"] == []
    with pytest.warns(UserWarning, match=r"1 names .* are left out, .* the first: '\\x1b\[31m'"):
        ask_far(Given({}, ["x", "\x1b[31m"]), ["a"], 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ask_far(Given({}, ["x"]), ["a"], 3) == ["x"]
    with pytest.warns(UserWarning, match="proposed nothing far from the classes"):
        ask_far(Given({}), ["a"], 3)


@pytest.mark.parametrize(
    ("reply", "names"),
    [
        ("- sea lion\n- walrus", ["sea lion", "walrus"]),
        ("Sure! Here are 2:\n\n1. Sea lion\n2) **walrus**\nHope it helps", ["Sea lion", "walrus"]),
        ("* 'otter': has fur\n• seal - a mammal\n- dugong (sea cow)", ["otter", "seal", "dugong"]),
        ("-5 degrees\nsea-lion\n-", []),
        ("- cat-bird\n- T-shirt", ["cat-bird", "T-shirt"]),
        ("", []),
    ],
)
def test_the_lines_of_a_list_are_read(reply: str, names: list[str]) -> None:
    assert read_list(reply) == names
