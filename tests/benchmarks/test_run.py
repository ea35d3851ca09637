"""Running benchmarks, and the commands for them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result as Invoked
from typer.testing import CliRunner

from negrefine import MCM, Lexicon, load_encoder, metrics
from negrefine.benchmarks import class_list, list_benchmarks, list_sets
from negrefine.benchmarks.bundled import demo_class_names, demo_images
from negrefine.benchmarks.catalogue import wordnet_ids
from negrefine.benchmarks.run import group_means
from negrefine.cli.app import app
from negrefine.errors import InputError
from negrefine.evaluation.results import Evaluation, SetScores


def scores_of(name: str, scores: list[float], groups: list[str]) -> SetScores:
    """An image set with scores of NegRefine; images without a score are unreadable."""
    n = len(scores)
    return SetScores(
        name=name,
        paths=[f"{i}.png" for i in range(n)],
        labels=np.full(n, -1),
        predictions=np.zeros(n, dtype=np.int64),
        errors=["broken" if np.isnan(score) else None for score in scores],
        groups=groups,
        scores={"negrefine": {0: np.array(scores)}},
    )


def test_group_means_weight_classes_equally() -> None:
    nan = float("nan")
    known = [0.9, 0.8, 0.7, 0.6]
    # Class "a" (three images) is detected perfectly, class "b" (one image) by half.
    ood = [0.1, 0.1, 0.1, 0.75, nan, nan]
    id_set = scores_of("ID", [*known, nan], [""] * 5)
    ninco = scores_of("NINCO", ood, ["a", "a", "a", "b", "b", "c"])
    evaluation = Evaluation(Path(), "", ["a"], ["negrefine"], id_set, [ninco], [], [], None, {}, {})
    (row,) = group_means(evaluation, "NINCO")
    assert row.n_groups == 2
    assert row.auroc == pytest.approx((1 + 0.5) / 2)
    expected = np.mean([metrics.fpr95(known, [0.1] * 3), metrics.fpr95(known, [0.75])])
    assert row.fpr95 == pytest.approx(expected)
    with pytest.raises(InputError, match="it has NINCO"):
        group_means(evaluation, "SUN")


# The commands


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few drawings in folders with the layouts of the real data sets."""
    top = tmp_path_factory.mktemp("data")
    pictures: dict[str, list[Path]] = {}
    for image in demo_images():
        pictures.setdefault(image.set_name, []).append(image.path)

    def put(files: Iterable[Path], folder: str) -> None:
        (top / folder).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, top / folder)

    ids = wordnet_ids("imagenet-1k") or []
    for i in range(6):
        put(pictures["animals"][3 * i : 3 * i + 3], f"ImageNet/val/{ids[40 * i]}")
    put(pictures["plants"][:6], "iNaturalist/images")
    put(pictures["vehicles"][:6], "openimage_o/images")
    put(pictures["objects"][:6], "NINCO/NINCO_popular_datasets_subsamples/places")
    put(pictures["objects"][6:10], "SUN/images")
    for i in range(3):
        put(pictures["food"][4 * i : 4 * i + 2 + i], f"NINCO/NINCO_OOD_classes/class_{i}")
    return top


