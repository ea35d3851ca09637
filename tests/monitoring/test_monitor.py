"""A monitor's state: any division and any stop gives the same, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import negrefine
from monitoring.streams import kept, monitor, p_values_of
from negrefine.errors import InputError, NotFittedError
from negrefine.monitoring import Monitor

NAMES = ["dog", "cat", "owl"]


@pytest.fixture(scope="module")
def detector() -> Any:
    return negrefine.MCM(negrefine.load_encoder("builtin")).fit(NAMES)


def calibrated(detector: Any, by: str | None = None, seed: int = 0) -> Any:
    rng = np.random.default_rng(seed)
    classes = rng.choice(3, 150, p=[0.1, 0.3, 0.6])
    return detector.with_params().calibrate_scores(
        rng.normal(size=150), 0.05, by=by, classes=classes
    )


def stream(detector: Any, n: int, shift: float = 0.0) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(1)
    scores = rng.normal(size=n) - shift * (np.arange(n) > n // 2)
    classes = rng.choice(3, n, p=[0.1, 0.3, 0.6])
    p = detector.p_values_scores(scores, classes)
    return p, classes, scores < detector.image_thresholds(classes)


@pytest.mark.parametrize("by", [None, "class"])
def test_any_division_and_any_stop_give_the_same_bytes(
    detector: Any, tmp_path: Path, by: str | None
) -> None:
    owner = calibrated(detector, by)
    p, classes, flagged = stream(owner, 1500, shift=0.8)
    whole = negrefine.Monitor.of(owner, window=40, seed=5)
    alarms = whole.update(p, classes, flagged)
    whole.count_errors(3)
    whole.save(tmp_path / "whole.json")
    assert len(alarms) > 2
    parts = Monitor.of(owner, window=40, seed=5)
    parts.count_errors(3)
    start, found = 0, []
    for size in [0, 1, 1, 38, 2, 400, 7, 1051]:
        names = [NAMES[k] for k in classes[start : start + size]]
        found += parts.update(p[start : start + size], names, flagged[start : start + size])
        parts.save(tmp_path / "parts.json")
        parts = Monitor.load(tmp_path / "parts.json", owner)
        start += size
    assert start == len(p)
    assert found == alarms == whole.alarms == parts.alarms
    assert (tmp_path / "parts.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert parts.status() == whole.status()
    status = json.loads(json.dumps(whole.status().as_dict()))
    assert status["n_images"] == 1500
    assert status["flags"]["n_flagged"] == int(flagged.sum())
    assert status["alarms"][0]["image"] > 750
    assert sum(status["budget"].values()) == pytest.approx(status["alpha"])


def test_a_seed_decides_what_p_values_leave_open(detector: Any) -> None:
    owner = calibrated(detector)
    p, classes, _ = stream(owner, 100)
    wealth = []
    for seed in (0, 0, 1):
        watching = Monitor.of(owner, seed=seed)
        watching.update(p, classes)
        wealth.append(watching.status().values.log10_wealth)
    assert wealth[0] == wealth[1] != wealth[2]


def test_a_state_of_another_calibration_is_refused(detector: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    Monitor.of(calibrated(detector)).save(path)
    assert Monitor.load(path).n_images == 0
    for other in (calibrated(detector, "class"), calibrated(detector, seed=1)):
        with pytest.raises(InputError, match="of another detector or calibration"):
            Monitor.load(path, other)


def test_a_damaged_state_is_refused_and_a_strange_file_kept(detector: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    watching = Monitor.of(calibrated(detector))
    watching.save(path)
    text = path.read_text()
    for damage in (text.replace('"n_images": 0', '"n_images": 9'), text[:-20], "[]", "{}", ""):
        path.write_text(damage)
        with pytest.raises(InputError, match=r"damaged|cannot be read|not the state"):
            Monitor.load(path)
    with pytest.raises(InputError, match="cannot be read: No such file"):
        Monitor.load(tmp_path / "missing.json")
    path.write_text("notes")
    with pytest.raises(InputError, match="exists and is not what negrefine writes"):
        watching.save(path)
    assert path.read_text() == "notes"


def test_what_does_not_fit_is_refused_and_nothing_of_it_counted(detector: Any) -> None:
    owner = calibrated(detector, "class")
    p, classes, flagged = stream(owner, 20)
    watching = Monitor.of(owner)
    before = watching.status()
    bad = p.copy()
    bad[7] = 0.1234
    cases = [
        ((bad, classes), "Image 7 of those given: no image has the p-value 0.1234"),
        ((np.where(p == bad, p, np.nan), classes), "Image 7 .* p-value nan"),
        ((np.zeros(20), classes), "no image has the p-value 0"),
        ((p, None), "classes must be given"),
        ((p, classes + 1), "indices of class names, 0 to 2"),
        ((p, classes[1:]), "nearest class of each of the 20 images"),
        ((p, ["dog"] * 19 + ["bat"]), "Image 19 .* 'bat' is no class name"),
        ((p, classes, ~flagged), "judged with another threshold"),
        ((p, classes, flagged.astype(int)), "flagged must be bool"),
        ((p[None], classes), "classes must be|one dimension"),
        ((p.astype(str), classes), "real numbers"),
    ]
    for arguments, sentence in cases:
        with pytest.raises(InputError, match=sentence):
            watching.update(*arguments)
        assert watching.status() == before
    watching.update(p.astype(np.float32), classes)
    assert watching.n_images == 20


def test_settings_and_uncalibrated_detectors_are_refused(detector: Any) -> None:
    owner = calibrated(detector)
    for settings in ({"alpha": 0}, {"alpha": 1}, {"window": 9}, {"window": 10.5}, {"seed": -1}):
        with pytest.raises(InputError):
            Monitor.of(owner, **settings)
    with pytest.raises(NotFittedError):
        Monitor.of(detector)
    owner.offset_ = 0.5
    with pytest.raises(NotFittedError, match="set by hand"):
        Monitor.of(owner)


def test_unknown_and_small_classes_are_said_to_be(detector: Any) -> None:
    scores = np.random.default_rng(0).normal(size=100)
    unknown = Monitor.of(detector.with_params().calibrate_scores(scores, 0.05))
    unknown.update([0.5 * 0 + 50 / 101], ["dog"])
    assert "classes of the calibration images are unknown" in unknown.status().notes[0]
    assert unknown.status().classes is None
    assert set(unknown.budget) == {"flag share", "p-values", "windows"}
    few = Monitor.of(calibrated(detector))
    few.update([1.0], ["dog"])
    assert "classes: 1 of 3 have fewer than 20 calibration images" in few.status().notes[0]
    rows = {row.name: row for row in few.status().classes or ()}
    assert rows["dog"].anytime_p_value is None
    assert rows["owl"].anytime_p_value == 1.0
    without = Monitor.of(calibrated(detector))
    without.update([1.0])
    assert "nearest classes of images were not given" in without.status().notes[0]


def test_names_that_occur_twice_are_one_class() -> None:
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, 120)
    calibration = kept(rng.normal(size=120), classes)
    object.__setattr__(calibration, "class_names", ("crane", "owl", "crane"))
    watching = monitor(calibration)
    watching.update(p_values_of(calibration, rng.normal(size=30), None), np.arange(30) % 3)
    rows = {row.name: row for row in watching.status().classes or ()}
    assert rows["crane"].n_images == 20
    assert rows["crane"].calibration_images == int((classes != 1).sum())


def test_memory_does_not_grow_with_the_stream(detector: Any, tmp_path: Path) -> None:
    owner = calibrated(detector)
    watching = Monitor.of(owner)
    sizes = []
    for _ in range(2):
        p, classes, _ = stream(owner, 3000)
        watching.update(p, classes)
        watching.save(tmp_path / "state.json")
        sizes.append((tmp_path / "state.json").stat().st_size)
    assert abs(sizes[1] - sizes[0]) < 1500
