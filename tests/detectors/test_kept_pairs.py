"""The commonest pairs of the calibration images, which a saved detector keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import CLASS_NAMES
from negrefine import Lexicon, NegRefine, load_detector, load_encoder
from negrefine.detectors import bundle
from negrefine.detectors.kept_pairs import KeptPairs
from negrefine.encoders import CLIPEncoder
from negrefine.errors import BundleError


@pytest.fixture(scope="module")
def uncached() -> CLIPEncoder:
    return load_encoder("builtin", device="cpu", cache=False)


@pytest.fixture
def fitted(uncached: CLIPEncoder, small_lexicon: Lexicon) -> NegRefine:
    mining: dict[str, Any] = {"lexicon": small_lexicon, "lexicon_files": "full", "n_groups": 4}
    return NegRefine(uncached, judge="none", top_fraction=1.0, **mining).fit(CLASS_NAMES)


def test_calibration_images_are_scored_elsewhere_without_encoding_a_pair(
    fitted: NegRefine, uncached: CLIPEncoder, demo_pictures: list[Path], tmp_path: Path
) -> None:
    images = demo_pictures[:20]
    detector = fitted.with_params()
    assert detector.kept_pairs_ is None
    detector.calibrate(images, fpr=0.2)
    plain = detector.identity()
    kept = detector.kept_pairs_
    assert kept is not None
    assert kept.asked.sum() == 20 * 25
    assert (np.diff(kept.asked) <= 0).all()
    detector.save(tmp_path / "detector")
    loaded = load_detector(tmp_path / "detector", uncached)
    assert isinstance(loaded, NegRefine)
    assert loaded.identity() == plain
    np.testing.assert_allclose(
        loaded.score_samples(images), detector.score_samples(images), rtol=0, atol=1e-9
    )
    assert loaded.pair_lookups.asked == loaded.pair_lookups.from_memory == 20 * 25
    # Saved again without another calibration, it is the same files.
    loaded.save(tmp_path / "again")
    names = sorted(file.name for file in (tmp_path / "detector").iterdir())
    assert sorted(file.name for file in (tmp_path / "again").iterdir()) == names
    # Another filter has other labels.
    assert loaded.with_filter("none", drop=["hammer"]).kept_pairs_ is None


def test_a_detector_without_its_pairs_gives_the_same_scores(
    fitted: NegRefine,
    uncached: CLIPEncoder,
    demo_pictures: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = demo_pictures[:20]
    with_pairs = fitted.with_params().calibrate(images[:10], fpr=0.2)
    with_pairs.save(tmp_path / "with")
    monkeypatch.setattr(with_pairs, "kept_pairs_", None)
    with_pairs.save(tmp_path / "without")
    scores = []
    for name in ("with", "without"):
        loaded = load_detector(tmp_path / name, uncached)
        assert isinstance(loaded, NegRefine)
        scores.append(loaded.score_samples(images))
        encoded = loaded.pair_lookups.encoded
        assert encoded > 0
    np.testing.assert_allclose(scores[0], scores[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "damage", "said"),
    [
        ("pair_members", lambda a: a + 1_000_000, "must be indices of"),
        ("pair_members", lambda a: np.repeat(a[:1], len(a), axis=0), "has a pair twice"),
        ("pair_members", lambda a: a.astype(np.int32), "must be int64 of shape (n, 2)"),
        ("pair_asked", lambda a: -a, "a count for each of"),
        ("pair_features", lambda a: 2 * a, "not of length one"),
        ("pair_features", lambda a: a[1:], "they differ in number"),
        ("pair_asked", None, "pair_asked is missing"),
    ],
)
def test_pairs_that_do_not_fit(
    fitted: NegRefine,
    demo_pictures: list[Path],
    tmp_path: Path,
    name: str,
    damage: Any,
    said: str,
) -> None:
    detector = fitted.with_params().calibrate(demo_pictures[:6], fpr=0.3)
    arrays = {**detector._saved_arrays(), **detector._kept_arrays()}
    n_labels = len(detector.negatives_.texts)
    dim = detector.class_features_.shape[1]
    assert KeptPairs.from_arrays(arrays, len(CLASS_NAMES), n_labels, dim) is not None
    if damage is None:
        del arrays[name]
    else:
        arrays[name] = np.ascontiguousarray(damage(arrays[name]))
    bundle.write_bundle(tmp_path / "d", detector._facts(), arrays, detector._saved_tables())
    with pytest.raises(BundleError) as raised:
        load_detector(tmp_path / "d", detector.encoder)
    assert said in str(raised.value)
    assert "its parts do not fit together" in str(raised.value)
