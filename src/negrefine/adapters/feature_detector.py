"""A detector on precomputed image features, with scikit-learn's API for outlier detection."""

from __future__ import annotations

from copy import copy

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from typing_extensions import Self

from negrefine.detectors.base import Detector
from negrefine.errors import InputError, NotFittedError


class FeatureDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Takes arrays (n, d) of image features where a `Detector` takes images.

    `fit` calibrates the threshold only. Cloning, which scikit-learn does in cross-validation and
    grid searches, keeps what was fitted on class names and drops the threshold.

    Args:
        detector: Fitted on class names; it is copied, never changed. Not one with `uses_patches`.
        fpr: False-alarm rate of the threshold; it, `delta` and `by` are as in `Detector.calibrate`.

    Attributes:
        detector_: The calibrated copy.
        offset_: Its threshold: `decision_function` is `score_samples` minus `offset_`, or with
            `by="class"` minus the threshold of the row's predicted class. Setting it by hand gives
            all rows this threshold.
        n_features_in_: d.
    """

    def __init__(
        self,
        detector: Detector,
        *,
        fpr: float = 0.05,
        delta: float | None = None,
        by: str | None = None,
    ) -> None:
        self.detector = detector
        self.fpr = fpr
        self.delta = delta
        self.by = by

    def __sklearn_clone__(self) -> Self:
        # A clone of the detector itself would have no class names. A copy lets the clone's
        # parameters, such as detector__alpha, differ.
        return type(self)(copy(self.detector), fpr=self.fpr, delta=self.delta, by=self.by)

    def fit(self, X: ArrayLike, y: object = None) -> Self:  # noqa: ARG002, N803
        """Set the threshold from features (n, d) of in-distribution images; y is ignored.

        Raises NotFittedError for a detector without class names, InputError for too few rows for
        the guarantee, rows of the wrong length, a rate outside (0, 1), or another `by`.
        """
        if self.detector.uses_patches:
            raise InputError(
                f"{type(self.detector).__name__} also scores patch features, which are not part of "
                "the array: use its own calibrate_features and score_features."
            )
        detector = copy(self.detector).calibrate_features(X, self.fpr, delta=self.delta, by=self.by)
        self.detector_ = detector
        self.n_features_in_ = detector.class_features_.shape[1]
        return self

    @property
    def offset_(self) -> float | None:
        """The threshold of all rows; see the class. AttributeError before `fit`."""
        offset: float | None = self.detector_.offset_
        return offset

    @offset_.setter
    def offset_(self, value: float) -> None:
        self._fitted().offset_ = value

    def score_samples(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Return float64 (n,); larger is more in-distribution."""
        return self._fitted().score_features(X)

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Return score minus threshold, float64 (n,); negative means out-of-distribution."""
        detector = self._fitted()
        return self.score_samples(X) - detector.image_thresholds(detector.predicted_classes(X))

    def predict(self, X: ArrayLike) -> NDArray[np.int64]:  # noqa: N803
        """Return +1 for in-distribution and -1 for out-of-distribution rows, int64 (n,)."""
        return np.where(self.decision_function(X) >= 0, 1, -1)

    def classify(self, X: ArrayLike) -> list[str | None]:  # noqa: N803
        """Return the most similar class name of each row, None for out-of-distribution ones."""
        return self._fitted().classify_features(X)

    def p_values(self, X: ArrayLike) -> NDArray[np.float64]:  # noqa: N803
        """Return conformal p-values, float64 (n,); small means out-of-distribution."""
        return self._fitted().p_values_features(X)

    def _fitted(self) -> Detector:
        if not hasattr(self, "detector_"):
            raise NotFittedError(
                "This FeatureDetector has no threshold: call fit(features) with features of "
                "in-distribution images first."
            )
        return self.detector_
