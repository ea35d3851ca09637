"""`evaluate`: one pass over the images, numbers as `metrics` gives them, resumable."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from negrefine import MCM, NegLabel, metrics
from negrefine.benchmarks.bundled import demo_class_names, demo_images
from negrefine.encoders import CLIPEncoder
from negrefine.errors import InputError
from negrefine.evaluation.bootstrap import metrics_of_scores, resampled_metrics
from negrefine.evaluation.experiment import ImageFolder, evaluate, image_folder
from negrefine.evaluation.result_files import load_evaluation
from negrefine.evaluation.results import Evaluation
from negrefine.evaluation.tables import write_tables
from negrefine.labels.lexicon import Lexicon

scores = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=25).map(np.array)


@settings(max_examples=200, deadline=None)
@given(inside=scores, outside=scores)
def test_counted_metrics_are_the_metrics(inside: np.ndarray, outside: np.ndarray) -> None:
    expected = [
        metrics.auroc(inside, outside),
        metrics.fpr95(inside, outside),
        metrics.aupr_in(inside, outside),
        metrics.aupr_out(inside, outside),
    ]
    np.testing.assert_allclose(metrics_of_scores(inside, outside), expected, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(inside=scores, outside=scores, seed=st.integers(0, 99))
def test_resamples_are_those_of_a_plain_loop(
    inside: np.ndarray, outside: np.ndarray, seed: int
) -> None:
    found = resampled_metrics(inside, [outside, outside[:1]], 3, seed)
    for b in range(3):
        i = np.random.default_rng([seed, b, 0]).integers(0, len(inside), len(inside))
        j = np.random.default_rng([seed, b, 1]).integers(0, len(outside), len(outside))
        drawn = inside[i], outside[j]
        expected = [f(*drawn) for f in (metrics.auroc, metrics.fpr95, metrics.aupr_in)]
        np.testing.assert_allclose(found[b, 0, :3], expected, atol=1e-12)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each set of the demo, the animals in folders of their class."""
    root = tmp_path_factory.mktemp("images")
    counts: dict[str, int] = {}
    for picture in demo_images():
        counts[picture.set_name] = counts.get(picture.set_name, 0) + 1
        if counts[picture.set_name] > 16 or picture.set_name in ("objects", "plants"):
            continue
        target = root / picture.set_name / (picture.class_name or "") / picture.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture.path, target)
    (root / "animals" / "broken.png").write_bytes(b"nothing")
    (root / "classes.txt").write_text("\n".join(demo_class_names()), encoding="utf-8")
    return root


def run(
    folders: Path, out: Path, encoder: CLIPEncoder, lexicon: Lexicon, **options: object
) -> Evaluation:
    mining = {"lexicon": lexicon, "lexicon_files": "full", "n_groups": 5}
    parameters = dict.fromkeys(("neglabel", "csp", "negrefine"), mining)
    names = demo_class_names()
    return evaluate(
        out,
        names,
        image_folder("animals", folders / "animals", names),
        [image_folder(name, folders / name) for name in ("food", "vehicles")],
        encoder=encoder,
        **{"n_bootstrap": 20, "parameters": parameters, **options},  # type: ignore[arg-type]
    )


