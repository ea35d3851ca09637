"""With thresholds by class, everything that decides uses the one of the predicted class."""

from __future__ import annotations

import warnings
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negrefine import Detector, NegRefine
from negrefine.adapters.feature_detector import FeatureDetector
from negrefine.adapters.frames import to_arrow
from negrefine.detectors.explanation import verdict_sentences
from negrefine.encoders import CLIPEncoder
from negrefine.errors import BundleError, InputError
from negrefine.evaluation.image_scores import calibrate_files, detect_files, score_files
from negrefine.evaluation.scored_image import score_rows

# Eight images are needed.
FPR = 0.12
METHODS = ["mcm", "neglabel", "csp", "negrefine"]


def random_features(seed: int, n: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(n, 256))


@pytest.fixture
def by_class(detectors: dict[str, Detector], request: pytest.FixtureRequest) -> Detector:
    """A detector whose classes have thresholds of their own, or share one."""
    detector = copy(detectors[getattr(request, "param", "negrefine")])
    detector.calibrate_features(random_features(0, 60), FPR, by="class")
    kinds = {group.kind for group in detector.threshold_groups()}
    assert kinds == {"class", "pooled"}
    assert detector.class_offsets_ is not None
    assert len(set(detector.class_offsets_.tolist())) > 3
    return detector


def plain_formula(detector: Detector, features: Any) -> tuple[Any, Any]:
    """Return scores and thresholds."""
    nearest = detector.nearest_classes(features, top=1)[0][:, 0]
    assert detector.class_offsets_ is not None
    return detector.score_features(features), detector.class_offsets_[nearest]


@pytest.mark.parametrize("by_class", METHODS, indirect=True)
def test_verdicts_and_p_values_of_features(by_class: Detector) -> None:
    features = random_features(1, 300)
    scores, thresholds = plain_formula(by_class, features)
    verdicts = by_class.predict_features(features)
    np.testing.assert_array_equal(verdicts == 1, scores >= thresholds)
    # The threshold of all images would decide otherwise.
    assert ((scores >= thresholds) != (scores >= by_class.offset_)).any()
    names = by_class.classify_features(features)
    assert [name is not None for name in names] == (verdicts == 1).tolist()
    group_of = {c: group for group in by_class.threshold_groups() for c in group.classes}
    small = [
        p <= group_of[c].rank / (group_of[c].n + 1)
        for p, c in zip(
            by_class.p_values_features(features), by_class.predicted_classes(features), strict=True
        )
    ]
    assert small == (verdicts == -1).tolist()


def test_the_same_of_pictures(by_class: Detector, demo_pictures: list[Path]) -> None:
    by_class.calibrate(demo_pictures[::2], 0.2, by="class")
    features = by_class.encoder.encode_images(demo_pictures)
    scores, thresholds = plain_formula(by_class, features)
    np.testing.assert_allclose(
        by_class.decision_function(demo_pictures), scores - thresholds, atol=1e-9
    )
    np.testing.assert_array_equal(by_class.predict(demo_pictures) == 1, scores >= thresholds)
    np.testing.assert_array_equal(
        by_class.p_values(demo_pictures), by_class.p_values_features(features)
    )
    found = by_class.classify(demo_pictures)
    assert [name is None for name in found] == (scores < thresholds).tolist()


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    alpha=st.sampled_from([-2.0, -0.3, 0.0, 0.3, 2.0]),
    spread=st.sampled_from([0.0, 0.2, 2.0]),
)
def test_early_verdicts_with_a_threshold_for_each_image(
    detectors: dict[str, Detector], seed: int, alpha: float, spread: float
) -> None:
    """NegRefine leaves S_MM out where the image's own threshold is decided without it."""
    detector = detectors["negrefine"].with_params(alpha=alpha)
    assert isinstance(detector, NegRefine)
    features = random_features(seed, 12)
    scores = detector.score_features(features)
    rng = np.random.default_rng(seed)
    # Near the scores, and some at them.
    thresholds = scores + spread * rng.normal(size=12) * (rng.random(12) < 0.8)
    bounded = detector.score_features(features, threshold=thresholds)
    # Two orders of summing may differ in the last digits, so scores at the threshold may, too.
    far = np.abs(scores - thresholds) > 1e-9
    np.testing.assert_array_equal((bounded.verdicts == 1)[far], (scores >= thresholds)[far])
    np.testing.assert_allclose(bounded.values[bounded.exact], scores[bounded.exact], atol=1e-9)
    one_by_one = [
        detector.score_features(features[i : i + 1], threshold=float(thresholds[i])).verdicts[0]
        for i in range(12)
    ]
    assert (bounded.verdicts == one_by_one)[far].all()


