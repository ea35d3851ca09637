"""The time that reading a reply takes grows no faster than its length, whatever is in it."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from negrefine.judges.chat_reply import read_reply
from negrefine.judges.server_errors import refuses_system_role
from negrefine.judges.thoughts import ends_in_thoughts, without_thoughts

LENGTH = 16_000
# The slowest of these takes about 10 times as long as looking at each character in Python; what
# reads the rest of the reply once for each character takes thousands of times as long.
MOST_TIMES = 100


class RefusedError(Exception):
    status_code = 400


READERS: list[Callable[[str], object]] = [
    read_reply,
    without_thoughts,
    ends_in_thoughts,
    lambda text: refuses_system_role(RefusedError(text)),
]
UNITS = [
    *("\n", " ", "_ ", "{", "[", "<", "< ", "</ ", "<|", "<|a ", "<a:", "yes ", "no and ", "a"),
    *("<think>", "</think>", "<think>a</think>", "<think><think></think>", "<think", "[THINK] "),
    *("<|channel|>", "<|channel|>final", "final<|constrain|>", "final ", "<|message|>"),
    *("analysis", "assistantanalysis", "assistantfinal", "<begin_of_", "<answer>", "\u25c1think"),
    *("system ", "support ", "system\t ", "developer" + " " * 9),
]


def seconds(work: Callable[[], object]) -> float:
    def once() -> float:
        begun = time.perf_counter()
        work()
        return time.perf_counter() - begun

    return min(once() for _ in range(3))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("opening", ["", "Yes", "<think>", "<|channel|>", "<"])
def test_reading_takes_time_in_proportion_to_the_length(opening: str, unit: str) -> None:
    text = opening + unit * (LENGTH // len(unit)) + "x"
    each_character = seconds(lambda: sum(character == "<" for character in text))
    for reader in READERS:
        assert seconds(lambda reader=reader: reader(text)) < MOST_TIMES * each_character  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("<think>" * 5000 + "</think>Yes", True),
        ("<think>a</think>" * 5000 + "No", False),
        ("<think>" * 5000 + "</think>" * 5000 + "\n" * 5000 + "Yes", True),
        ("a</think>" * 5000 + "**" * 5000 + "No", False),
        ("Yes" + "\n" * 16000 + "x", True),
        ("Yes" + " _" * 16000 + "no", None),
        ("No" + "\n" * 16000 + "or" + "\t" * 16000 + "yes", None),
        ("Yes" + "<think>" * 5000, True),
        ("<think>" * 5000 + "Yes", None),
        ("{" * 16000 + "yes", True),
    ],
)
def test_long_replies_are_read_like_short_ones(text: str, yes: bool | None) -> None:
    answer = read_reply(text)
    assert (None if answer is None else answer.yes) is yes
