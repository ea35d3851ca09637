"""The HTML report: self-contained, says what was measured, and renders in a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negrefine import CSP, MCM, Detector, NegRefine
from negrefine.benchmarks.bundled import demo_class_names, demo_images
from negrefine.detectors.loading import load_detector
from negrefine.encoders import CLIPEncoder
from negrefine.errors import InputError
from negrefine.evaluation.ablation import ablation_of
from negrefine.evaluation.experiment import evaluate
from negrefine.evaluation.images import ImageSet
from negrefine.evaluation.results import Evaluation
from negrefine.labels.lexicon import Lexicon

pytest.importorskip("jinja2")

from negrefine.report.content import main_method
from negrefine.report.page import write_report

HOSTILE = 'food"><script>alert(1)</script><img src=x>'


class Page(HTMLParser):
    """Elements with their attributes, and all text outside of style sheets."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._style = False
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._style = tag == "style"

    def handle_data(self, data: str) -> None:
        if not self._style:
            self.words.append(data)

    def all(self, name: str) -> list[str]:
        return [a[name] or "" for _, a in self.elements if name in a]


@pytest.fixture(scope="module")
def detectors(builtin_encoder: CLIPEncoder, small_lexicon: Lexicon) -> dict[str, Detector]:
    """Three methods fitted on the names of animals."""
    mining: dict[str, Any] = {"lexicon": small_lexicon, "lexicon_files": "full", "n_groups": 5}
    unfitted = (
        MCM(builtin_encoder),
        CSP(builtin_encoder, **mining),
        NegRefine(builtin_encoder, **mining),
    )
    return {detector.method: detector.fit(demo_class_names()) for detector in unfitted}


@pytest.fixture(scope="module")
def evaluation(
    tmp_path_factory: pytest.TempPathFactory, detectors: dict[str, Detector]
) -> Evaluation:
    """Animals against two sets, one with a name that wants to be markup, one image broken."""
    out = tmp_path_factory.mktemp("evaluation")
    broken = out.parent / f"{out.name}-broken.png"
    broken.write_bytes(b"nothing")
    names = demo_class_names()
    sets: dict[str, list[Path]] = {}
    labels = []
    for picture in demo_images():
        sets.setdefault(picture.set_name, []).append(picture.path)
        if picture.class_name is not None:
            labels.append(names.index(picture.class_name))
    folders = ["sweet", "savoury"] * 10
    refine = detectors["negrefine"]
    assert isinstance(refine, NegRefine)
    return evaluate(
        detectors,
        ImageSet("animals", [*sets["animals"], broken], [*labels, -1]),
        [
            ImageSet(HOSTILE, sets["food"][:20], None, folders),
            ImageSet("plants", sets["plants"][:12]),
        ],
        out=out,
        seeds=(0, 1),
        ablation=ablation_of(refine),
        n_bootstrap=20,
        title="Animals & <others>",
        notes=["Drawings only."],
    )