def test_thresholds_of_another_number_are_refused(detectors: dict[str, Detector]) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    with pytest.raises(InputError, match="one for each of the 3 images, not an array of shape"):
        detector.score_features(np.eye(3, 256), threshold=np.zeros(2))
    with pytest.raises(InputError, match="score_samples takes one threshold for all images: enc"):
        detector.score_samples([], threshold=np.zeros(2))  # type: ignore[call-overload]


def test_explanations(by_class: Detector) -> None:
    features = random_features(2, 80)
    scores, thresholds = plain_formula(by_class, features)
    p_values = by_class.p_values_features(features)
    explained = by_class.explain_features(features, unfiltered=True)
    said = set()
    for i, each in enumerate(explained):
        assert each.threshold == thresholds[i]
        assert each.verdict == ("ID" if scores[i] >= thresholds[i] else "OOD")
        assert each.p_value == p_values[i]
        ends = each.parts["neglabel"], each.parts["neglabel"] + 2.0
        clear = (ends[0] >= thresholds[i]) == (ends[1] >= thresholds[i])
        assert each.decided_by == ("neglabel" if clear else "multi_match")
        if each.unfiltered is not None:
            assert each.unfiltered.verdict == (
                "ID" if each.unfiltered.score >= thresholds[i] else "OOD"
            )
        name = each.classes[0].text
        (group,) = [
            group
            for group in by_class.threshold_groups()
            if by_class.class_names_.index(name) in group.classes
        ]
        assert each.threshold_kind == group.kind
        said.add(group.kind)
        of = {
            "class": f"of the class {name!r}",
            "pooled": f"of the classes with few calibration images, {name!r} among them",
        }
        first, second, *_ = verdict_sentences(each)
        assert first.endswith(f" threshold {thresholds[i]:.4f}.")
        assert second == f"The threshold is that {of[group.kind]}."
    assert said == {"class", "pooled"}
    by_class.calibrate_features(random_features(0, 60), FPR)
    plain = by_class.explain_features(features[:1])[0]
    assert plain.threshold == by_class.offset_
    assert plain.threshold_kind is None
    first, second, *_ = verdict_sentences(plain)
    assert first.endswith(f"threshold {by_class.offset_:.4f}.")
    assert second.startswith("Conformal p-value")


def test_rows(by_class: Detector) -> None:
    features = random_features(3, 100)
    scores, thresholds = plain_formula(by_class, features)
    rows = score_rows(by_class, features)
    assert [row.threshold for row in rows] == thresholds.tolist()
    assert [row.verdict == "ID" for row in rows] == (scores >= thresholds).tolist()
    assert [row.p_value for row in rows] == by_class.p_values_features(features).tolist()
    table = to_arrow(rows)
    place = table.column_names.index("verdict")
    assert table.column_names[place + 1] == "threshold"
    assert table["threshold"].to_pylist() == thresholds.tolist()
    by_class.calibrate_features(random_features(0, 60), FPR)
    rows = score_rows(by_class, features)
    assert {row.threshold for row in rows} == {None}
    assert "threshold" not in to_arrow(rows).column_names


def test_files(by_class: Detector, demo_pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"")
    known, new = demo_pictures[::2], demo_pictures[1::2]
    expected = copy(by_class).calibrate(known, 0.2, by="class")
    report = calibrate_files(by_class, [*known, tmp_path / "broken.png"], 0.2, by="class")
    assert by_class.threshold_groups() == expected.threshold_groups() == list(report.groups)
    assert by_class.identity() == expected.identity()
    assert (report.by, report.needed, report.n, len(report.errors)) == ("class", 4, len(known), 1)
    assert sum(report.class_counts) == report.n
    for group in report.groups:
        assert sum(report.class_counts[k] for k in group.classes) == group.n_own
        assert (group.kind == "class") == (report.class_counts[group.classes[0]] >= 4)
    found = detect_files(by_class, new)
    assert found.n_flagged == (by_class.predict(new) == -1).sum()
    rows = score_files(by_class, new)
    assert sum(row.verdict == "OOD" for row in rows) == found.n_flagged


