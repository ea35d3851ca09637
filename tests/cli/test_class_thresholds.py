"""`--by class` on the command line: what is said, saved, scored and explained."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cli.workspace import Workspace
from conftest import CLASS_NAMES
from negrefine import Detector, load_detector
from negrefine.benchmarks.bundled import demo_images
from negrefine.evaluation.image_scores import calibrate_files, score_files


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, demo_pictures: list[Path]) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for path in demo_pictures:
        shutil.copyfile(path, folder / path.name)
    return folder


@pytest.fixture
def saved(work: Workspace, tmp_path: Path) -> Path:
    return Path(shutil.copytree(work.plain, tmp_path / "d"))


def groups_of(detector: Detector) -> list[dict[str, Any]]:
    assert detector.calibration_classes_ is not None
    counts = np.bincount(detector.calibration_classes_, minlength=len(CLASS_NAMES)).tolist()
    return [
        {
            "kind": group.kind,
            "classes": [CLASS_NAMES[k] for k in group.classes],
            "n": group.n,
            "rank": group.rank,
            "threshold": group.threshold,
            "n_own": group.n_own,
            "class_counts": [counts[k] for k in group.classes],
        }
        for group in detector.threshold_groups()
    ]


def test_calibrate_score_and_explain(quick: Any, saved: Path, images: Path) -> None:
    done = quick("calibrate", saved, "--id", images, "--fpr", 0.2, "--by", "class")
    assert done.code == 0, done.err
    detector = load_detector(saved)
    groups = groups_of(detector)
    kinds = [group["kind"] for group in groups]
    assert set(kinds) == {"class", "pooled"}
    first, second, *lines = done.out.splitlines()
    n = len(list(images.iterdir()))
    assert first == (
        f"Saved {saved}: thresholds by predicted class from {n} images, false-alarm rate <= 0.2 "
        "each (mean over calibrations)."
    )
    own = kinds.count("class")
    assert second == (f"{own} of 7 classes have the 4 images that a threshold of their own needs:")
    assert lines[:own] == [
        f"  {group['classes'][0]!r}: threshold {group['threshold']:.4f} from {group['n']} images"
        for group in groups[:own]
    ]
    pool = groups[-1]
    assert lines[own:] == [
        f"The others share the threshold {pool['threshold']:.4f} from {pool['n']} images, those of "
        "all classes with at most 4; the rate is that of their images together, not of each class:",
        "  "
        + ", ".join(
            f"{name!r} ({count})"
            for name, count in zip(pool["classes"], pool["class_counts"], strict=True)
        ),
    ]
    # The same as JSON.
    done = quick("calibrate", saved, "--id", images, "--fpr", 0.2, "--by", "class", "--json")
    report = json.loads(done.out)["calibration"]
    assert (report["by"], report["needed"], report["threshold"]) == ("class", 4, detector.offset_)
    assert report["groups"] == groups
    # Rows have the threshold after the verdict.
    rows = list(csv.DictReader(io.StringIO(quick("score", saved, images).out)))
    columns = list(rows[0])
    assert columns[columns.index("verdict") + 1] == "threshold"
    threshold_of = {name: group["threshold"] for group in groups for name in group["classes"]}
    for row in rows:
        assert float(row["threshold"]) == threshold_of[row["nearest_class"]]
        assert row["verdict"] == ("ID" if float(row["score"]) >= float(row["threshold"]) else "OOD")
    assert {row["verdict"] for row in rows} == {"ID", "OOD"}
    # An explanation names the class.
    row = next(row for row in rows if row["nearest_class"] == groups[0]["classes"][0])
    done = quick("explain", saved, row["path"])
    side = ">=" if row["verdict"] == "ID" else "<"
    assert (
        f"verdict {row['verdict']}: score {side} {groups[0]['threshold']:.4f} of the class "
        f"{row['nearest_class']!r}\n"
    ) in done.out
    told = json.loads(quick("explain", saved, row["path"], "--json").out)
    assert (told["threshold"], told["threshold_kind"]) == (groups[0]["threshold"], "class")
    # Calibrated again without classes, nothing of them is left.
    done = quick("calibrate", saved, "--id", images, "--fpr", 0.2)
    assert done.out == (
        f"Saved {saved}: threshold {detector.offset_:.4f} from {n} images, false-alarm rate <= 0.2 "
        "(mean over calibrations).\n"
    )
    assert load_detector(saved).by_ is None
    assert "threshold" not in quick("score", saved, images).out.splitlines()[0].split(",")
    report = json.loads(quick("calibrate", saved, "--id", images, "--fpr", 0.2, "--json").out)
    assert list(report["calibration"]) == ["threshold", "fpr", "delta", "n", "rank", "errors"]


def test_without_a_pool_it_is_said(quick: Any, saved: Path, tmp_path: Path) -> None:
    """Twelve images of one class and three of others, of which nine are needed."""
    detector = load_detector(saved)
    pictures = [image.path for image in demo_images()][::3]
    nearest = detector.predicted_classes(detector.encoder.encode_images(pictures))
    common = int(np.bincount(nearest).argmax())
    chosen = np.concatenate(
        [np.nonzero(nearest == common)[0][:12], np.nonzero(nearest != common)[0][:3]]
    )
    for i in chosen:
        shutil.copyfile(pictures[i], tmp_path / f"{i}.png")
    done = quick("calibrate", saved, "--id", tmp_path, "--fpr", 0.1, "--by", "class")
    assert done.code == 0, done.err
    own, few = groups_of(load_detector(saved))
    assert (own["kind"], own["classes"], own["n"]) == ("class", [CLASS_NAMES[common]], 12)
    assert (few["kind"], few["n"], few["n_own"]) == ("all", 15, 3)
    *_, said, named = done.out.splitlines()
    assert said == (
        f"The others have too few together, so they use the threshold {few['threshold']:.4f} from "
        "15 images, all there are: its rate is that of images of all classes, and nothing is "
        "guaranteed for these:"
    )
    assert named.count(",") == 5
    done = quick("explain", saved, tmp_path / f"{chosen[-1]}.png")
    name = CLASS_NAMES[nearest[chosen[-1]]]
    assert f"of all calibration images, because too few are closest to {name!r}\n" in done.out


def test_rows_of_a_journal_have_the_threshold_of_their_class(
    saved: Path, images: Path, tmp_path: Path
) -> None:
    detector = load_detector(saved)
    paths = sorted(images.iterdir())
    calibrate_files(detector, paths, 0.2, by="class")
    journal = tmp_path / "s.partial"
    before = score_files(detector, paths, journal=journal)
    header, *lines = journal.read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines]
    entries[0]["row"]["threshold"] += 1e-9
    entries[1]["row"]["threshold"] = None
    entries[2]["row"]["parts"]["mcm"] = 0.5
    text = "\n".join([header, *map(json.dumps, entries)]) + "\n"
    journal.write_text(text, encoding="utf-8")
    with pytest.warns(UserWarning, match="that are no rows of results: 2; their images are scored"):
        after = score_files(detector, paths, journal=journal)
    # The third row was taken from the journal as it is.
    assert [row.parts["mcm"] == 0.5 for row in after] == [i == 2 for i in range(len(paths))]
    assert [row.threshold for row in after] == [row.threshold for row in before]
    # With other thresholds nothing of it is.
    calibrate_files(detector, paths, 0.3, by="class")
    again = score_files(detector, paths, journal=journal)
    assert [row.score for row in again] == [row.score for row in before]
    assert again[2].parts == before[2].parts
    assert [row.threshold for row in again] != [row.threshold for row in before]


def test_fit(quick: Any, work: Workspace, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "new"
    common = ["fit", "--classes", work.classes, "--encoder", "builtin", "--method", "mcm"]
    refused = quick(*common, "--out", out, "--by", "class")
    assert "--by has no effect without --calibrate" in refused.failed()
    refused = quick(*common, "--out", out, "--calibrate", images, "--by", "label")
    assert "by must be None, for one threshold, or 'class'" in refused.failed()
    assert not out.exists()
    done = quick(*common, "--out", out, "--calibrate", images, "--fpr", 0.2, "--by", "class")
    assert done.code == 0, done.err
    detector = load_detector(out)
    assert detector.by_ == "class"
    assert done.out.startswith(f"Saved mcm to {out}: 7 class names, thresholds by predicted class")
    assert len(done.out.splitlines()) == 2 + len(detector.threshold_groups()) + 1
