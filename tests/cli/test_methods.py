"""Methods that no command knows by name work in all of them."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cli.workspace import Workspace
from conftest import CLASS_NAMES
from negrefine import load_detector
from negrefine.detectors import Energy, NegRefine
from negrefine.encoders import CLIPEncoder


def test_energy_from_end_to_end(
    quick: Any,
    work: Workspace,
    builtin_encoder: CLIPEncoder,
    demo_pictures: list[Path],
    tmp_path: Path,
) -> None:
    saved = tmp_path / "detector"
    done = quick(
        *("fit", "--classes", work.classes, "--encoder", "builtin", "--method", "energy"),
        *("--out", saved, "--temperature", 0.5),
    )
    assert done.out == f"Saved energy to {saved}: 7 class names.\n", done.err
    expected = Energy(builtin_encoder, temperature=0.5).fit(CLASS_NAMES)
    assert load_detector(saved, builtin_encoder).identity() == expected.identity()

    calibration = work.root / "calibration"
    done = quick("calibrate", saved, "--id", calibration, "--fpr", "0.2", "--json")
    threshold = json.loads(done.out)["calibration"]["threshold"]
    images = [work.pictures / name for name in work.good]
    scores = dict(zip(map(str, images), expected.score_samples(images), strict=True))
    done = quick("score", saved, *images)
    rows = list(csv.DictReader(io.StringIO(done.out)))
    assert {row["path"]: float(row["score"]) for row in rows} == pytest.approx(scores, abs=1e-6)
    assert [row["verdict"] for row in rows] == [
        "ID" if float(row["score"]) >= threshold else "OOD" for row in rows
    ]
    done = quick("explain", saved, images[1], "--json")
    assert json.loads(done.out)["score"] == pytest.approx(scores[str(images[1])], abs=1e-6)

    for name, pictures in (("in", demo_pictures[:6]), ("out", demo_pictures[-6:])):
        (tmp_path / name).mkdir()
        for picture in pictures:
            (tmp_path / name / picture.name).write_bytes(picture.read_bytes())
    done = quick(
        *("evaluate", "--id", tmp_path / "in", "--ood", f"other={tmp_path / 'out'}"),
        *("--classes", work.classes, "--encoder", "builtin", "--out", tmp_path / "results"),
        *("--methods", "mcm,energy", "--bootstrap", "0", "--no-report"),
    )
    assert done.code == 0, done.err
    assert "Energy" in done.out
    with (tmp_path / "results" / "results.csv").open(encoding="utf-8", newline="") as stream:
        assert {row["method"] for row in csv.DictReader(stream)} == {"mcm", "energy"}


def test_refine_keeps_the_parameters_that_are_not_given(
    quick: Any, work: Workspace, builtin_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    def refined(source: Path, target: str, *given: object) -> NegRefine:
        done = quick("refine", source, "--judge", "none", "--out", tmp_path / target, *given)
        assert done.code == 0, done.err
        detector = load_detector(tmp_path / target, builtin_encoder)
        assert isinstance(detector, NegRefine)
        return detector

    given = ("--wordnet-candidates", "--names-per-question", 4, "--n-candidates", 3)
    for detector in (refined(work.detector, "a", *given), refined(tmp_path / "a", "b")):
        assert detector.wordnet_candidates
        assert (detector.names_per_question, detector.n_candidates) == (4, 3)
        assert all(label.kept for label in detector.negative_labels_)
    assert not refined(tmp_path / "b", "c", "--no-wordnet-candidates").wordnet_candidates


def test_an_unreadable_image_in_an_evaluation_is_a_warning(
    quick: Any, work: Workspace, tmp_path: Path
) -> None:
    done = quick(
        *("evaluate", "--id", work.root / "calibration", "--ood", f"mixed={work.pictures}"),
        *("--classes", work.classes, "--encoder", "builtin", "--out", tmp_path / "results"),
        *("--methods", "maxlogit", "--bootstrap", "0", "--no-report", "--judge", "none"),
    )
    assert done.failed() == "--judge has no effect on the method 'maxlogit': leave it out."
    done = quick(
        *("evaluate", "--id", work.root / "calibration", "--ood", f"mixed={work.pictures}"),
        *("--classes", work.classes, "--encoder", "builtin", "--out", tmp_path / "results"),
        *("--methods", "maxlogit", "--bootstrap", "0", "--no-report"),
    )
    assert done.code == 0, done.err
    assert "warning: 5 of 13 images of mixed could not be read and were left out; " in done.err


def test_unknown_methods_are_named_before_anything_is_loaded(
    quick: Any, work: Workspace, tmp_path: Path
) -> None:
    done = quick(
        *("evaluate", "--id", work.root / "calibration", "--ood", f"mixed={work.pictures}"),
        *("--classes", work.classes, "--encoder", "no-such-model", "--out", tmp_path / "results"),
        *("--methods", "mcm,magic"),
    )
    known = "clipn, csp, energy, eoe, glmcm, maxlogit, mcm, neglabel, negrefine, sigmoid, vsnl"
    assert done.failed() == f"There is no method 'magic': choose from {known}."
    assert not (tmp_path / "results").exists()


def test_evaluate_takes_patterns_and_files(quick: Any, work: Workspace) -> None:
    folder = work.root / "calibration"
    one = work.pictures / "7.png"
    done = quick(
        *("evaluate", "--id", folder / "*.png", "--ood", f"one={one}", "--methods", "mcm"),
        *("--classes", work.classes, "--encoder", "builtin", "--out", work.root / "patterns"),
    )
    assert done.code == 0, done.err
    assert "6 ID and 1 OOD" in " ".join(done.out.split())


def test_word_lists_and_prompts_reach_a_sweep_and_an_evaluation(
    quick: Any, work: Workspace, demo_pictures: list[Path], tmp_path: Path
) -> None:
    for name, pictures in (("in", demo_pictures[:6]), ("out", demo_pictures[-6:])):
        (tmp_path / name).mkdir()
        for picture in pictures:
            (tmp_path / name / picture.name).write_bytes(picture.read_bytes())
    keep, drop, prompts = (tmp_path / name for name in ("keep.txt", "drop.txt", "prompts.json"))
    keep.write_text("Paris\n", encoding="utf-8")
    drop.write_text("hammer\nanvil\n", encoding="utf-8")
    prompts.write_text(
        '{"class_name": ["a {}."], "noun": ["my {}."], "adjective": ["my {}."]}', encoding="utf-8"
    )
    common = (
        *("--id", tmp_path / "in", "--ood", f"other={tmp_path / 'out'}", "--classes", work.classes),
        *("--encoder", "builtin", "--lexicon", work.lexicon),
    )
    lists = ("--keep", keep, "--drop", drop)

    def swept(*given: object) -> list[tuple[int, str]]:
        done = quick("sweep", *common, "--top-fraction", "1", "--n-groups", "2", *given)
        assert done.code == 0, done.err
        rows = [line for line in done.out.splitlines() if re.search(r"\bother\b", line)]
        return [(int(re.findall(r"\d+", row)[0]), row) for row in rows]

    ((plain, row),) = swept("--judge", "none")
    ((fewer, _),) = swept("--judge", "none", *lists)
    assert fewer == plain - 2
    ((_, other),) = swept("--judge", "none", "--prompts", prompts)
    assert other != row

    out = tmp_path / "results"
    evaluation = (*common, "--methods", "mcm,negrefine", "--bootstrap", "0", "--no-report")
    done = quick("evaluate", *evaluation, *lists, "--names-per-question", 3, "--out", out)
    assert done.code == 0, done.err
    found = load_detector(out / "detectors" / "negrefine")
    assert isinstance(found, NegRefine)
    assert (list(found.keep), list(found.drop)) == (["Paris"], ["hammer", "anvil"])
    assert found.names_per_question == 3


def test_a_sweep_chooses_constants_on_a_validation_set(
    quick: Any, work: Workspace, demo_pictures: list[Path], tmp_path: Path
) -> None:
    sets = {"in": demo_pictures[:6], "out": demo_pictures[-6:], "val": demo_pictures[-12:-6]}
    for name, pictures in sets.items():
        (tmp_path / name).mkdir()
        for picture in pictures:
            (tmp_path / name / picture.name).write_bytes(picture.read_bytes())
    common = (
        *("sweep", "--id", tmp_path / "in", "--ood", f"other={tmp_path / 'out'}"),
        *("--classes", work.classes, "--encoder", "builtin", "--lexicon", work.lexicon),
        *("--top-fraction", "1", "--n-groups", "2", "--judge", "none", "--alpha", "0,1,4"),
    )
    out = tmp_path / "sweep.csv"
    done = quick(*common, "--validation", f"held={tmp_path / 'val'}", "--out", out)
    assert done.code == 0, done.err
    with out.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["ood_set"], row["role"]) for row in rows} == {
        ("held", "validation"),
        ("other", "test"),
    }
    assert {row["validation_set"] for row in rows} == {"held"}
    assert {len(row["validation_images"]) for row in rows} == {64}
    held = [row for row in rows if row["ood_set"] == "held"]
    best = max(held, key=lambda row: (float(row["auroc"]), -float(row["fpr95"])))
    chosen = [row for row in rows if row["is_chosen"] == "1"]
    assert [row["alpha"] for row in chosen] == [best["alpha"]] * 2
    assert f"Chosen on the validation set held: alpha {float(best['alpha']):g}." in done.out
    # The test set is shown for the chosen setting only.
    assert sum(" other " in line for line in done.out.splitlines()) == 1
    assert sum(" held " in line for line in done.out.splitlines()) == 3

    done = quick(*common, "--validation", f"other={tmp_path / 'val'}")
    assert "'other' is a test set (--ood)" in done.failed()
    done = quick(*common, "--validation", f"held={tmp_path / 'out'}")
    assert "6 of 6 images of the OOD set 'other' are validation images too" in done.failed()
