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

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negrefine import metrics
from negrefine.benchmarks.bundled import demo_class_names, demo_images
from negrefine.detectors.loading import load_detector
from negrefine.encoders import CLIPEncoder
from negrefine.errors import InputError
from negrefine.evaluation.experiment import ImageFolder, evaluate
from negrefine.evaluation.results import Evaluation
from negrefine.labels.lexicon import Lexicon
from negrefine.report.curves import (
    class_aurocs,
    group_aurocs,
    mean_rank,
    operating_point,
    roc_points,
)

pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from negrefine.report.page import write_report

HOSTILE = 'food"><script>alert(1)</script><img src=x>'
scores = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=30).map(np.array)


@settings(max_examples=100, deadline=None)
@given(inside=scores, outside=scores)
def test_figures_show_what_the_metrics_measure(inside: np.ndarray, outside: np.ndarray) -> None:
    assert operating_point(inside, outside).fpr == metrics.fpr95(inside, outside)
    fpr, tpr = roc_points(inside, outside)
    assert np.trapezoid(tpr, fpr) == pytest.approx(metrics.auroc(inside, outside))
    ranks = mean_rank(inside, np.sort(outside))
    assert ranks.mean() == pytest.approx(metrics.auroc(inside, outside))


@settings(max_examples=50, deadline=None)
@given(inside=scores, outside=scores, data=st.data())
def test_parts_are_measured_one_by_one(
    inside: np.ndarray, outside: np.ndarray, data: st.DataObject
) -> None:
    part = st.lists(st.integers(0, 2), min_size=len(inside), max_size=len(inside))
    labels = np.array(data.draw(part), dtype=np.int64)
    by_class = class_aurocs(inside, labels, outside)
    by_group = group_aurocs(outside, inside, labels)
    for i in range(int(labels.max()) + 1):
        some = inside[labels == i]
        if not len(some):
            assert np.isnan(by_class[i])
            continue
        assert by_class[i] == pytest.approx(metrics.auroc(some, outside))
        assert by_group[i] == pytest.approx(metrics.auroc(outside, some))


def test_a_thinned_curve_stays_near_the_whole_one() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1, 1, 4000), rng.normal(0, 1, 3000)
    fpr, tpr = roc_points(inside, outside)
    assert len(fpr) <= 500
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(tpr, fpr) == pytest.approx(metrics.auroc(inside, outside), abs=2e-3)


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
def evaluation(
    tmp_path_factory: pytest.TempPathFactory,
    builtin_encoder: CLIPEncoder,
    small_lexicon: Lexicon,
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
    mining = {"lexicon": small_lexicon, "lexicon_files": "full", "n_groups": 5}
    folders = ["sweet", "savoury"] * 10
    return evaluate(
        out,
        names,
        ImageFolder("animals", [*sets["animals"], broken], [*labels, -1]),
        [
            ImageFolder(HOSTILE, sets["food"][:20], None, folders),
            ImageFolder("plants", sets["plants"][:12]),
        ],
        encoder=builtin_encoder,
        methods=("mcm", "csp", "negrefine"),
        parameters={"csp": mining, "negrefine": mining},
        seeds=(0, 1),
        ablation=True,
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