def test_numbers(
    folders: Path, tmp_path: Path, builtin_encoder: CLIPEncoder, small_lexicon: Lexicon
) -> None:
    found = run(
        folders, tmp_path / "out", builtin_encoder, small_lexicon, seeds=(0, 3), ablation=True
    )
    names = demo_class_names()
    detectors = {
        "mcm": (MCM(builtin_encoder), 0),
        "neglabel": (
            NegLabel(
                builtin_encoder, lexicon=small_lexicon, lexicon_files="full", n_groups=5, seed=3
            ),
            3,
        ),
    }
    sets = {one.name: one for one in (found.id_set, *found.ood_sets)}
    for method, (detector, seed) in detectors.items():
        detector.fit(names)
        for one in sets.values():
            paths = [Path(p) for p, ok in zip(one.paths, one.readable, strict=True) if ok]
            expected = detector.score_samples(paths)
            np.testing.assert_allclose(one.scores[method][seed][one.readable], expected, atol=1e-5)
    for row in found.results:
        if row.ood_set == "mean":
            some = [r for r in found.results if r.method == row.method and r is not row]
            assert row.auroc.value == pytest.approx(np.mean([r.auroc.value for r in some]))
            continue
        inside = [s[found.id_set.readable] for s in found.id_set.scores[row.method].values()]
        outside = list(sets[row.ood_set].scores[row.method].values())
        each = [metrics.auroc(i, o) for i, o in zip(inside, outside, strict=True)]
        assert row.auroc.value == pytest.approx(np.mean(each), abs=1e-12)
        assert row.auroc.low is not None
        assert row.auroc.high is not None
        assert 0 <= row.auroc.low <= row.auroc.high <= 1
        assert row.auroc.std == (
            None if row.method in ("mcm", "glmcm") else pytest.approx(np.std(each, ddof=1))
        )
    full = found.id_set.scores["negrefine"][0]
    np.testing.assert_allclose(found.id_set.scores["NegFilter + S_MM"][0], full, atol=1e-9)
    assert len(found.ablation) == 4 * 3
    assert found.id_set.errors.count(None) == 16
    assert found.id_set.labels[[p.endswith("broken.png") for p in found.id_set.paths]] == [-1]
    right = (found.id_set.labels == found.id_set.predictions)[found.id_set.readable]
    assert found.accuracy is not None
    assert found.accuracy.value == right.mean()
    again = load_evaluation(tmp_path / "out")
    assert again.results == found.results
    assert again.ablation == found.ablation
    np.testing.assert_array_equal(again.id_set.scores["csp"][3], found.id_set.scores["csp"][3])
    assert again.id_set.errors == found.id_set.errors


def test_tables_say_the_same(
    folders: Path, tmp_path: Path, builtin_encoder: CLIPEncoder, small_lexicon: Lexicon
) -> None:
    found = run(
        folders, tmp_path / "o", builtin_encoder, small_lexicon, methods=("mcm", "neglabel")
    )
    paths = {path.suffix: path for path in write_tables(found)}
    with paths[".csv"].open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["auroc"]) for row in rows] == [r.auroc.value for r in found.results]
    content = json.loads(paths[".json"].read_text(encoding="utf-8"))
    assert [r["fpr95"]["value"] for r in content["results"]] == [
        r.fpr95.value for r in found.results
    ]
    shown = f"{100 * found.results[0].auroc.value:.2f}"
    for suffix in (".md", ".tex"):
        assert shown in paths[suffix].read_text(encoding="utf-8")


def test_further_methods_and_seeds_encode_nothing(
    folders: Path, tmp_path: Path, builtin_encoder: CLIPEncoder, small_lexicon: Lexicon
) -> None:
    own, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(folders, own, copy_function=shutil.copy2)
    (own / "animals" / "broken.png").unlink()
    run(own, out, builtin_encoder, small_lexicon, methods=("mcm",))
    shards = sorted((out / "features").rglob("*.safetensors"))
    times = [path.stat().st_mtime_ns for path in shards]
    found = run(own, out, builtin_encoder, small_lexicon, methods=("mcm", "csp"), seeds=(0, 1))
    assert [path.stat().st_mtime_ns for path in shards] == times
    assert set(found.id_set.scores["csp"]) == {0, 1}
    changed = sorted((own / "food").iterdir())[0]
    os.utime(changed, ns=(1, 1))
    run(own, out, builtin_encoder, small_lexicon, methods=("mcm",))
    assert [path.stat().st_mtime_ns == t for path, t in zip(shards, times, strict=True)] == [
        True,
        False,
        True,
    ]


def test_long_scores_are_kept(
    folders: Path,
    tmp_path: Path,
    builtin_encoder: CLIPEncoder,
    small_lexicon: Lexicon,
) -> None:
    out = tmp_path / "out"
    options = {"methods": ("negrefine",), "ablation": True}
    first = run(folders, out, builtin_encoder, small_lexicon, **options)
    kept = sorted((out / "parts").rglob("*.safetensors"))
    assert len(kept) == 2 * 3
    times = [path.stat().st_mtime_ns for path in kept]
    # What is kept is what counts: another number there is another score.
    changed = load_file(kept[0])
    changed["NegFilter + S_MM"][0] = 7.0
    with safe_open(kept[0], framework="np") as stream:
        metadata = stream.metadata()
    save_file(changed, kept[0], metadata)
    second = run(folders, out, builtin_encoder, small_lexicon, **options)
    assert [path.stat().st_mtime_ns for path in kept[1:]] == times[1:]
    variant = "NegFilter + S_MM"
    assert second.id_set.scores[variant][0][second.id_set.readable][0] == 7.0
    np.testing.assert_array_equal(
        first.id_set.scores["negrefine"][0], second.id_set.scores["negrefine"][0]
    )
    assert list(second.id_set.scores) == list(first.id_set.scores)
    # Other labels, other scores.
    names = [*demo_class_names()[:-1], "dragon"]
    with pytest.raises(InputError, match="another list of classes"):
        evaluate(
            out,
            names,
            image_folder("a", folders / "animals"),
            [image_folder("f", folders / "food")],
            encoder=builtin_encoder,
        )
    mining = {"lexicon": small_lexicon, "lexicon_files": "full", "n_groups": 5, "top_fraction": 0.5}
    third = run(
        folders, out, builtin_encoder, small_lexicon, **options, parameters={"negrefine": mining}
    )
    assert third.id_set.scores[variant][0][third.id_set.readable][0] < 4