@pytest.fixture(scope="module")
def words_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough words of WordNet for a hundred groups."""
    entries = Lexicon.wordnet(min_frequency=1).entries
    nouns = [e for e in entries if e.lexname == "noun.artifact"][:700]
    adjectives = [e for e in entries if e.pos == "adj"][:100]
    file = tmp_path_factory.mktemp("words") / "words.tsv"
    rows = [f"{e.word}\t{e.lexname}\t{e.pos}" for e in [*nouns, *adjectives]]
    file.write_text("\n".join(["word\tlexname\tpos", *rows]) + "\n", encoding="utf-8")
    return file


def negrefine(*arguments: str | Path) -> Invoked:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_list_shows_every_benchmark_and_marks_contaminated_sets() -> None:
    content = json.loads(negrefine("benchmark", "list", "--json").stdout)
    assert [entry["name"] for entry in content["benchmarks"]] == list_benchmarks()
    assert {entry["name"] for entry in content["sets"]} == set(list_sets())
    shown = negrefine("benchmark", "list").stdout
    assert all(name in shown for name in list_benchmarks())
    assert "places*" in shown


def test_check_exits_with_1_and_says_what_to_do(root: Path) -> None:
    result = negrefine("benchmark", "check", "imagenet-1k", "--data", root)
    assert result.exit_code == 1
    assert "has 18 images instead of 50,000" in result.stdout
    assert "zenodo.org/record/8013288" in result.stdout
    result = negrefine("benchmark", "check", "demo", "--json")
    assert result.exit_code == 0
    assert [entry["status"] for entry in json.loads(result.stdout)] == ["ok"] * 5
    result = negrefine(
        "benchmark", "check", "demo", "--ood", "sun,places", "--data", root, "--json"
    )
    assert result.exit_code == 1
    states = {entry["set_name"]: entry["status"] for entry in json.loads(result.stdout)}
    assert states == {"demo-animals": "ok", "sun": "incomplete", "places": "missing"}


def test_check_loads_no_model() -> None:
    code = (
        "import sys; sys.argv = ['negrefine', 'benchmark', 'check', 'demo']\n"
        "from negrefine.cli.app import app\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


def test_incomplete_images_stop_a_run_before_a_model_is_loaded(root: Path, tmp_path: Path) -> None:
    for command in (("benchmark", "run", "imagenet-1k"), ("reproduce",)):
        result = negrefine(
            *command, "--data", root, "--encoder", tmp_path / "no-model", "--out", tmp_path / "out"
        )
        assert isinstance(result.exception, InputError)
        assert "--allow-incomplete" in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:2 class names occur more than once")
def test_run_on_folders_like_the_real_ones(root: Path, words_file: Path, tmp_path: Path) -> None:
    result = negrefine(
        *("benchmark", "run", "imagenet-1k", "--data", root, "--out", tmp_path / "out"),
        *("--encoder", "builtin", "--device", "cpu", "--lexicon", words_file),
        *("--methods", "mcm,csp", "--bootstrap", "0", "--allow-incomplete"),
    )
    assert result.exit_code == 0, result.output
    assert "Not comparable with published numbers: ImageNet-1K" in result.output
    content = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert content["benchmark"] == "imagenet-1k"
    assert len(content["warnings"]) == 5
    assert [s["found"] for s in content["sets"]] == [18, 6, 6, 6, 9]
    rows = {row["method"]: row for row in content["group_means"]}
    assert set(rows) == {"mcm", "csp"}

    # The same numbers, computed directly.
    encoder = load_encoder("builtin", device="cpu")
    names = class_list("imagenet-1k")
    detector = MCM(encoder).fit(names)
    id_scores = detector.score_samples(sorted((root / "ImageNet").rglob("*.png")))
    aurocs = [
        metrics.auroc(id_scores, detector.score_samples(sorted(folder.glob("*.png"))))
        for folder in sorted((root / "NINCO" / "NINCO_OOD_classes").iterdir())
    ]
    assert rows["mcm"]["ood_set"] == "NINCO"
    assert rows["mcm"]["n_groups"] == 3
    assert rows["mcm"]["auroc"] == pytest.approx(np.mean(aurocs), abs=1e-9)


_WRITTEN = (
    *("report.html", "benchmark.json"),
    *(f"results.{suffix}" for suffix in ("csv", "json", "md", "tex")),
)


def test_run_the_demo_with_other_class_names(words_file: Path, tmp_path: Path) -> None:
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(f"{name} drawing" for name in demo_class_names()))
    options = ("--encoder", "builtin", "--device", "cpu", "--methods", "mcm", "--bootstrap", "0")
    result = negrefine(
        *("benchmark", "run", "demo", "--out", tmp_path / "out", *options),
        *("--classes", classes, "--ood", "demo-food"),
    )
    assert result.exit_code == 0, result.output
    assert "Not comparable" not in result.output
    again = ("benchmark", "run", "demo", "--out", tmp_path / "out", *options, "--ood", "demo-food")
    again = (*again, "--classes", classes)
    for name in _WRITTEN:
        written = (tmp_path / "out" / name).read_text()
        (tmp_path / "out" / name).write_text("my own notes")
        result = negrefine(*again)
        assert isinstance(result.exception, InputError), name
        assert f"{name}' exists and is not what negrefine writes there" in str(result.exception)
        assert (tmp_path / "out" / name).read_text() == "my own notes"
        (tmp_path / "out" / name).write_text(written)
    assert negrefine(*again).exit_code == 0
    classes.write_text("cat\ndog\n")
    result = negrefine(
        *("benchmark", "run", "demo", "--out", tmp_path / "out", *options, "--classes", classes)
    )
    assert isinstance(result.exception, InputError)
    assert "demo has 25 classes, but 2 names were given" in str(result.exception)


@pytest.mark.filterwarnings("ignore:2 class names occur more than once")
def test_reproduce_on_folders_like_the_real_ones(
    root: Path, words_file: Path, tmp_path: Path
) -> None:
    result = negrefine(
        *("reproduce", "--data", root, "--out", tmp_path / "out", "--encoder", "builtin"),
        *("--device", "cpu", "--lexicon", words_file, "--methods", "mcm,csp,negrefine"),
        *("--bootstrap", "0", "--allow-incomplete"),
    )
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "reproduce.json").read_text())
    assert content["comparable"] is False
    assert any("the encoder is builtin" in warning for warning in content["warnings"])
    assert any("words of the published files" in warning for warning in content["warnings"])
    cells = {(c["table"], c["method"], c["ood_set"], c["metric"]): c for c in content["cells"]}
    assert len(cells) == 36 + 8 + 14
    measured = {key for key, cell in cells.items() if cell["measured"] is not None}
    assert {key[1] for key in measured if key[0] == "main"} == {"mcm", "csp", "negrefine"}
    # SUN is there and counts for seed 0 alone; the means are over the four sets.
    assert ("seed0", "negrefine", "sun", "fpr95") in measured
    assert ("seed0", "negrefine", "places", "fpr95") not in measured
    four = ("inaturalist", "openimage-o", "clean", "ninco")
    for method in ("mcm", "csp", "negrefine"):
        values = [cells["main", method, name, "auroc"]["measured"] for name in four]
        mean = cells["main", method, "mean", "auroc"]
        assert mean["measured"] == pytest.approx(np.mean(values))
        assert mean["difference"] == pytest.approx(mean["measured"] - mean["published"])
    # The last row of the ablation is NegRefine.
    assert cells["ablation", "NegFilter + S_MM", "mean", "fpr95"]["measured"] == pytest.approx(
        cells["main", "negrefine", "mean", "fpr95"]["measured"]
    )
    for name in ("reproduce.json", "reproduce.md"):
        written = (tmp_path / "out" / name).read_text()
        (tmp_path / "out" / name).write_text('{"cells": "mine"}')
        refused = negrefine(
            *("reproduce", "--data", root, "--out", tmp_path / "out", "--allow-incomplete"),
            *("--encoder", tmp_path / "none", "--lexicon", words_file, "--methods", "negrefine"),
        )
        assert isinstance(refused.exception, InputError)
        assert f"{name}' exists and is not what negrefine writes" in str(refused.exception)
        (tmp_path / "out" / name).write_text(written)
    page = (tmp_path / "out" / "reproduce.md").read_text()
    assert page.index("Not comparable") < page.index("Main table")
    assert "CLIPN needs its own weights" in result.stdout


PETS = ("--classes", "pets")
MCM_ONLY = ("--methods", "mcm", "--encoder", "builtin", "--out", "x")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("reproduce", "--only", "table7", "--out", "x"), "main, ablation, seed0"),
        (("reproduce", "--methods", "mcm", "--out", "x"), "add negrefine"),
        (("reproduce", "--seeds", "9-0", "--out", "x"), "smaller one first"),
        (("reproduce", "--seeds", "a", "--out", "x"), "whole numbers"),
        (
            ("benchmark", "run", "demo", *MCM_ONLY, "--seeds", "0-3"),
            "--seeds has no effect on the method 'mcm', which draws",
        ),
        (("benchmark", "check", "demo", "--folder", "sun"), "SET=DIR"),
        (("benchmark", "check", "dmo"), "did you mean demo"),
        (
            ("benchmark", "run", "demo", *MCM_ONLY, "--judge", "none"),
            "--judge has no effect on the method 'mcm'",
        ),
        (
            ("benchmark", "run", "demo", *MCM_ONLY, "--min-frequency", "1"),
            "--min-frequency has no effect on the method 'mcm'",
        ),
        (
            ("benchmark", "run", "pets", "--names", "official", "--encoder", "x", "--out", "x"),
            "spelling",
        ),
        (
            ("benchmark", "run", "demo", *MCM_ONLY, "--seeds", "0-9"),
            "--seeds has no effect on the method 'mcm', which draws nothing",
        ),
        (
            ("benchmark", "check", "demo", "--data", "."),
            "'.' has no effect: all image sets",
        ),
        (
            ("benchmark", "check", "demo", "--folder", "demo-food=."),
            "The images of 'demo-food' come with negrefine",
        ),
        (
            ("benchmark", "run", "demo", *MCM_ONLY, "--underscores-as-spaces"),
            "--underscores-as-spaces has no effect without --classes",
        ),
        (
            ("benchmark", "run", "demo", *MCM_ONLY, "--classes", "imagenet-10"),
            "demo has 25 classes, but 10 names were given",
        ),
        (
            (*("benchmark", "run", "demo", *MCM_ONLY), "--underscores-as-spaces", *PETS),
            "no effect on the list 'pets', whose names are written with spaces",
        ),
    ],
)
def test_wrong_usage_is_reported_in_a_sentence(arguments: tuple[str, ...], message: str) -> None:
    result = negrefine(*arguments)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