def test_scikit_learn(detectors: dict[str, Detector]) -> None:
    from sklearn.base import clone

    known, new = random_features(0, 60), random_features(4, 200)
    outlier = FeatureDetector(detectors["mcm"], fpr=FPR, by="class").fit(known)
    detector = copy(detectors["mcm"]).calibrate_features(known, FPR, by="class")
    scores, thresholds = plain_formula(detector, new)
    np.testing.assert_array_equal(outlier.decision_function(new), scores - thresholds)
    np.testing.assert_array_equal(outlier.predict(new), detector.predict_features(new))
    np.testing.assert_array_equal(outlier.p_values(new), detector.p_values_features(new))
    assert outlier.classify(new) == detector.classify_features(new)
    again = clone(outlier)
    assert again.by == "class"
    assert not hasattr(again, "offset_")
    again.fit(known)
    np.testing.assert_array_equal(again.predict(new), outlier.predict(new))
    # Set by hand, it is the threshold of all rows.
    again.offset_ = float(np.median(scores))
    np.testing.assert_array_equal(again.decision_function(new), scores - again.offset_)
    assert again.classify(new).count(None) == (scores < again.offset_).sum()
    with pytest.raises(InputError, match="by must be None"):
        FeatureDetector(detectors["mcm"], by="rows").fit(known)


def test_warnings(
    detectors: dict[str, Detector], builtin_encoder: CLIPEncoder, demo_pictures: list[Path]
) -> None:
    detector = copy(detectors["mcm"])
    scores, classes = np.arange(30.0), np.repeat([0, 1, 2], 10)
    scores[classes == 1] = 15.0
    name = detector.class_names_[1]
    with pytest.warns(UserWarning, match=f"equal in 1 of the groups .*{name!r}"):
        detector.calibrate_scores(scores, 0.1, by="class", classes=classes)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.calibrate_scores(scores, 0.1, classes=classes)
    # Twelve images of two pictures are not enough for a threshold of their class.
    nearest = detector.predicted_classes(builtin_encoder.encode_images(demo_pictures))
    common = int(np.bincount(nearest).argmax())
    same = [p for p, k in zip(demo_pictures, nearest, strict=True) if k == common][:2]
    others = [p for p, k in zip(demo_pictures, nearest, strict=True) if k != common]
    images = [*same * 6, *others]
    for calibrate in (detector.calibrate, lambda *a, **k: calibrate_files(detector, *a, **k)):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            calibrate(images, 0.1, by="class")
        copies, of_class = [str(each.message) for each in caught]
        assert copies.startswith("10 of the ")
        assert of_class == (
            "Without copies, 1 of the classes would have too few images for a threshold of their "
            f"own, which needs 9: {detector.class_names_[common]!r} (2 of 12 differ)."
        )


def test_classes_that_are_none_are_refused(by_class: Detector) -> None:
    """A class that is missing, or counted from the end, would silently give other numbers."""
    features = random_features(5, 40)
    scores = by_class.score_features(features)
    classes = by_class.predicted_classes(features)
    ranks = by_class.p_values_scores(scores, classes)
    assert ranks.min() > 0
    listed = by_class.p_values_scores(scores.tolist(), classes.tolist())
    np.testing.assert_array_equal(listed, ranks)
    thresholds = by_class.image_thresholds(classes)
    np.testing.assert_array_equal(by_class.image_thresholds(classes.tolist()), thresholds)
    assert len(by_class.image_thresholds([])) == len(by_class.p_values_scores([], [])) == 0
    one_for_all = copy(by_class)
    one_for_all.offset_ = by_class.offset_
    wrong: list[Any] = [classes - 7, classes + 1, classes * 1.0, classes[:, None], classes[0]]
    for detector in (by_class, one_for_all):
        for given_classes in wrong:
            with pytest.raises(InputError, match="classes must be "):
                detector.p_values_scores(scores, given_classes)
            with pytest.raises(InputError, match="classes must be "):
                detector.image_thresholds(given_classes)
        with pytest.raises(InputError, match="of each of the 40 images"):
            detector.p_values_scores(scores, classes[:-1])
        with pytest.raises(InputError, match="Scores must be in one dimension"):
            detector.p_values_scores(scores[:, None], classes)


def test_thresholds_and_calibrations_set_by_hand(by_class: Detector, tmp_path: Path) -> None:
    changed = copy(by_class)
    for value in ("0.5", [0.25, 0.5], True):
        with pytest.raises(InputError, match="offset_ must be "):
            changed.offset_ = value  # type: ignore[assignment]
    # What was there is left as it was.
    np.testing.assert_array_equal(changed.class_offsets_, by_class.class_offsets_)
    known, classes = by_class.calibration_scores_, by_class.calibration_classes_
    assert known is not None
    assert classes is not None
    # These could not be loaded again.
    unlike: dict[str, Any] = {
        "calibration_scores_": known + 1,
        "calibration_classes_": classes[:-1],
        "fpr_": 0.5,
        "delta_": 0.3,
        "by_": "row",
    }
    for name, other in unlike.items():
        changed = copy(by_class)
        setattr(changed, name, other)
        with pytest.raises(BundleError, match="The detector cannot be saved: "):
            changed.save(tmp_path / "d")
    assert not (tmp_path / "d").exists()
