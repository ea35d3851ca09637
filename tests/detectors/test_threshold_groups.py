"""Which classes share which threshold, and what of it is saved."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from negrefine import MCM, Detector, load_detector
from negrefine.detectors import ThresholdGroup
from negrefine.detectors.conformal import images_needed, threshold_rank
from negrefine.encoders import CLIPEncoder
from negrefine.errors import BundleError, InputError, NotFittedError

NAMES = ["dog", "cat", "owl", "car", "tree"]


@pytest.fixture(scope="module")
def fitted(builtin_encoder: CLIPEncoder) -> MCM:
    return MCM(builtin_encoder).fit(NAMES)


@pytest.fixture
def mcm(fitted: MCM) -> MCM:
    return copy(fitted)


def images_of(*counts: int) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(len(counts)), counts)


def test_one_group_without_classes(mcm: MCM) -> None:
    mcm.calibrate_scores(np.arange(99.0), 0.1)
    assert mcm.threshold_groups() == [
        ThresholdGroup("all", (0, 1, 2, 3, 4), n=99, rank=10, threshold=9.0, n_own=99)
    ]
    assert (mcm.fpr_, mcm.delta_, mcm.by_, mcm.class_offsets_) == (0.1, None, None, None)
    assert mcm.calibration_classes_ is None
    mcm.calibrate_scores(np.arange(99.0), 0.1, delta=0.2)
    assert mcm.delta_ == 0.2
    assert mcm.threshold_groups()[0].rank == threshold_rank(99, 0.1, 0.2) < 10


def test_classes_with_few_images_share_a_threshold(mcm: MCM) -> None:
    # Nine images are needed: the classes with nine have a threshold, and are in the pool.
    classes = images_of(30, 9, 8, 0, 5)
    scores = np.arange(52.0)
    mcm.calibrate_scores(scores, 0.1, by="class", classes=classes)
    assert mcm.threshold_groups() == [
        ThresholdGroup("class", (0,), n=30, rank=3, threshold=2.0, n_own=30),
        ThresholdGroup("class", (1,), n=9, rank=1, threshold=30.0, n_own=9),
        ThresholdGroup("pooled", (2, 3, 4), n=22, rank=2, threshold=31.0, n_own=13),
    ]
    assert mcm.class_offsets_ is not None
    assert mcm.class_offsets_.tolist() == [2.0, 30.0, 31.0, 31.0, 31.0]
    assert mcm.offset_ == scores[threshold_rank(52, 0.1) - 1]
    assert mcm.by_ == "class"


def test_a_pool_that_is_too_small_uses_all_images(mcm: MCM) -> None:
    mcm.calibrate_scores(np.arange(48.0), 0.1, by="class", classes=images_of(30, 10, 6, 0, 2))
    assert [group.kind for group in mcm.threshold_groups()] == ["class", "class", "all"]
    assert mcm.threshold_groups()[-1] == ThresholdGroup(
        "all", (2, 3, 4), n=48, rank=4, threshold=3.0, n_own=8
    )
    assert mcm.threshold_groups()[-1].threshold == mcm.offset_


def test_no_pool_if_all_classes_have_enough(mcm: MCM) -> None:
    mcm.calibrate_scores(np.arange(45.0), 0.1, by="class", classes=images_of(9, 9, 9, 9, 9))
    assert [group.classes for group in mcm.threshold_groups()] == [(0,), (1,), (2,), (3,), (4,)]


def test_one_class(builtin_encoder: CLIPEncoder) -> None:
    detector = MCM(builtin_encoder, rule="energy").fit(["dog"])
    detector.calibrate_scores(np.arange(20.0), 0.1, by="class", classes=np.zeros(20, int))
    assert detector.threshold_groups() == [ThresholdGroup("class", (0,), 20, 2, 1.0, 20)]
    assert detector.offset_ == 1.0


@pytest.mark.filterwarnings("ignore:All .*calibration scores are")
@settings(max_examples=60, deadline=None)
@given(
    images=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 4)), min_size=9, max_size=60),
    fpr=st.sampled_from([0.1, 0.17, 0.3, 0.5]),
    delta=st.sampled_from([None, 0.5]),
    new=st.integers(-1, 9),
)
def test_groups_rank_as_they_say(
    fitted: MCM, images: list[tuple[int, int]], fpr: float, delta: float | None, new: int
) -> None:
    """Against a count in plain Python, ties included."""
    detector = copy(fitted)
    scores, classes = [float(s) for s, _ in images], [c for _, c in images]
    detector.calibrate_scores(scores, fpr, delta=delta, by="class", classes=classes)
    needed = images_needed(fpr, delta)
    counts = [classes.count(c) for c in range(5)]
    groups = detector.threshold_groups()
    assert sorted(c for group in groups for c in group.classes) == [0, 1, 2, 3, 4]
    assert sum(group.n_own for group in groups) == len(images)
    for group in groups:
        for c in group.classes:
            if counts[c] >= needed:
                ranked = [s for s, other in zip(scores, classes, strict=True) if other == c]
                assert group.kind == "class"
            else:
                ranked = [s for s, k in zip(scores, classes, strict=True) if counts[k] <= needed]
                assert group.kind == ("pooled" if len(ranked) >= needed else "all")
                ranked = ranked if len(ranked) >= needed else scores
            assert group.n == len(ranked)
            assert group.rank == threshold_rank(len(ranked), fpr, delta)
            (p,) = detector.p_values_scores(np.array([float(new)]), np.array([c]))
            assert p == (1 + sum(s <= new for s in ranked)) / (len(ranked) + 1)
            (threshold,) = detector.image_thresholds(np.array([c]))
            assert threshold == group.threshold == sorted(ranked)[group.rank - 1]
            assert (new < threshold) == (p <= group.rank / (group.n + 1))


def test_classes_are_recorded_with_the_scores(mcm: MCM, demo_pictures: list[Path]) -> None:
    features = mcm.encoder.encode_images(demo_pictures)
    mcm.calibrate_features(features, 0.1)
    scores, classes = mcm.score_features(features), mcm.nearest_classes(features, top=1)[0][:, 0]
    order = np.lexsort((classes, scores))
    for detector in (mcm, copy(mcm).calibrate(demo_pictures, 0.1)):
        np.testing.assert_array_equal(detector.calibration_scores_, scores[order])
        np.testing.assert_array_equal(detector.calibration_classes_, classes[order])
        assert detector.calibration_classes_ is not None
        assert detector.calibration_classes_.dtype == np.intp
        assert (detector.fpr_, detector.by_) == (0.1, None)
    # The order of the images leaves no trace, among equal scores neither.
    first = copy(mcm).calibrate_scores([1, 1, 2], 0.5, classes=[3, 0, 1])
    second = copy(mcm).calibrate_scores([1, 2, 1], 0.5, classes=[0, 1, 3])
    assert first.identity() == second.identity()


def test_a_threshold_set_by_hand_holds_for_all_images(mcm: MCM) -> None:
    features = np.random.default_rng(0).normal(size=(20, 256))
    mcm.calibrate_features(features, 0.1, by="class")
    scores = mcm.score_features(features)
    mcm.offset_ = float(np.median(scores))
    assert (mcm.fpr_, mcm.delta_, mcm.by_, mcm.class_offsets_) == (None,) * 4
    np.testing.assert_array_equal(mcm.predict_features(features) == 1, scores >= mcm.offset_)
    ranks = (1 + np.searchsorted(np.sort(scores), scores, side="right")) / 21
    np.testing.assert_array_equal(mcm.p_values_features(features), ranks)
    with pytest.raises(NotFittedError, match="set by hand or saved by an earlier version: call"):
        mcm.threshold_groups()


def test_what_is_forgotten(mcm: MCM) -> None:
    features = np.random.default_rng(0).normal(size=(20, 256))
    state = [
        *("offset_", "calibration_scores_", "calibration_classes_"),
        *("fpr_", "by_", "class_offsets_"),
    ]
    assert [getattr(mcm, name) for name in state] == [None] * 6
    with pytest.raises(NotFittedError, match="There are no calibration scores"):
        mcm.threshold_groups()
    mcm.calibrate_features(features, 0.1, by="class")
    before = {name: getattr(mcm, name) for name in state}
    assert all(value is not None for value in before.values())
    other = mcm.with_params(temperature=2.0)
    assert [getattr(other, name) for name in state] == [None] * 6
    for same in (copy(mcm), pickle.loads(pickle.dumps(mcm))):  # noqa: S301
        assert same.threshold_groups() == mcm.threshold_groups()
        np.testing.assert_array_equal(same.class_offsets_, mcm.class_offsets_)
    # A copy with a threshold of its own leaves the original alone.
    copied = copy(mcm)
    copied.offset_ = 0.5
    copied.calibrate_features(features, 0.2)
    assert all(getattr(mcm, name) is value for name, value in before.items())
    assert copied.by_ is None
    assert copied.class_offsets_ is None
    assert [getattr(copied.fit(NAMES), name) for name in state] == [None] * 6


def test_what_is_refused(mcm: MCM) -> None:
    with pytest.raises(InputError, match=r"by must be None, .* or 'class', .* not 'label'"):
        mcm.calibrate_features(np.eye(20, 256), 0.1, by="label")
    with pytest.raises(InputError, match="by must be None"):
        mcm.calibrate([], 0.1, by=["class"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="need the predicted class of each image beside its score"):
        mcm.calibrate_scores(np.arange(20.0), 0.1, by="class")
    for classes in ([0], [[0] * 20], [0.5] * 20, ["dog"] * 20, [True] * 20, None):
        with pytest.raises(InputError, match=r"classes|predicted class"):
            mcm.calibrate_scores(np.arange(20.0), 0.1, by="class", classes=classes)
    for classes in ([5] * 20, [-1] * 20):
        with pytest.raises(InputError, match="indices of class names, 0 to 4, not"):
            mcm.calibrate_scores(np.arange(20.0), 0.1, classes=classes)
    with pytest.raises(InputError, match="at least 9 in-distribution images"):
        mcm.calibrate_scores(np.arange(5.0), 0.1, by="class", classes=[0] * 5)
    assert mcm.offset_ is None


# ---------------------------------------------------------------------------------------- saved


@pytest.fixture
def saved(mcm: MCM, tmp_path: Path) -> Path:
    mcm.calibrate_scores(np.linspace(1, 2, 40), 0.1, by="class", classes=images_of(20, 9, 6, 5))
    mcm.save(tmp_path / "d")
    return tmp_path / "d"


def reseal(
    path: Path,
    edit: Callable[[dict[str, Any]], object] = id,
    edit_arrays: Callable[[dict[str, Any]], object] = id,
) -> None:
    """Edit what is saved and put the right checksums in, as an attacker would."""
    manifest = json.loads((path / "detector.json").read_text(encoding="utf-8"))
    (file,) = path.glob("features-*.safetensors")
    arrays = load(file.read_bytes())
    edit_arrays(arrays)
    data = save(arrays)
    digest = hashlib.sha256(data).hexdigest()
    (path / f"features-{digest[:12]}.safetensors").write_bytes(data)
    manifest["files"]["features.safetensors"] = digest
    edit(manifest)
    manifest.pop("checksum")
    text = json.dumps(manifest, sort_keys=True).encode()
    manifest["checksum"] = hashlib.sha256(text).hexdigest()
    (path / "detector.json").write_text(json.dumps(manifest), encoding="utf-8")


@pytest.mark.parametrize(("by", "delta"), [(None, None), ("class", None), ("class", 0.3)])
def test_saved_and_loaded(mcm: MCM, tmp_path: Path, by: str | None, delta: float | None) -> None:
    features = np.random.default_rng(1).normal(size=(60, 256))
    mcm.calibrate_features(features, 0.1, delta=delta, by=by)
    mcm.save(tmp_path / "d")
    # Versions that know no thresholds by class do not take it for a detector with one threshold.
    manifest = json.loads((tmp_path / "d" / "detector.json").read_text("utf-8"))
    assert manifest["format_version"] == (2 if by is None else 3)
    again = load_detector(tmp_path / "d", mcm.encoder)
    assert again.threshold_groups() == mcm.threshold_groups()
    assert (again.fpr_, again.delta_, again.by_) == (0.1, delta, by)
    np.testing.assert_array_equal(again.calibration_classes_, mcm.calibration_classes_)
    assert again.calibration_classes_ is not None
    assert again.calibration_classes_.dtype == np.intp
    assert again.identity() == mcm.identity()
    np.testing.assert_array_equal(again.predict_features(features), mcm.predict_features(features))
    np.testing.assert_array_equal(
        again.p_values_features(features), mcm.p_values_features(features)
    )


def test_identities_tell_thresholds_apart(mcm: MCM) -> None:
    scores, classes = np.arange(40.0), images_of(20, 9, 6, 5)
    made = [
        mcm.calibrate_scores(scores, fpr, delta=delta, by=by, classes=given).identity()
        for fpr, delta, by, given in [
            (0.1, None, None, None),
            (0.1, None, None, classes),
            (0.1, None, "class", classes),
            (0.1, None, "class", classes[::-1]),
            (0.11, None, "class", classes),
            (0.1, 0.3, "class", classes),
        ]
    ]
    assert len(set(made)) == 6


def test_detectors_saved_before(saved: Path, builtin_encoder: CLIPEncoder) -> None:
    """Neither the rate nor the classes were kept: one threshold, as then."""
    reseal(
        saved,
        lambda manifest: manifest.pop("calibration"),
        lambda arrays: arrays.pop("calibration_classes"),
    )
    detector = load_detector(saved, builtin_encoder)
    assert detector.offset_ == np.linspace(1, 2, 40)[threshold_rank(40, 0.1) - 1]
    assert detector.calibration_scores_ is not None
    assert (detector.calibration_classes_, detector.fpr_, detector.by_) == (None, None, None)
    assert detector.p_values_features(np.ones((1, 256))) == [1 / 41]
    with pytest.raises(NotFittedError, match="saved by an earlier version"):
        detector.threshold_groups()


def test_uncalibrated_detectors_are_saved_as_before(mcm: MCM, tmp_path: Path) -> None:
    mcm.save(tmp_path / "d")
    assert "calibration" not in json.loads((tmp_path / "d" / "detector.json").read_text("utf-8"))
    (file,) = (tmp_path / "d").glob("features-*.safetensors")
    assert set(load(file.read_bytes())) == {"class_features"}


def put(**values: Any) -> Callable[[dict[str, Any]], object]:
    return lambda arrays: arrays.update(
        {name: edit(arrays[name]) if callable(edit) else edit for name, edit in values.items()}
    )


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (put(calibration_classes=lambda a: a[:-1].copy()), "int64, one for each of 40 scores"),
        (put(calibration_classes=lambda a: a.astype(np.int32)), "int64, one for each of 40 scor"),
        (put(calibration_classes=lambda a: a * 1.0), "calibration_classes must be int64"),
        (put(calibration_classes=lambda a: a[None].copy()), "calibration_classes must be int64"),
        (put(calibration_classes=lambda a: a + 2), "calibration_classes must be from 0 to 4"),
        (put(calibration_classes=lambda a: a - 1), "calibration_classes must be from 0 to 4"),
        (lambda arrays: arrays.pop("calibration_classes"), "need the predicted class of each im"),
        (lambda arrays: arrays.pop("calibration_scores"), "int64, one for each of 0 scores"),
        (put(calibration_scores=lambda a: a + 1), "offset is .*, not .*, the threshold of the cal"),
    ],
)
def test_damaged_arrays(
    saved: Path, builtin_encoder: CLIPEncoder, edit: Callable[[Any], object], said: str
) -> None:
    reseal(saved, edit_arrays=edit)
    with pytest.raises(BundleError, match=f"is damaged .*{said}"):
        load_detector(saved, builtin_encoder)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"fpr": 0, "delta": None, "by": None}, r"calibration.fpr must lie in \(0, 1\), not 0"),
        ({"fpr": True, "delta": None, "by": None}, r"calibration.fpr must lie in \(0, 1\), not T"),
        ({"fpr": 0.1, "delta": 1, "by": None}, r"calibration.delta must lie in \(0, 1\) or be n"),
        ({"fpr": 0.1, "delta": None, "by": "x"}, "by must be None, .* not 'x'"),
        ({"fpr": 0.1, "delta": None}, "calibration must have the field 'by'"),
        ({"fpr": 0.3, "delta": None, "by": "class"}, "offset is .*, not .*, the threshold of the"),
        ({"fpr": 0.001, "delta": None, "by": None}, "too few for the saved false-alarm rate"),
        ({"fpr": 1e-300, "delta": 0.5, "by": "class"}, "too few for the saved false-alarm rate"),
        ([], "calibration must be an object"),
    ],
)
def test_damaged_facts(saved: Path, builtin_encoder: CLIPEncoder, value: Any, said: str) -> None:
    reseal(saved, lambda manifest: manifest.update(calibration=value))
    with pytest.raises(BundleError, match=f"is damaged .*{said}"):
        load_detector(saved, builtin_encoder)


def test_a_calibration_without_scores_is_damage(
    saved: Path, detectors: dict[str, Detector]
) -> None:
    reseal(
        saved,
        edit_arrays=lambda arrays: [
            arrays.pop(name) for name in ("calibration_scores", "calibration_classes")
        ],
    )
    with pytest.raises(BundleError, match="too few for the saved false-alarm rate"):
        load_detector(saved, detectors["mcm"].encoder)
