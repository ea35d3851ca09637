"""The notebook runs and shows what is stored in it; objects have HTML that obeys nobody."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from docs.conftest import DOCS
from negrefine import MCM, Detector, Monitor, NegRefine
from negrefine.detectors.explanation import Explanation, Match
from negrefine.evaluation.comparison import compare
from negrefine.evaluation.results import Evaluation
from negrefine.evaluation.tables import write_tables
from transcripts import assert_printed

RUNNER = DOCS.parent / "tools" / "site" / "run_notebook.py"
HOSTILE = "<script>alert(1)</script>\u202e&\"'"


def shown(notebook: Any) -> Iterator[str]:
    """Yield what the outputs of a notebook say, line by line, without tags and pictures."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "text" in output:
                yield from "".join(output["text"]).splitlines()
                continue
            data = output["data"]
            if "text/html" in data:
                text = re.sub(r"<[^>]*>", "\n", "".join(data["text/html"]))
                yield from filter(None, text.splitlines())
            elif "image/png" not in data:
                yield from "".join(data["text/plain"]).splitlines()


def test_the_notebook_shows_what_is_stored_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("nbclient", "ipykernel"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(DOCS.parent / "src")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    spec = importlib.util.spec_from_file_location("run_notebook", RUNNER)
    assert spec is not None
    assert spec.loader is not None
    runner = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runner)
    notebook = DOCS / "quickstart.ipynb"
    (tmp_path / "here").mkdir()
    done = runner.run(notebook, tmp_path / "here")
    stored = list(shown(json.loads(notebook.read_text(encoding="utf-8"))))
    assert len(stored) > 50
    # No path of the machine on which it was stored.
    assert "PosixPath" not in notebook.read_text(encoding="utf-8")
    assert "src/negrefine" not in notebook.read_text(encoding="utf-8")
    assert_printed(stored, shown(done))
    assert {"detector", "results"} == {path.name for path in (tmp_path / "here").iterdir()}


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", " ", html))


def test_a_detector_says_what_it_is(
    detectors: dict[str, Detector], builtin_encoder: Any, demo_pictures: list[Path]
) -> None:
    assert "Not fitted" in MCM(builtin_encoder)._repr_html_()
    refine = detectors["negrefine"].with_params()
    text = text_of(refine._repr_html_())
    assert "NegRefine" in text
    assert "7 class names" in text
    assert "dog, cat, horse" in text
    assert "none: calibrate(good_images) sets one" in text
    assert refine.negatives_ is not None
    n_removed = len(refine.negatives_.labels) - len(refine.negatives_.kept)
    assert n_removed > 1
    removed = sum(int(n) for n in re.findall(r"removed: (\d+)", text))
    assert removed == n_removed
    refine.calibrate_scores(np.linspace(1, 2, 60), fpr=0.05, delta=0.05)
    text = text_of(refine._repr_html_())
    assert "from 60 images: at most 5 % of good images are flagged, with probability 0.95" in text
    refine.offset_ = 1.5
    assert "1.5000, set by hand: it promises nothing" in text_of(refine._repr_html_())


def test_an_explanation_shows_verdict_bars_and_what_decided(
    detectors: dict[str, Detector], demo_pictures: list[Path]
) -> None:
    refine = detectors["negrefine"].with_params()
    refine.calibrate(demo_pictures[:7], fpr=0.2)
    explanation = refine.explain(demo_pictures[-1], top=3)
    html = explanation._repr_html_()
    text = text_of(html)
    assert explanation.headline() in text
    assert f"score {explanation.score:.4f}" in text
    for match in [*explanation.classes, *explanation.negatives]:
        assert match.text in text
        assert f"{match.similarity:.3f}" in text
    widths = [float(width) for width in re.findall(r"width:([\d.]+)%", html)]
    assert len(widths) == 6
    assert max(widths) == 100
    mcm = MCM(refine.encoder).fit(["cat", "dog"]).explain(demo_pictures[0])
    assert "No verdict" in text_of(mcm._repr_html_())


def test_an_evaluation_shows_its_table(run: Callable[..., Evaluation], tmp_path: Path) -> None:
    evaluation = run(tmp_path / "out", ("mcm", "neglabel"))
    text = text_of(evaluation._repr_html_())
    for result in evaluation.results:
        assert f"{100 * result.auroc.value:.2f}" in text
    assert "1 more could not be read" in text
    assert "in-distribution positive" in text
    assert "mean" in text

    write_tables(evaluation)
    changed = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    changed["title"] = HOSTILE
    changed["provenance"]["class_names"] = "0" * 64
    (tmp_path / "results.json").write_text(json.dumps(changed), encoding="utf-8")
    comparison = compare([tmp_path / "out", tmp_path / "results.json"])
    html = comparison._repr_html_()
    assert "<script" not in html
    assert len(comparison.marks) >= 1
    assert all(f"[{mark.number}] {mark.text[:20]}" in text_of(html) for mark in comparison.marks)
    value = f"{100 * evaluation.results[0].auroc.value:.2f}"
    assert len(re.findall(rf"{re.escape(value)}\s*(?:\[1\])?", text_of(html))) >= 2


def test_a_monitor_shows_its_verdict(detectors: dict[str, Detector]) -> None:
    detector = detectors["mcm"].with_params()
    detector.calibrate_scores(np.linspace(0.1, 0.2, 99), fpr=0.1)
    monitor = Monitor.of(detector)
    assert "No alarm after 0 images" in text_of(monitor.status()._repr_html_())
    monitor.update([0.01] * 50)
    assert "ALARM after 50 images" in text_of(monitor.status()._repr_html_())


def test_names_of_others_are_not_obeyed(builtin_encoder: Any, tmp_path: Path) -> None:
    detector = NegRefine(builtin_encoder)
    detector.class_names_ = [HOSTILE, "x" * 5000]
    explanation = Explanation(1.0, {HOSTILE: 1.0}, None, None, [Match(HOSTILE, -0.1)])
    for html in (detector._repr_html_(), explanation._repr_html_()):
        assert "<script" not in html
        assert "\u202e" not in html
        assert r"\u202e&amp;" in html
        assert len(html) < 6000
    assert "4,700 more letters" in detector._repr_html_()