def test_a_broken_image_costs_itself_and_is_tried_again(
    folders: Path, tmp_path: Path, builtin_encoder: CLIPEncoder, small_lexicon: Lexicon
) -> None:
    own, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(folders, own, copy_function=shutil.copy2)
    shard = out / "features" / "00-ID" / "00000.safetensors"
    image = sorted((own / "animals").rglob("*.png"))[0]
    content = image.read_bytes()
    image.write_bytes(bytes(len(content)))
    os.utime(image, ns=(5, 5))
    first = run(own, out, builtin_encoder, small_lexicon, methods=("mcm",))
    assert int((~first.id_set.readable).sum()) == 2
    written = shard.stat().st_mtime_ns
    run(own, out, builtin_encoder, small_lexicon, methods=("mcm",))
    assert shard.stat().st_mtime_ns == written
    # As if a server had answered again: neither size nor time tells that the file was mended.
    image.write_bytes(content)
    os.utime(image, ns=(5, 5))
    second = run(own, out, builtin_encoder, small_lexicon, methods=("mcm",))
    assert int((~second.id_set.readable).sum()) == 1


def test_a_killed_run_continues(folders: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "negrefine", "evaluate", "--encoder", "builtin"]
    command += ["--methods", "mcm,neglabel", "--min-frequency", "3", "--bootstrap", "5"]
    command += ["--classes", str(folders / "classes.txt"), "--id", str(folders / "animals")]
    for name in ("food", "vehicles"):
        command += ["--ood", f"{name}={folders / name}"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*command, "--out", str(whole)], check=True, capture_output=True)
    process = subprocess.Popen(
        [*command, "--out", str(killed)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    first = killed / "features" / "00-ID" / "00000.safetensors"
    until = time.monotonic() + 120
    while not first.exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.exists()
    done = subprocess.run(
        [*command, "--out", str(killed)], check=True, capture_output=True, text=True
    )
    assert "1 of 17 images of ID are left out" in done.stderr
    for name in ("evaluation.json", "results.csv", "results.tex", "scores/01-food.parquet"):
        assert (whole / name).read_bytes() == (killed / name).read_bytes(), name


def test_what_cannot_be_evaluated(
    folders: Path, tmp_path: Path, builtin_encoder: CLIPEncoder, small_lexicon: Lexicon
) -> None:
    def attempt(match: str, **options: object) -> None:
        with pytest.raises(InputError, match=match):
            run(folders, tmp_path / "x", builtin_encoder, small_lexicon, **options)

    attempt("no method 'svm'", methods=("svm",))
    attempt("No method", methods=())
    attempt("add negrefine", methods=("mcm",), ablation=True)
    attempt("named twice", methods=("mcm", "mcm"))
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis.txt").write_text("mine")
    attempt("holds other files", methods=("mcm",))
    (tmp_path / "x" / "thesis.txt").unlink()
    run(folders, tmp_path / "x", builtin_encoder, small_lexicon, methods=("mcm",))
    images = ImageFolder("food", sorted((folders / "food").iterdir()))
    with pytest.raises(InputError, match="another list of classes"):
        evaluate(tmp_path / "x", ["cat"], images, [images], encoder=builtin_encoder)
    with pytest.raises(InputError, match="called 'ID'"):
        evaluate(
            tmp_path / "y",
            ["cat"],
            images,
            [ImageFolder("ID", images.paths)],
            encoder=builtin_encoder,
        )
    broken = ImageFolder("broken", [folders / "animals" / "broken.png"])
    with pytest.raises(InputError, match="None of the 1 images of broken"):
        evaluate(
            tmp_path / "z", ["cat"], images, [broken], encoder=builtin_encoder, methods=["mcm"]
        )
    with pytest.raises(InputError, match="no finished evaluation"):
        load_evaluation(tmp_path / "z")
