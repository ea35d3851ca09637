"""Which class an image is, or that it is none, and classes that cannot be told apart."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from negrefine import GLMCM, MCM, Lexicon, MaxLogit, NegLabel, NegRefine
from negrefine.encoders import CLIPEncoder
from negrefine.encoders.copies import first_copies
from negrefine.errors import InputError, NotFittedError

NAMES = ["dog", "cat", "owl", "cat"]


@pytest.fixture(scope="module")
def features(builtin_encoder: CLIPEncoder, demo_pictures: list[Path]) -> np.ndarray:
    return builtin_encoder.encode_images(demo_pictures[:40])


def plain_cosines(detector: MCM, features: np.ndarray) -> np.ndarray:
    rows = features.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True) @ detector.class_features_.T


def test_nearest_classes_are_those_of_the_cosines(
    builtin_encoder: CLIPEncoder, features: np.ndarray
) -> None:
    detector = MCM(builtin_encoder).fit(NAMES[:3])
    indices, cosines = detector.nearest_classes(features, top=5)
    expected = plain_cosines(detector, features)
    order = np.argsort(-expected, axis=1, kind="stable")
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_allclose(cosines, np.take_along_axis(expected, order, 1), atol=1e-6)
    assert detector.nearest_classes(features[:0], top=2)[0].shape == (0, 2)
    with pytest.raises(InputError, match="top must be at least 1"):
        detector.nearest_classes(features, top=0)


def test_nearest_negatives_are_those_of_the_cosines(
    builtin_encoder: CLIPEncoder, features: np.ndarray, small_lexicon: Lexicon
) -> None:
    assert MCM(builtin_encoder).fit(NAMES[:3]).nearest_negatives(features) is None
    detector = NegLabel(builtin_encoder, lexicon=small_lexicon, n_groups=2).fit(NAMES[:3])
    found = detector.nearest_negatives(features, top=3)
    assert found is not None
    rows = features.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    expected = rows @ detector.negatives_.kept_features.astype(np.float64).T
    order = np.argsort(-expected, axis=1, kind="stable")[:, :3]
    np.testing.assert_array_equal(found[0], order)
    np.testing.assert_allclose(found[1], np.take_along_axis(expected, order, 1), atol=1e-6)
    nearest = detector.nearest_negatives(features)
    assert nearest is not None
    np.testing.assert_array_equal(nearest[0], order[:, :1])
    np.testing.assert_array_equal(nearest[1], found[1][:, :1])
    with pytest.raises(InputError, match="top must be at least 1"):
        detector.nearest_negatives(features, top=0)


def test_of_equal_cosines_the_first_name_is_nearest(
    builtin_encoder: CLIPEncoder, features: np.ndarray
) -> None:
    detector = MCM(builtin_encoder).fit(NAMES[:3])
    detector.class_features_ = detector.class_features_[[0, 1, 1]]
    indices, cosines = detector.nearest_classes(features, top=3)
    assert set(indices[:, 0]) == {0, 1}
    np.testing.assert_array_equal(detector.nearest_classes(features, top=1)[0], indices[:, :1])
    np.testing.assert_array_equal(detector.predicted_classes(features), indices[:, 0])
    ties = np.diff(cosines, axis=1) == 0
    assert ties.any(axis=1).all()
    assert (np.diff(indices, axis=1)[ties] > 0).all()


def test_a_runner_up_is_another_name(builtin_encoder: CLIPEncoder, features: np.ndarray) -> None:
    with pytest.warns(UserWarning, match="more than once"):
        detector = MCM(builtin_encoder).fit(NAMES)
    indices, _ = detector.nearest_classes(features, top=4)
    assert indices.shape == (len(features), 3)
    assert set(indices.ravel()) == {0, 1, 2}


def test_classify_is_the_nearest_class_of_unflagged_images(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path], features: np.ndarray
) -> None:
    detector = MCM(builtin_encoder).fit(NAMES[:3])
    with pytest.raises(NotFittedError, match="No threshold is set"):
        detector.classify(demo_pictures[:2])
    detector.offset_ = float(np.median(detector.score_features(features)))
    verdicts = detector.predict_features(features)
    nearest = plain_cosines(detector, features).argmax(axis=1)
    expected = [NAMES[i] if v > 0 else None for i, v in zip(nearest, verdicts, strict=True)]
    assert detector.classify_features(features) == expected
    assert detector.classify(demo_pictures[:40]) == expected
    assert None in expected
    assert len(set(expected)) > 2
    assert detector.classify([]) == []


def test_classify_with_patches_and_with_bounds(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path], small_lexicon: Lexicon
) -> None:
    pictures = demo_pictures[:20]
    matching = NegRefine(
        builtin_encoder, lexicon=small_lexicon, top_fraction=1.0, n_groups=2, judge="none"
    )
    for unfitted in (GLMCM(builtin_encoder), matching):
        detector = unfitted.fit(NAMES[:3]).calibrate(pictures, fpr=0.5)
        flagged = detector.predict(pictures) < 0
        assert [name is None for name in detector.classify(pictures)] == flagged.tolist()


@pytest.mark.parametrize("method", [MCM, GLMCM, partial(MCM, rule="entropy")])
@pytest.mark.parametrize("names", [["cat"], ["cat", "cat", "cat"]])
def test_one_class_is_refused_where_classes_are_compared(
    builtin_encoder: CLIPEncoder, method: Callable[..., MCM], names: list[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match="at least two different ones"):
            method(builtin_encoder).fit(names)


def test_one_class_is_enough_for_other_scores(
    builtin_encoder: CLIPEncoder, features: np.ndarray
) -> None:
    for method in (MaxLogit, lambda encoder: MCM(encoder, rule="max_logit")):
        detector = method(builtin_encoder).fit(["cat"])
        assert len(np.unique(detector.score_features(features))) > 20
    assert detector.nearest_classes(features)[0].tolist() == [[0]] * len(features)


def test_equal_scores_give_a_warning(builtin_encoder: CLIPEncoder) -> None:
    detector = MCM(builtin_encoder).fit(NAMES[:3])
    with pytest.warns(UserWarning, match="All 30 calibration scores are 0.5"):
        detector.calibrate_scores(np.full(30, 0.5), fpr=0.1)


def test_copies_of_calibration_images(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path], tmp_path: Path
) -> None:
    detector = MCM(builtin_encoder).fit(NAMES[:3])
    copy = tmp_path / "copy.png"
    copy.write_bytes(demo_pictures[0].read_bytes())
    with pytest.warns(UserWarning, match="1 of the 20 calibration images are copies"):
        detector.calibrate([*demo_pictures[:19], copy], fpr=0.1)
    with pytest.raises(InputError, match=r"19 of the 20 .* are copies of others\. A false-alarm"):
        detector.calibrate(demo_pictures[:1] * 20, fpr=0.05)


def test_copies_are_found_by_content(demo_pictures: list[Path], tmp_path: Path) -> None:
    first, second = demo_pictures[:2]
    same_size = tmp_path / "same-size.png"
    same_size.write_bytes(first.read_bytes()[:-1] + b"x")
    copy = tmp_path / "copy"
    copy.write_bytes(first.read_bytes())
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    images = [first, second, same_size, str(copy), pixels, pixels.copy(), pixels[::-1], "missing"]
    assert first_copies([*images, "missing"]) == [0, 1, 2, 0, 4, 4, 6, 7, 7]