@pytest.fixture(scope="module")
def report(
    evaluation: Evaluation,
    builtin_encoder: CLIPEncoder,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    target = tmp_path_factory.mktemp("report") / "report.html"
    return write_report(evaluation, target, encoder=builtin_encoder)


def test_says_what_was_measured(evaluation: Evaluation, report: Path) -> None:
    text = Page(report).text
    for row in (*evaluation.results, *evaluation.ablation):
        for metric in (row.auroc, row.fpr95, row.aupr_in, row.aupr_out):
            assert f"{100 * metric.value:.2f}" in text
    best = max((r for r in evaluation.results if r.ood_set == "mean"), key=lambda r: r.auroc.value)
    shown = {"mcm": "MCM", "csp": "CSP", "negrefine": "NegRefine"}[best.method]
    assert f"{shown} has the highest mean AUROC over 2 OOD sets" in text
    assert "Animals & <others>" in text
    assert "Drawings only." in text
    assert "1 image could not be read" in text
    for name, value in evaluation.settings["versions"].items():
        assert f"versions.{name} {value}" in text
    assert {"savoury", "sweet"} <= set(text.split())


def test_shows_the_most_confident_mistakes(evaluation: Evaluation, report: Path) -> None:
    text = Page(report).text
    ood = text[text.index("OOD images with the highest scores") :]
    ood, inside = ood.split("ID images with the lowest scores")
    every = [
        (one.scores["negrefine"][0][i], Path(path).name)
        for one in evaluation.ood_sets
        for i, path in enumerate(one.paths)
    ]
    top = [name for _, name in sorted(every, reverse=True)[:12]]
    places = [ood.index(name) for name in top]
    assert places == sorted(places)
    lowest = evaluation.id_set.paths[int(np.nanargmin(evaluation.id_set.scores["negrefine"][0]))]
    own = {Path(path).name for path in evaluation.id_set.paths}
    names = [word for word in inside.split() if word in own]
    assert len(names) >= 12
    assert names[0] == Path(lowest).name
    assert "Closest class" in ood
    assert "adds" in ood


def test_loads_nothing_and_names_everything(report: Path) -> None:
    page = Page(report)
    assert not [tag for tag, _ in page.elements if tag in ("script", "link", "iframe")][1:]
    for value in page.all("src"):
        assert value.startswith("data:image/")
    ids = page.all("id")
    assert max(Counter(ids).values()) == 1
    for value in page.all("href"):
        assert value == "data:," or value.removeprefix("#") in ids
    for value in page.all("aria-labelledby"):
        assert set(value.split()) <= set(ids)
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert len(images) == 24
    assert all(attributes["alt"] for attributes in images)
    assert not page.all("style")
    assert "onerror" not in {name for _, attributes in page.elements for name in attributes}


def test_same_bytes_again(
    evaluation: Evaluation, report: Path, builtin_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    write_report(evaluation, tmp_path / "again.html", encoder=builtin_encoder)
    assert (tmp_path / "again.html").read_bytes() == report.read_bytes()


def test_detectors_at_hand_are_not_loaded(
    evaluation: Evaluation, report: Path, detectors: dict[str, Detector], tmp_path: Path
) -> None:
    again = write_report(evaluation, tmp_path / "again.html", detectors=detectors)
    # A detector from disk has forgotten the judge, which no explanation asks.
    assert Page(again).text == Page(report).text
    assert detectors["negrefine"].offset_ is None


def test_the_main_method_is_the_last_with_s_mm(evaluation: Evaluation) -> None:
    assert main_method(evaluation) == "negrefine"
    reordered = replace(evaluation, methods=["negrefine", "csp", "mcm"])
    assert main_method(reordered) == "negrefine"
    assert main_method(replace(evaluation, methods=["mcm", "csp"])) == "csp"


def test_a_detector_of_ones_own_that_cannot_be_loaded(
    evaluation: Evaluation, builtin_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    class Own(MCM):
        method = "own"

    own = {"mine": Own(builtin_encoder).fit(demo_class_names())}
    food, plants = (
        ImageSet(each.name, [Path(path) for path in each.paths]) for each in evaluation.ood_sets[:2]
    )
    found = evaluate(own, food, [plants], out=tmp_path / "out", n_bootstrap=0)
    text = Page(write_report(found, tmp_path / "a.html", encoder=builtin_encoder)).text
    assert "The mistakes are not explained: " in text
    assert "Most confident mistakes of mine" in text
    text = Page(write_report(found, tmp_path / "b.html", detectors=own)).text
    assert "not explained" not in text
    assert "Nearest class names (cosine)" in text


def test_without_encoder_or_pictures(evaluation: Evaluation, tmp_path: Path) -> None:
    page = Page(write_report(evaluation, tmp_path / "a.html", n_mistakes=0))
    assert "no encoder was given" in page.text
    assert not [tag for tag, _ in page.elements if tag == "img"]
    gone = replace(evaluation.id_set, paths=[f"/gone/{i}" for i in range(62)])
    moved = replace(evaluation, id_set=gone)
    page = Page(write_report(moved, tmp_path / "b.html", n_mistakes=2))
    assert "/gone/" in page.text, page.text
    with pytest.raises(InputError, match="n_mistakes"):
        write_report(evaluation, tmp_path / "c.html", n_mistakes=-1)


def test_lists_removed_labels_with_reasons(
    evaluation: Evaluation, builtin_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    detector = load_detector(evaluation.detectors["negrefine"], builtin_encoder)
    removed = [label for label in detector.negative_labels_ if not label.kept]
    text = Page(write_report(evaluation, tmp_path / "a.html", n_mistakes=0)).text
    for label in removed:
        assert f"{label.text} {label.lexname} {label.reason}" in text
    assert removed
    assert f"{len(removed)} removed by the filter" in text


def test_replaces_reports_only(evaluation: Evaluation, tmp_path: Path) -> None:
    target = tmp_path / "a.html"
    target.write_text("")
    first = write_report(evaluation, target, n_mistakes=0).read_bytes()
    assert write_report(evaluation, target, n_mistakes=0).read_bytes() == first
    target.write_text("<html>mine</html>")
    with pytest.raises(InputError, match=r"a\.html' exists and is not what negrefine writes"):
        write_report(evaluation, target, n_mistakes=0)
    assert target.read_text() == "<html>mine</html>"


def test_needs_its_extra(
    evaluation: Evaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(InputError, match=r"pip install 'negrefine\[report\]'"):
        write_report(evaluation, tmp_path / "a.html")


PROBE = """<!DOCTYPE html><iframe src="{url}" width="{width}" height="40000"></iframe><script>
onload = () => {{
  const page = document.querySelector("iframe").contentDocument;
  const box = (element) => element.getBoundingClientRect();
  const found = {{
    overflow: page.documentElement.scrollWidth - page.documentElement.clientWidth,
    images: [...page.images].map((image) => image.naturalWidth),
    plots: [...page.querySelectorAll("svg.plot")].map((plot) => [
      box(plot).width, box(plot).height, plot.querySelectorAll("path").length]),
    heading: page.defaultView.getComputedStyle(page.querySelector("h1")).fontWeight,
    outside: [...page.querySelectorAll("p, h1, h2, h3, figure, .cards li")].filter(
      (element) => box(element).right > {width} + 1).length,
    rows: page.querySelectorAll("tbody tr").length,
  }};
  document.body.textContent = "FOUND" + JSON.stringify(found) + "END";
}};
</script>"""


@pytest.mark.parametrize("width", [360, 1280])
def test_renders_in_a_browser(report: Path, tmp_path: Path, width: int) -> None:
    browser = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if browser is None:
        pytest.skip("no Chromium")
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.format(url=report.as_uri(), width=width), encoding="utf-8")
    done = subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"),
            *("--allow-file-access-from-files", f"--user-data-dir={tmp_path / 'profile'}"),
            *("--window-size=1400,1000", "--timeout=60000", probe.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = json.loads(done.stdout.partition("FOUND")[2].partition("END")[0])
    assert found["overflow"] == 0
    assert found["outside"] == 0
    assert found["images"].count(0) == 0
    assert len(found["images"]) == 24
    assert len(found["plots"]) == 2 + 3 * 2
    assert all(plot[0] > 200 and plot[1] > 100 and plot[2] > 3 for plot in found["plots"])
    assert found["heading"] == "700"
    assert found["rows"] > 40
