"""`negrefine demo` from start to end."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.workspace import Workspace
from commands import run
from negrefine import load_detector
from negrefine.evaluation.results import load_evaluation


def test_demo_says_what_is_wrong_before_it_works(quick: Any, work: Workspace) -> None:
    assert "cannot be written to" in quick("demo", "--out", work.classes).failed()


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    done = run("demo", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert "\x1b" not in done.out
    methods = [
        "MCM",
        "no filter, no S_MM",
        "no filter + S_MM",
        "NegFilter, no S_MM",
        "NegFilter + S_MM",
    ]
    for method in methods:
        assert method in done.out
    assert "no evidence for or against any method" in done.out
    results = tmp_path / "demo-results"
    rows = json.loads((results / "results.json").read_text(encoding="utf-8"))["results"]
    methods[0] = "mcm"
    assert list(dict.fromkeys(row["method"] for row in rows)) == methods
    sets = ["food", "vehicles", "objects", "plants", "mean"]
    assert [row["ood_set"] for row in rows[:5]] == sets
    for row in rows:
        assert 0.5 < row["auroc"]["value"] <= 1
        assert 0 <= row["fpr95"]["value"] <= 1
    with (results / "results.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [float(row["auroc"]) for row in table] == pytest.approx(
        [row["auroc"]["value"] for row in rows]
    )
    evaluation = load_evaluation(results)
    assert [scores.name for scores in evaluation.sets] == ["ID", *sets[:4]]
    assert all(
        np.isfinite(scores.scores[method][0]).all()
        for scores in evaluation.sets
        for method in methods
    )
    content = json.loads((results / "examples.json").read_text(encoding="utf-8"))
    assert "no evidence for or against any method" in content["caveat"]
    assert len(content["examples"]) >= 5
    assert load_detector(results / "detector").offset_ is not None
