"""Words of a list and replies of a server that a terminal, a reader or a spreadsheet would obey."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli.test_hostile_names import checked
from conftest import CLASS_NAMES
from judges.chat_server import Server, message

WORDS = ["=2+5", "oa\x1b[31mk", "fe\x9brn", "mo\u202ess", "@dai\u200bsy", "wil[/]low", "clo\x07ver"]
REPLY = "Yes\x1b]0;owned\x07\x9b\u202e\u2028\n[bold]\ud800"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    started = Server()
    started.reply = lambda question, _: message(REPLY if "moss" in question else "No")
    yield started
    started.close()


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, server: Server, quick: Any) -> Path:
    """A folder with a lexicon of such words, and a detector whose judge replied so."""
    root = tmp_path_factory.mktemp("words")
    rows = ["word\tlexname\tpos", *(f"{word}\tnoun.\x1b[1mplant\tnoun" for word in WORDS)]
    (root / "words.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (root / "classes.txt").write_text("\n".join(CLASS_NAMES), encoding="utf-8")
    done = quick(
        *("fit", "--classes", root / "classes.txt", "--encoder", "builtin", "--out", root / "d"),
        *("--lexicon", root / "words.tsv", "--lexicon-files", "full", "--top-fraction", "1"),
        *("--n-groups", "1", "--judge", "openai:m\x1b[1m", "--judge-url", server.url),
        *("--answers", root / "answers.sqlite"),
    )
    assert "asked the model" in checked(done)
    return root


def test_labels_and_explanations(fitted: Path, quick: Any, demo_pictures: list[Path]) -> None:
    done = quick("labels", fitted / "d")
    text = checked(replace(done, out=done.out.replace("\t", " ")))
    removed, *kept = csv.DictReader(io.StringIO(done.out), delimiter="\t")
    assert removed["reason"].startswith(r"proper noun: replied 'Yes\\x1b]0;owned\\x07\\x9b")
    assert removed["lexname"] == r"noun.\x1b[1mplant"
    assert float(removed["similarity"]) < 0
    assert len(kept) >= 5
    assert "1 removed (1 proper noun" in text
    checked(quick("explain", fitted / "d", demo_pictures[0], "--top", "9"))
    done = quick("explain", fitted / "d", demo_pictures[0], "--json")
    checked(done)
    assert json.loads(done.out)["negatives"][0]["lexname"] == "noun.\x1b[1mplant"


def test_stored_answers(fitted: Path, quick: Any, tmp_path: Path) -> None:
    store = ("--answers", fitted / "answers.sqlite")
    done = quick("judge-cache", "stats", *store)
    checked(replace(done, out=done.out.replace("\t", " ")))
    assert len(done.out.splitlines()) == 2
    done = quick("judge-cache", "export", "-", *store)
    lines = checked(done).splitlines()
    (tmp_path / "a\x1b.jsonl").write_text(done.out, encoding="utf-8")
    again = ("--answers", tmp_path / "b\x1b.sqlite")
    checked(quick("judge-cache", "import", tmp_path / "a\x1b.jsonl", *again))
    assert quick("judge-cache", "export", "-", *again).out.splitlines() == lines
    assert all(r"m\u001b[1m" in json.loads(line)["judge"] for line in lines)
    official = ("--format", "official", "--judge", "m")
    checked(quick("judge-cache", "export", "-", *official, *store))
    checked(quick("judge-cache", "export", tmp_path / "o\x1b.txt", *official, *store))


def test_another_filter_and_a_sweep(
    fitted: Path, server: Server, quick: Any, tmp_path: Path, demo_pictures: list[Path]
) -> None:
    judge = ("--judge", "openai:m\x1b[1m", "--judge-url", server.url)
    judge = (*judge, "--answers", fitted / "answers.sqlite")
    checked(quick("refine", fitted / "d", "--out", tmp_path / "d\x1b[1m", *judge))
    words = (fitted / "words.tsv").read_text(encoding="utf-8")
    (tmp_path / "words.tsv").write_text(words.replace("\x1b[1mplant", "plant"), encoding="utf-8")
    name = "@od\x1b[1md [/b]"
    done = quick(
        *("sweep", "--classes", fitted / "classes.txt", "--encoder", "builtin"),
        *("--lexicon", tmp_path / "words.tsv", "--top-fraction", "1"),
        *("--n-groups", "1", "--id", demo_pictures[0], "--ood", f"{name}={demo_pictures[-1]}"),
        *("--out", tmp_path / "s.csv", *judge),
    )
    assert r"@od\x1b[1md [/b]" in checked(done)
    with (tmp_path / "s.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["ood_set"] for row in csv.DictReader(stream)] == [f"'{name}"]
    done = quick(
        *("sweep", "--classes", fitted / "classes.txt", "--encoder", "builtin"),
        *("--id", demo_pictures[0], "--ood", f"\udcff={demo_pictures[-1]}"),
    )
    assert r"The name '\udcff' is not valid Unicode" in done.failed()


@pytest.mark.parametrize("status", [400, 401])
def test_errors_of_a_server(fitted: Path, quick: Any, tmp_path: Path, status: int) -> None:
    broken = Server()
    error = {"error": {"message": f"{REPLY}[/] \x9b", "type": "\x1b[1m"}}
    broken.behave = lambda handler, *_: handler.send(status, error) or True
    done = quick(
        *("refine", fitted / "d", "--out", tmp_path / "d", "--judge", "openai:m"),
        *("--judge-url", broken.url, "--answers", tmp_path / "a.sqlite"),
    )
    broken.close()
    assert r"\x1b]0;owned" in checked(done, 1)
