"""`negrefine tune`, and alphas of classes from --alpha-images."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cli.workspace import Workspace
from negrefine.benchmarks.bundled import demo_images


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Animals in two folders, food and vehicles, a few of each."""
    root = tmp_path_factory.mktemp("sets")
    counts: dict[str, int] = {}
    for picture in demo_images():
        n = counts[picture.set_name] = counts.get(picture.set_name, 0) + 1
        if n <= 24 and picture.set_name in ("animals", "food", "vehicles"):
            name = picture.set_name + (str(n % 2) if picture.set_name == "animals" else "")
            (root / name).mkdir(exist_ok=True)
            shutil.copy(picture.path, root / name)
    return root


def test_tune_chooses_records_and_refuses(
    quick: Any, work: Workspace, sets: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    given = ["tune", work.detector, "--id", sets / "animals0", "--validation", f"food={sets}/food"]
    given += ["--bootstrap", "50", "--out", out]
    tests = ["--test-id", sets / "animals1", "--ood", f"vehicles={sets}/vehicles"]
    before = json.loads((work.detector / "detector.json").read_text())
    # Nothing can be better than the detector by luck alone among equal candidates.
    done = quick(*given, "--alpha", "2,2.0000001", *tests)
    assert done.code == 0, done.err
    assert "No candidate of 2 has a higher AUROC on food than the detector as it was." in done.out
    assert "Nothing was chosen, so there is nothing to test." in done.out
    saved = json.loads((out / "detector.json").read_text())
    assert saved["offset"] == before["offset"]
    assert saved["parameters"] == before["parameters"]
    tuning = saved["tuning"]
    assert (tuning["validation"], tuning["n_validation"], tuning["candidates"]) == ("food", 24, 2)
    assert (
        tuning["chosen"] == tuning["instead_of"] == {"alpha_rule": "constant", "k": 5, "alpha": 2}
    )
    # The best of others is taken if it is asked for; it may be luck.
    rules = ["--alpha-rule", "uncertain,class-scaled", "--alpha", "0.5", "--alpha-images"]
    done = quick(*given, *rules, sets / "animals1", "--best", "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert [row["values"]["alpha_rule"] for row in found["candidates"]] == [
        *("constant", "uncertain", "class-scaled"),
    ]
    aurocs = [row["auroc"]["value"] for row in found["candidates"]]
    assert found["chosen"] == found["best"] == aurocs.index(max(aurocs))
    assert 0 < found["p_value"] <= 1
    chosen = found["candidates"][found["chosen"]]["values"]
    assert found["tuning"]["chosen"] == chosen
    saved = json.loads((out / "detector.json").read_text())
    assert saved["tuning"] == found["tuning"]
    assert saved["parameters"].get("alpha_rule", "constant") == chosen["alpha_rule"]
    for images in ("animals0", "food", "animals1"):
        refused = quick("calibrate", out, "--id", sets / images, "--fpr", "0.2").failed()
        assert "12 of the 12" in refused or "24 of the 24" in refused
        assert "tuned on: calibrate with others" in refused


def test_alphas_of_classes_are_chosen_apart_from_the_threshold(
    quick: Any, work: Workspace, sets: Path, tmp_path: Path
) -> None:
    out = tmp_path / "by-class"
    mining = ["--lexicon", work.lexicon, "--lexicon-files", "full", "--top-fraction", "1"]
    fit = ["fit", "--classes", work.classes, "--encoder", "builtin", "--judge", "none", *mining]
    fit += ["--n-groups", "4", "--out", out]
    by_class = ["--alpha-rule", "class"]
    calibrated = ["--calibrate", sets / "animals0", "--fpr", "0.2"]
    refused = quick(*fit, *by_class, *calibrated).failed()
    assert "has chosen no alphas yet: give in-distribution images" in refused
    refused = quick(*fit, "--alpha-images", sets / "animals1").failed()
    assert "--alpha-images has no effect without --alpha-rule class" in refused
    done = quick(*fit, *by_class)
    assert done.code == 0, done.err
    assert "before 'negrefine calibrate --alpha-images' has chosen its alphas" in done.out
    assert "No alphas are chosen" in quick("score", out, sets / "food").err
    refused = quick("calibrate", out, "--id", sets / "animals0", "--fpr", "0.2").failed()
    assert "give in-distribution images that do not calibrate with --alpha-images" in refused
    choosing = ["--alpha-images", sets / "animals1"]
    refused = quick("calibrate", out, "--id", sets / "animals1", *choosing, "--fpr", "0.2").failed()
    assert "12 of the 12 different images to calibrate are images that the alphas" in refused
    done = quick("calibrate", out, "--id", sets / "animals0", *choosing, "--fpr", "0.2")
    assert done.code == 0, done.err
    assert "Alphas from 12 images: 0 classes with the 20 images that one of its own" in done.out
    done = quick("score", out, sets / "food")
    assert done.code == 0, done.err
    assert "alpha_factor" in done.out.splitlines()[0]


def test_what_cannot_be_tuned(quick: Any, work: Workspace, sets: Path) -> None:
    given = ["tune", work.detector, "--id", sets / "animals0"]
    food = ["--validation", f"food={sets}/food"]
    refused = {
        (*food, "--test-id", sets / "animals1"): "both --test-id and --ood",
        (*food, "--bootstrap", "0"): "needs resamples",
        (*food, "--k", "2.5"): "--k takes whole numbers separated by commas, not '2.5'",
        (*food, "--alpha-rule", "adaptive"): "alpha_rule must be one of constant",
        (*food, "--test-id", sets / "animals1", "--ood", f"food={sets}/vehicles"): "is a test set",
        (*food, "--test-id", sets / "animals1", "--ood", f"x={sets}/food"): "test with others",
        ("--validation", f"a={sets}/animals0"): "are in-distribution images too",
    }
    for arguments, sentence in refused.items():
        assert sentence in quick(*given, *arguments).failed()
    plain = quick("tune", work.plain, "--id", sets / "animals0", *food).failed()
    assert "only 'negrefine' and 'vision-checked' have parameters that are tuned" in plain
