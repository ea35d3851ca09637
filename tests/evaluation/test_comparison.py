"""Results files of different origin in one table."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from negrefine.errors import InputError
from negrefine.evaluation.comparison import Comparison, compare, rich_table
from negrefine.evaluation.results import Evaluation
from negrefine.evaluation.submission import read_submission
from negrefine.evaluation.tables import write_tables

Content = dict[str, Any]


@pytest.fixture(scope="module")
def first(run: Callable[..., Evaluation], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation."""
    out = tmp_path_factory.mktemp("first")
    write_tables(run(out, ("mcm", "csp"), title="ours"))
    return out


@pytest.fixture
def other(first: Path, tmp_path: Path) -> Callable[..., Comparison]:
    """Compares the evaluation with a changed copy of its results."""

    def other(change: Callable[[Content], object]) -> Comparison:
        content = json.loads((first / "results.json").read_text(encoding="utf-8"))
        changed = deepcopy(content) | {"title": "theirs"}
        change(changed)
        (tmp_path / "results.json").write_text(json.dumps(changed), encoding="utf-8")
        return compare([first, tmp_path / "results.json"])

    return other


def signs(comparison: Comparison, file: int) -> dict[tuple[str, str], set[str]]:
    """Return the marks of the cells of a file by set and metric."""
    found: dict[tuple[str, str], set[str]] = {}
    for row in comparison.rows:
        if row.file == file:
            for name, (auroc, fpr95) in row.cells.items():
                found.setdefault((name, "auroc"), set()).add(auroc.signs)
                found.setdefault((name, "fpr95"), set()).add(fpr95.signs)
    return found


def test_alike_files_have_no_marks_and_share_the_best(other: Callable[..., Comparison]) -> None:
    def raise_csp(content: Content) -> None:
        for row in content["results"]:
            if (row["method"], row["ood_set"]) == ("csp", "food"):
                row["auroc"] = {"value": 0.99996, "low": None, "high": None, "std": None}

    found = other(raise_csp)
    assert not found.marks
    assert found.labels == ["ours", "theirs"]
    assert found.sets == ["food", "vehicles", "mean"]
    best = {(row.file, row.method) for row in found.rows if row.cells["food"][0].cell.is_best}
    assert best == {(1, "csp")}
    for row in found.rows:
        if row.file == 0:
            same = next(r for r in found.rows if (r.file, r.method) == (1, row.method))
            assert row.cells["vehicles"] == same.cells["vehicles"]


def test_other_images_of_a_set_are_marked_there_and_in_the_mean(
    other: Callable[..., Comparison],
) -> None:
    def other_food(content: Content) -> None:
        content["provenance"]["sets"][1] |= {"images": "0" * 64, "n_images": 9, "n_readable": 9}

    found = other(other_food)
    (mark,) = found.marks
    assert mark.text.startswith("The images of food in theirs are not those in ours (9 and ")
    marked = signs(found, 1)
    assert {key for key, each in marked.items() if each == {"[1]"}} == {
        (name, metric) for name in ("food", "mean") for metric in ("auroc", "fpr95")
    }
    assert set.union(*signs(found, 0).values()) == {""}
    terminal = io.StringIO()
    Console(width=80, file=terminal).print(rich_table(found))
    assert terminal.getvalue().count("[1]") == 2 * 2 * 2
    # A number that cannot be compared is never the best.
    assert not any(r.cells["food"][0].cell.is_best for r in found.rows if r.file == 1)


@pytest.mark.parametrize(
    ("change", "sentence", "cells"),
    [
        (
            lambda c: c["provenance"]["sets"][0].update(images="0" * 64),
            "theirs was measured on other ID images than ours",
            6,
        ),
        (lambda c: c["provenance"].update(class_names="0" * 64), "other class names", 6),
        (
            lambda c: c["conventions"].update(fpr95="ood-positive"),
            "FPR95 of theirs is OOD positive, and that of ours is in-distribution positive",
            3,
        ),
        (
            lambda c: c["provenance"]["sets"][2].update(
                n_readable=c["provenance"]["sets"][2]["n_readable"] - 1
            ),
            "theirs could read",
            4,
        ),
        (
            lambda c: (
                c["provenance"]["sets"][2].update(name="boats"),
                [r.update(ood_set="boats") for r in c["results"] if r["ood_set"] == "vehicles"],
            ),
            "over other OOD sets than that of ours (one of the two lacks boats, vehicles)",
            2,
        ),
    ],
)
def test_everything_unlike_is_said(
    other: Callable[..., Comparison],
    change: Callable[[Content], object],
    sentence: str,
    cells: int,
) -> None:
    found = other(change)
    (mark,) = found.marks
    assert sentence in mark.text
    assert sum(each == {"[1]"} for each in signs(found, 1).values()) == cells
    rows = found.as_dict()["rows"]
    assert sum(bool(row[m]["marks"]) for row in rows for m in ("auroc", "fpr95")) == 2 * cells


def test_another_encoder_is_noted(other: Callable[..., Comparison]) -> None:
    def change(content: Content) -> None:
        content["settings"]["encoder"] |= {"name": "clip", "fingerprint": "abc"}

    found = other(change)
    assert not found.marks
    assert found.notes[0].endswith("; clip in theirs.")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda c: c.pop("format"), "older version and does not say what"),
        (lambda c: c.update(format=2), "another version"),
        (lambda c: c.update(provenance=None), "does not say what it was measured on"),
        (lambda c: c.pop("provenance"), "does not say what it was measured on"),
        (lambda c: c.pop("results"), "results are not a list"),
        (lambda c: c["results"][0]["auroc"].update(std=-1.0), "no fraction from 0 to 1"),
        (lambda c: c["provenance"]["sets"][0].update(name="x" * 301), "more than 300 characters"),
        (lambda c: c.update(conventions="x" * 1000), r"'x+… \(702 more letters\)"),
        (lambda c: c["provenance"].update(class_names="abc"), "no SHA-256"),
        (lambda c: c["provenance"]["sets"][0].update(n_readable=0), "impossible number"),
        (lambda c: c["conventions"].update(fpr95="mine"), "must be one of id-positive"),
        (lambda c: c["results"].pop(), "not one for each OOD set and the mean"),
        (lambda c: c["results"][0]["auroc"].update(value=95.1), "no fraction from 0 to 1"),
        (lambda c: c["results"][0].update(method=["x"]), "'method' of a row is"),
        (lambda c: c["settings"].update(seeds="0"), "seeds are not a list"),
        (lambda c: c["settings"]["encoder"].update(name="x" * 301), "more than 300 characters"),
        (lambda c: c.update(results=[]), "list of 1 to"),
        (lambda c: c.update(titles={"csp": 3}), "title is not a text"),
    ],
)
def test_a_file_that_is_not_what_it_must_be_is_refused(
    other: Callable[..., Comparison], change: Callable[[Content], object], match: str
) -> None:
    with pytest.raises(InputError, match=match):
        other(change)


def test_what_is_no_file_of_ours_is_refused(first: Path, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.json"):
        with pytest.raises(InputError, match="is no results file"):
            read_submission(path)
    os.mkfifo(tmp_path / "results.json")
    with pytest.raises(InputError, match="named pipe"):
        read_submission(tmp_path)
    with pytest.raises(InputError, match="two or more results files"):
        compare([first])
    with pytest.raises(InputError, match="given twice"):
        compare([first, first / "results.json"])
