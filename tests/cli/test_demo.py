"""`negrefine demo` from start to end."""

from __future__ import annotations

import csv
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from browser import chromium
from browser import opened as opened_page
from cli.workspace import Workspace
from commands import Done, run
from negrefine import load_detector
from negrefine.benchmarks.bundled import demo_images
from negrefine.demo.reading import NAMES
from negrefine.evaluation.results import load_evaluation


def test_demo_says_what_is_wrong_before_it_works(quick: Any, work: Workspace) -> None:
    assert "cannot be written to" in quick("demo", "--out", work.classes).failed()


OPEN = "import sys; from pathlib import Path; from negrefine.cli.opening import open_page; "
OPEN += "sys.exit(0 if open_page(Path(sys.argv[1])) else 7)"


def opened(folder: Path, *, on_terminal: bool = True, **environment: str) -> tuple[int, str]:
    """Return the exit code (7: nothing was opened) and what a recording browser was given."""
    record = folder / "record"
    record.unlink(missing_ok=True)
    browser = folder / "browser.sh"
    browser.write_text(f'#!/bin/sh\necho "$1" > {record}\n', encoding="utf-8")
    browser.chmod(0o755)
    plain = {k: v for k, v in os.environ.items() if k not in {"CI", "DISPLAY", "WAYLAND_DISPLAY"}}
    outer, inner = pty.openpty()
    stream = inner if on_terminal else subprocess.PIPE
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(folder / "a page.html")],
        env={**plain, "BROWSER": f"{browser} %s", **environment},
        stdin=inner,
        stdout=stream,
        timeout=60,
        check=False,
    )
    os.close(inner)
    os.close(outer)
    return done.returncode, record.read_text(encoding="utf-8").strip() if record.exists() else ""


def test_the_page_is_opened_on_a_terminal_with_a_browser_and_nowhere_else(tmp_path: Path) -> None:
    assert opened(tmp_path) == (0, (tmp_path / "a page.html").as_uri())
    assert opened(tmp_path, CI="true") == (7, "")
    assert opened(tmp_path, on_terminal=False) == (7, "")
    # No display, and no browser that was asked for.
    assert opened(tmp_path, BROWSER="") == (7, "")


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    """What the demo printed, and its folder."""
    folder = tmp_path_factory.mktemp("demo")
    return run("demo", cwd=folder), folder / "demo-results"


@pytest.mark.slow
def test_demo(shown: tuple[Done, Path]) -> None:
    done, results = shown
    assert done.code == 0, done.err
    assert "Traceback" not in done.err
    assert "\x1b" not in done.out
    # What it costs before it starts, and a line for each stage.
    first, costs, *_ = done.err.splitlines()
    assert "25 animals" in first
    assert costs.startswith("Nothing is downloaded")
    assert [line[:2] for line in done.err.splitlines() if " s] " in line] == [
        f"[{i}" for i in range(1, 6)
    ]
    methods = [
        "MCM",
        "no filter, no S_MM",
        "no filter + S_MM",
        "NegFilter, no S_MM",
        "NegFilter + S_MM",
    ]
    for name in NAMES.values():
        assert name in done.out
    # The verdicts are before the ablation, which has a sentence on how to read it.
    told = " ".join(done.out.split())
    order = ["of 228 pictures that show none", "For example:", "CSP's score", "How to read it:"]
    assert [told.index(text) for text in order] == sorted(told.index(text) for text in order)
    assert told.count("within noise") + told.count("(better)") + told.count("(worse)") == 6
    assert "no evidence for or against any method" in done.out
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
    detector = load_detector(results / "detector")
    assert detector.offset_ is not None
    # The page is about the same verdicts, and its numbers are those of the evaluation.
    page = (results / "demo.html").read_text(encoding="utf-8")
    assert (results / "demo.html").as_uri() in done.out
    animals = [i for i in demo_images() if i.set_name == "animals"]
    others = [i for i in demo_images() if i not in animals]
    n_flagged = int((detector.predict([i.path for i in others]) == -1).sum())
    assert f"{n_flagged} of 228 pictures that show none of the 25 animals were flagged" in page
    n_alarms = int((detector.predict([i.path for i in animals[1::2]]) == -1).sum())
    assert f"it flagged {n_alarms};" in page
    assert page.count("<img ") == 258 + len(content["examples"])
    assert f"{100 * rows[24]['auroc']['value']:.1f}" in page


@pytest.mark.slow
def test_the_page_of_the_demo_in_a_browser(shown: tuple[Done, Path]) -> None:
    address = (shown[1] / "demo.html").as_uri()
    with chromium() as browser:
        for width, dark in ((1280, False), (390, True)):
            with opened_page(browser, address, width=width, dark=dark) as found:
                assert found.problems == []
                assert found.overflow() == 0
                assert all(each == address or each.startswith("data:") for each in found.requests)
                loaded = "[...document.images].every(i => i.complete && i.naturalWidth === 144)"
                assert found.page.evaluate(loaded)
                assert found.page.locator("h2").first.inner_text().startswith("A few verdicts")
