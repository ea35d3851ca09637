"""Text of others is shown, not obeyed, and different names stay different."""

from __future__ import annotations

import itertools
import json
import random

import pytest

from negrefine.shown_text import (
    is_utf8,
    json_text,
    printed_cell,
    restored,
    storable,
    table_cell,
    visible,
)

HOSTILE = [
    *map(chr, [*range(0x20), *range(0x7F, 0xA0)]),
    *"\xad\u034f\u061c\u115f\u180e\u200b\u200c\u200d\u200e\u200f\u2028\u2029\u2060\u2064\u3164",
    *map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]),
    *"\ufe0f\ufeff\uffa0\ufff9\ufffe\uffff\U000e0001\U000e0041\U000e0100",
    *"\ud800\udbff\udc80\udcff\udfff",
]
PLAIN = [
    "grün 🦊.png",
    "C:\\new\\table\\x64\\user",
    "👩\u200d💻",
    "❤\ufe0f\u200d🔥",
    "1\ufe0f\u20e3",
    "می\u200cروم",
    "क्\u200dष",
    "naïve café",
    "狐",
    "a & b | c <i> [x](y) $z$",
]


@pytest.mark.parametrize("character", HOSTILE, ids=ascii)
def test_what_is_obeyed_or_invisible_is_escaped(character: str) -> None:
    (shown,) = {visible(f"a{character}b")[1:-1], printed_cell(f"a{character}b")[1:-1]}
    assert shown.isascii()
    assert shown.isprintable()
    assert shown.encode("ascii").decode("unicode-escape") == character
    assert visible(shown) == shown
    text = json_text({f"a{character}b": f"{character}"}, indent=2)
    assert json.loads(text) == {f"a{character}b": character}
    assert all(each.isprintable() for each in text.splitlines())
    assert is_utf8(text)


@pytest.mark.parametrize("text", PLAIN)
def test_other_text_is_as_it_was(text: str) -> None:
    for shown in (visible, storable, table_cell, printed_cell, restored):
        assert shown(text) == text
    assert json_text([text]) == json.dumps([text], ensure_ascii=False)


def test_an_escape_sequence() -> None:
    assert visible("a\x1b]0;owned\x07\x9b2J\r\nb") == r"a\x1b]0;owned\x07\x9b2J\x0d\x0ab"
    assert visible("\u202egnp.exe") == r"\u202egnp.exe"


def test_names_that_are_no_utf8_stay_different_and_come_back() -> None:
    assert storable("caf\udce9.png") == r"caf\udce9.png"
    assert storable("caf\\udce9.png") == r"caf\\udce9.png"
    alphabet = ["\\", "\udcff", "udcff", "u", "d", "x"]
    texts = {"".join(parts) for n in range(6) for parts in itertools.product(alphabet, repeat=n)}
    stored = {storable(text) for text in texts}
    assert len(stored) == len(texts)
    assert all(map(is_utf8, stored))
    assert all(restored(storable(text)) == text for text in texts)


def test_printed_cells_stay_different() -> None:
    alphabet = ["\\", "\x1b", "x1b", "udc80", "\udc80", "'", "="]
    texts = {"".join(parts) for n in range(6) for parts in itertools.product(alphabet, repeat=n)}
    assert len({printed_cell(storable(text)) for text in texts}) == len(texts)
    draw = random.Random(0)  # noqa: S311 - no secret
    letters = [*HOSTILE, "\\", "x07", "u202e", "U000e0001", "U00110000", "👩", "a", " "]
    mixed = {"".join(draw.choices(letters, k=draw.randrange(9))) for _ in range(20_000)}
    cells = {printed_cell(storable(text)) for text in mixed}
    assert len(cells) == len(mixed)
    assert all(visible(cell) == cell for cell in cells)


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\uff1d1", "'=1", "''=1", "-"]
)
def test_formulas(text: str) -> None:
    assert table_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "a=b", "1-2", "'quoted'", "dir/-x.png", "\n", "(=1)"])
def test_text_that_no_spreadsheet_runs(text: str) -> None:
    assert table_cell(text) == text


def test_long_texts_take_no_time() -> None:
    for text in ("\\" * 200_000, "'" * 200_000, " " * 200_000, "\u200d" * 100_000):
        assert len(printed_cell(storable(text))) >= len(text)
