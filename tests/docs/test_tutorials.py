"""The tutorials: their commands run, and print what the pages say."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from docs.conftest import DOCS
from transcripts import Reader, assert_printed, blocks

TUTORIALS = DOCS / "tutorials"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
Start = Callable[..., Reader]


def test_a_page_that_is_wrong_fails(reader: Start, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint('0.5001 a')\n```\n\n```text\n0.5000 a\n```\n")
    assert len(reader().read(page)) == 1
    for wrong in ("0.6000 a", "0.5001 b", "0.5001 a\nmore", "other\n0.5001 a"):
        page.write_text(f"```python\nprint('0.5001 a')\n```\n```text\n{wrong}\n```\n")
        with pytest.raises(AssertionError, match=r"page\.md, line 1"):
            reader().read(page)
    for code in (
        "```bash\nfalse\n```\n",
        "```python\n1 / 0\n```\n",
        "```bash\nnegrefine no\n```\n",
    ):
        page.write_text(code)
        with pytest.raises(AssertionError, match=r"page\.md, line 1"):
            reader().read(page)


def test_blocks_are_found_with_their_output_and_the_reason_why_they_do_not_run() -> None:
    text = "```bash\na\n```\n\n```text\nout\n```\n\n<!-- not run: slow -->\n```bash\nb\n```\n"
    first, second = blocks(text)
    assert (first.code, first.output, first.line, first.reason) == ("a\n", "out\n", 1, None)
    assert (second.code, second.output, second.line, second.reason) == ("b\n", None, 10, "slow")
    assert_printed(["a", "...", "z … 1"], ["a", "b", "c", "z y 1"])
    with pytest.raises(AssertionError):
        assert_printed(["a", "...", "z"], ["a", "b"])


def test_own_photos(reader: Start) -> None:
    typed = reader()
    assert len(typed.read(TUTORIALS / "own-photos.md")) == 4
    rows = list(csv.DictReader((typed.folder / "scores.csv").read_text("utf-8").splitlines()))
    assert len(rows) == len(list((typed.folder / "new").iterdir())) == 30
    assert {row["verdict"] for row in rows} == {"ID", "OOD"}
    assert (typed.folder / "page.html").stat().st_size > 10_000


def test_threshold(reader: Start) -> None:
    typed = reader()
    assert len(typed.read(TUTORIALS / "threshold.md")) == 6
    rates = typed.names["false_alarms"]()
    assert 0.04 < rates.mean() < 0.1
    assert 0.2 < (rates > 0.1).mean() < 0.6
    # Drawn without replacement from 61, the rates spread about as they would from a population.
    assert (typed.names["rates"] > 0.1).mean() < 0.08


def test_compare(reader: Start) -> None:
    typed = reader()
    assert len(typed.read(TUTORIALS / "compare.md")) == 2
    assert (typed.folder / "results" / "report.html").is_file()
