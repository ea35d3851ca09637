"""Names of files and folders that any file system takes, and that differ on any."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negrefine.files.safe_names import FreeNames, safe_name, same_place
from negrefine.shown_text import visible


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("tabby cat", "tabby cat"),
        ("grün 🦊.png", "grün 🦊.png"),
        ("cat/dog", "cat_dog"),
        ("..", "__"),
        ("../../etc/passwd", "___.._etc_passwd"),
        (".hidden", "_hidden"),
        ("cat. ", "cat__"),
        (" ", "_"),
        ("", "_"),
        ("d\x1b[31mog", "d_x1b[31mog"),
        ("ow\u202el", "ow_u202el"),
        ("f\udcff.png", "f_udcff.png"),
        ('a<b>:"|?*\\.png', "a_b_______.png"),
        ("con", "con_"),
        ("Aux.tar.gz", "Aux_.tar.gz"),
        ("nul .png", "nul_ .png"),
        ("COM1.png", "COM1_.png"),
        ("lpt\xb9", "lpt\xb9_"),
        ("console", "console"),
        ("com10", "com10"),
    ],
)
def test_names(text: str, name: str) -> None:
    assert safe_name(text) == name


def test_long_names_end_in_a_digest() -> None:
    one, other = (safe_name("ä" * 200 + end + ".jpeg") for end in ("1", "2"))
    assert one != other
    for name in (one, other):
        assert len(name.encode()) <= 130
        assert re.fullmatch(r"ä{50,}~[0-9a-f]{8}\.jpeg", name)
    assert len(safe_name("a." + "b" * 500).encode()) <= 130
    family = "\U0001f468\u200d" * 100
    assert visible(safe_name(family)) == safe_name(family)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=160) | st.binary(max_size=40).map(os.fsdecode))
def test_any_text(text: str) -> None:
    name = safe_name(text)
    assert safe_name(name) == name
    assert visible(name) == name
    assert not re.search(r'[<>:"/\\|?*\0-\x1f]', name)
    assert name.strip(". ") == name != ""
    assert len(name.encode("utf-8")) <= 130


def test_files_can_have_these_names(tmp_path: Path) -> None:
    texts = [chr(code) for code in range(300)] + ["a" * 300, "..", "\udcff", "con", "🦊" * 90]
    names = {safe_name(text) for text in texts}
    for name in names:
        (tmp_path / name).mkdir()
    assert {path.name for path in tmp_path.iterdir()} == names


def test_names_that_differ_only_in_case_are_numbered() -> None:
    free = FreeNames(["Here.png"])
    taken = [free.take(name) for name in ("a.png", "A.PNG", "a.png", "here.png", "a (2).png")]
    assert taken == ["a.png", "A (2).PNG", "a (3).png", "here (2).png", "a (2) (2).png"]
    assert free.take("v1.0", is_file=False) == "v1.0"
    assert free.take("V1.0", is_file=False) == "V1.0 (2)"
    composed, decomposed = "caf\xe9.png", "cafe\u0301.png"
    assert free.take(composed) == composed
    assert free.take(decomposed) == "cafe\u0301 (2).png"
    assert same_place("STRASSE") == same_place("straße")
