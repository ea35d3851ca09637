"""NegRefine decides without S_MM where S_MM cannot change the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negrefine import Detector, NegRefine
from negrefine.detectors.multi_match import NamePairs
from negrefine.detectors.pair_embeddings import PairEmbeddings
from negrefine.errors import NotFittedError


class Counting:
    """Passes everything on and counts the texts to encode."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.n_texts = 0
        # What another test has encoded must not be taken from the disk.
        self.text_cache = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 1024) -> Any:
        self.n_texts += len(texts)
        return self._encoder.encode_texts(texts, batch_size)


def with_alpha(detectors: dict[str, Detector], alpha: float, offset: float | None) -> NegRefine:
    detector = copy(detectors["negrefine"])
    assert isinstance(detector, NegRefine)
    detector.alpha, detector.offset_ = alpha, offset
    return detector


def counted(detector: NegRefine) -> Counting:
    """Let a copy forget its pairs and count the texts it encodes from now on."""
    detector.encoder = counting = Counting(detector.encoder)
    embeddings = PairEmbeddings(counting, detector.prompts_.noun, detector.max_pairs)
    detector.pairs_ = NamePairs(embeddings, detector.class_names_, detector.negatives_.texts)
    return counting


def random_features(detector: NegRefine, seed: int, n: int = 6) -> Any:
    return np.random.default_rng(seed).normal(size=(n, detector.class_features_.shape[1]))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    alpha=st.sampled_from([-2.0, -0.3, 0.0, 0.3, 2.0]),
    offset=st.floats(-2.5, 3.5),
)
def test_verdicts_are_those_of_the_scores(
    detectors: dict[str, Detector], seed: int, alpha: float, offset: float
) -> None:
    detector = with_alpha(detectors, alpha, offset)
    features = random_features(detector, seed)
    plain = np.where(detector.score_features(features) >= offset, 1, -1)
    np.testing.assert_array_equal(detector.predict_features(features), plain)


@pytest.mark.parametrize("alpha", [-2.0, 0.3, 2.0])
def test_an_image_at_the_threshold_is_inside(detectors: dict[str, Detector], alpha: float) -> None:
    detector = with_alpha(detectors, alpha, None)
    features = random_features(detector, 0, n=60)
    scores = detector.score_features(features)
    for row, score in enumerate(scores):
        bounded = detector.score_features(features, threshold=float(score))
        assert bounded.verdicts[row] == 1
    # Each at its own.
    assert (detector.score_features(features, threshold=scores).verdicts == 1).all()


@pytest.mark.parametrize(
    ("alpha", "offset", "encodes"),
    [
        (2.0, -0.5, False),
        (2.0, 3.5, False),
        (-2.0, -2.5, False),
        (-2.0, 1.5, False),
        (2.0, 1.5, True),
        (-2.0, -0.5, True),
    ],
)
def test_pairs_are_encoded_only_where_the_verdict_is_open(
    detectors: dict[str, Detector], alpha: float, offset: float, encodes: bool
) -> None:
    detector = with_alpha(detectors, alpha, offset)
    counting = counted(detector)
    detector.predict_features(random_features(detector, 0))
    assert (counting.n_texts > 0) is encodes


def test_predict_agrees_on_pictures(detectors: dict[str, Detector], demo_pictures: Any) -> None:
    detector = with_alpha(detectors, 2.0, 1.0)
    plain = np.where(detector.score_samples(demo_pictures) >= 1.0, 1, -1)
    np.testing.assert_array_equal(detector.predict(demo_pictures), plain)


def test_no_threshold_is_an_error(detectors: dict[str, Detector]) -> None:
    detector = with_alpha(detectors, 2.0, None)
    with pytest.raises(NotFittedError, match="calibrate"):
        detector.predict_features(random_features(detector, 0))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    alpha=st.sampled_from([-2.0, 0.0, 0.3, 2.0]),
    threshold=st.floats(-2.5, 3.5),
)
def test_bounds_are_marked_and_true(
    detectors: dict[str, Detector], seed: int, alpha: float, threshold: float
) -> None:
    detector = with_alpha(detectors, alpha, None)
    features = random_features(detector, seed)
    plain = detector.score_features(features)
    bounded = detector.score_features(features, threshold=threshold)
    np.testing.assert_allclose(bounded.values[bounded.exact], plain[bounded.exact], atol=1e-9)
    inside = bounded.values >= threshold
    lower, upper = ~bounded.exact & inside, ~bounded.exact & ~inside
    # Two orders of summing may differ in the last digits.
    assert (bounded.values[lower] <= plain[lower] + 1e-9).all()
    assert (bounded.values[upper] >= plain[upper] - 1e-9).all()
    np.testing.assert_array_equal(bounded.verdicts, np.where(plain >= threshold, 1, -1))
    assert alpha != 0 or bounded.exact.all()


def test_images_get_the_bounds_of_their_features(
    detectors: dict[str, Detector], demo_pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("negrefine.detectors.scoring.SCORE_ROWS", 7)
    detector = with_alpha(detectors, 2.0, None)
    features = detector.encoder.encode_images(demo_pictures)
    scores = detector.score_features(features)
    # Between two scores, since features of other batches differ by rounding.
    threshold = float(np.sort(scores)[len(scores) // 2 - 1 :][:2].mean())
    bounded = detector.score_samples(demo_pictures, threshold=threshold, batch_size=4)
    assert len(bounded) == len(demo_pictures)
    assert bounded.threshold == threshold
    np.testing.assert_array_equal(bounded.verdicts, np.where(scores >= threshold, 1, -1))
    np.testing.assert_allclose(bounded.values[bounded.exact], scores[bounded.exact], atol=1e-5)
    detector.offset_ = threshold
    np.testing.assert_array_equal(detector.predict(demo_pictures), bounded.verdicts)


def test_one_sufficient_pair_spares_the_others(detectors: dict[str, Detector]) -> None:
    detector = with_alpha(detectors, 2.0, None)
    features = random_features(detector, 3, n=40)
    counting = counted(detector)
    scores = detector.score_features(features)
    all_texts = counting.n_texts
    lowest = float(detector.score_feature_parts(features)["neglabel"].max()) + 1e-6
    counting = counted(detector)
    threshold = max(lowest, float(np.quantile(scores, 0.1)))
    bounded = detector.score_features(features, threshold=threshold)
    np.testing.assert_array_equal(bounded.verdicts, np.where(scores >= threshold, 1, -1))
    assert 0 < counting.n_texts < all_texts
    assert not bounded.exact.all()
