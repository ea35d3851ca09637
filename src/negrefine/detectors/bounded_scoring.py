"""What NegRefine does where only the side of a threshold is asked for: fewer pairs to encode."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negrefine.detectors.alpha_rules import AlphaRules
from negrefine.detectors.bounded_scores import BoundedScores, bounded_scores
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.multi_match import MultiMatch
from negrefine.detectors.scoring import SCORE_ROWS
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.encoders.images import ImageSource

# Far more than the rounding of scores, far less than their differences.
_CLOSE = 1e-9


class BoundedScoring(AlphaRules):
    """A detector with S = S_NegLabel + alpha S_MM, whose verdicts need not all of S_MM."""

    k: int

    @abstractmethod
    def _match(self, images: ImageBlock, ranks: slice = slice(None)) -> MultiMatch:
        """Compare images with their pairs, of the class names at some ranks."""

    @overload
    def score_samples(
        self,
        images: Sequence[ImageSource],
        *,
        batch_size: int = 64,
        progress: bool = False,
        threshold: None = None,
    ) -> NDArray[np.float64]: ...
    @overload
    def score_samples(
        self,
        images: Sequence[ImageSource],
        *,
        batch_size: int = 64,
        progress: bool = False,
        threshold: float,
    ) -> BoundedScores: ...
    def score_samples(
        self,
        images: Sequence[ImageSource],
        *,
        batch_size: int = 64,
        progress: bool = False,
        threshold: float | None = None,
    ) -> NDArray[np.float64] | BoundedScores:
        """Score images, float64 (n,), or with a threshold `BoundedScores`; see `score_features`."""
        if threshold is None:
            return super().score_samples(images, batch_size=batch_size, progress=progress)
        self._check_fitted()
        if np.ndim(threshold):
            raise InputError(
                "score_samples takes one threshold for all images: encode them and call "
                "score_features for one of each image."
            )
        return BoundedScores.concatenate(
            [
                self.score_features(features, threshold=threshold)
                for features, _ in self._encode_blocks(images, batch_size, progress=progress)
            ]
        )

    @overload
    def score_features(
        self, features: ArrayLike, patches: ArrayLike | None = None, *, threshold: None = None
    ) -> NDArray[np.float64]: ...
    @overload
    def score_features(
        self,
        features: ArrayLike,
        patches: ArrayLike | None = None,
        *,
        threshold: float | NDArray[np.float64],
    ) -> BoundedScores: ...
    def score_features(
        self,
        features: ArrayLike,
        patches: ArrayLike | None = None,
        *,
        threshold: float | NDArray[np.float64] | None = None,
    ) -> NDArray[np.float64] | BoundedScores:
        """Return float64 (n,) scores of image features (n, d), or bounds of them.

        With a threshold, such as `offset_`, or one for each image, float64 (n,), images whose side
        of it is clear without S_MM need no pair embedding; see `negrefine.detectors.bounded_scores`
        and `score_feature_parts`.
        """
        if threshold is None:
            return super().score_features(features, patches)
        needed = ["neglabel", *self._factor_names()]
        parts = self.score_feature_parts(features, patches, only=needed)
        array = self._check_features(features)

        def multi_match(images: ImageBlock, rank: int) -> NDArray[np.float64]:
            scores: NDArray[np.float64] = self._match(images, slice(rank, rank + 1)).score().numpy()
            return scores

        found = bounded_scores(
            *self.score_terms(parts),
            threshold,
            n_ranks=min(self.k, len(self.class_names_)),
            block=lambda rows: self._block(array[rows]),
            multi_match=multi_match,
        )
        self._settle_ties(found, array)
        return found

    def _settle_ties(self, found: BoundedScores, features: FloatArray) -> None:
        """Give images at the threshold the score that they have without a threshold.

        Sums over other blocks of images and pairs differ in the last digits, which would decide
        about the very calibration image that set the threshold.
        """
        (close,) = np.nonzero(np.abs(found.values - found.threshold) <= _CLOSE)
        for start in np.unique(close // SCORE_ROWS * SCORE_ROWS):
            rows = close[(close >= start) & (close < start + SCORE_ROWS)]
            plain = super().score_features(features[start : start + SCORE_ROWS])
            found.values[rows], found.exact[rows] = plain[rows - start], True

    def predict(self, images: Sequence[ImageSource]) -> NDArray[np.int64]:
        """Return +1 for in-distribution and -1 for out-of-distribution images, int64 (n,).

        S_MM is left out where it cannot change the verdict; see `score_features`.
        """
        self._threshold()
        blocks = self._encode_blocks(images, 64, progress=False)
        return np.concatenate([self.predict_features(features) for features, _ in blocks])

    def predict_features(
        self, features: ArrayLike, patches: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Do what `predict` does, from image features (n, d)."""
        threshold: float | NDArray[np.float64] = self._threshold()
        if self.by_ is not None:
            threshold = self.image_thresholds(self.predicted_classes(features))
        return self.score_features(features, patches, threshold=threshold).verdicts
