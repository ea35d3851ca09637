"""From scores to decisions: a threshold with a conformal guarantee, p-values and verdicts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence, Sized
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from negrefine.detectors.conformal import (
    conformal_threshold,
    p_values,
    threshold_rank,
    too_few,
)
from negrefine.detectors.scoring import Scored
from negrefine.errors import InputError, NotFittedError
from negrefine.real_arrays import as_real

if TYPE_CHECKING:
    from negrefine.encoders.images import ImageSource


class Calibrated(Scored):
    """What a detector does with its scores; larger scores are more in-distribution.

    Attributes:
        offset_: The threshold that `predict` compares scores with; None until `calibrate`.
        calibration_scores_: float64 (n,), sorted, of the images that set it; None until then.
    """

    offset_: float | None
    calibration_scores_: NDArray[np.float64] | None

    def calibrate(
        self,
        images: Sequence[ImageSource],
        fpr: float = 0.05,
        *,
        delta: float | None = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Self:
        """Set the threshold so that at most a fraction `fpr` of in-distribution images is flagged.

        Split conformal prediction: P(flag | in-distribution) <= fpr for an image exchangeable with
        the n given ones, whatever the scores' distribution; without ties it is > fpr - 1 / (n + 1).
        See `negrefine.detectors.conformal`.

        Args:
            images: Images known to be in-distribution, not used for anything else.
            fpr: False-alarm rate, in (0, 1).
            delta: None bounds the rate over the draw of calibration and test images together. A
                number in (0, 1) asks for more: the rate of this one threshold is <= fpr with
                probability at least 1 - delta over the draw of independent calibration images.
            batch_size: As for `score_samples`, like `progress`.

        Copies of images in a list give a warning.

        Raises:
            InputError: Too few images (see `images_needed`), too few that differ, or a rate outside
                (0, 1).
        """
        from negrefine.encoders.images import check_is_list

        self._check_fitted()
        check_is_list(images)
        # A generator is read twice: for copies, and for scores.
        images = images if isinstance(images, Sized) else list(images)
        # Says what is wrong before minutes of encoding.
        conformal_threshold(np.zeros(len(images)), fpr, delta)
        if isinstance(images, (list, tuple, np.ndarray)):
            check_distinct(images, fpr, delta)
        scores = self.score_samples(images, batch_size=batch_size, progress=progress)
        return self.calibrate_scores(scores, fpr, delta=delta)

    def calibrate_features(
        self,
        features: ArrayLike,
        fpr: float = 0.05,
        *,
        patches: ArrayLike | None = None,
        delta: float | None = None,
    ) -> Self:
        """Do what `calibrate` does, from image features (n, d) and patch features (n, p, d)."""
        return self.calibrate_scores(self.score_features(features, patches), fpr, delta=delta)

    def calibrate_scores(
        self, scores: ArrayLike, fpr: float = 0.05, *, delta: float | None = None
    ) -> Self:
        """Do what `calibrate` does, from this detector's scores (n,) of in-distribution images."""
        self._check_fitted()
        given = as_real(scores, "Calibration scores")
        array = np.sort(given.astype(np.float64), axis=None)
        if given.ndim != 1 or not np.isfinite(array).all():
            raise InputError("Calibration scores must be finite numbers in one dimension.")
        self.offset_ = conformal_threshold(array, fpr, delta)
        self.calibration_scores_ = array
        if len(array) > 1 and array[0] == array[-1]:
            warnings.warn(
                f"All {len(array)} calibration scores are {array[0]:g}: a score that does not tell "
                "images apart gives a threshold that means nothing; check the class names and the "
                "images.",
                stacklevel=2,
            )
        return self

    def p_values(
        self, images: Sequence[ImageSource], *, batch_size: int = 64, progress: bool = False
    ) -> NDArray[np.float64]:
        """Return conformal p-values of images, float64 (n,): small means out-of-distribution.

        See `negrefine.detectors.conformal.p_values`: flagging p <= t gives at most a fraction t of
        false alarms. Raises NotFittedError before `calibrate`.
        """
        known = self._known_scores()
        return p_values(known, self.score_samples(images, batch_size=batch_size, progress=progress))

    def p_values_features(
        self, features: ArrayLike, patches: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Do what `p_values` does, from image features (n, d) and patch features (n, p, d)."""
        return p_values(self._known_scores(), self.score_features(features, patches))

    def decision_function(self, images: Sequence[ImageSource]) -> NDArray[np.float64]:
        """Return score minus threshold, float64 (n,): negative means out-of-distribution."""
        threshold = self._threshold()
        return self.score_samples(images) - threshold

    def predict(self, images: Sequence[ImageSource]) -> NDArray[np.int64]:
        """Return +1 for in-distribution and -1 for out-of-distribution images, int64 (n,)."""
        return np.where(self.decision_function(images) >= 0, 1, -1)

    def predict_features(
        self, features: ArrayLike, patches: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Do what `predict` does, from image features (n, d) and patch features (n, p, d)."""
        threshold = self._threshold()
        return np.where(self.score_features(features, patches) >= threshold, 1, -1)

    def classify(
        self, images: Sequence[ImageSource], *, batch_size: int = 64, progress: bool = False
    ) -> list[str | None]:
        """Return the most similar class name of each image, or None for "none of these".

        An image that `predict` flags has None. Each image is encoded once. Raises NotFittedError
        without a threshold, and ImageError for an image that cannot be read.
        """
        self._threshold()
        names: list[str | None] = []
        for features, patches in self._encode_blocks(images, batch_size, progress=progress):
            names += self.classify_features(features, patches)
        return names

    def classify_features(
        self, features: ArrayLike, patches: ArrayLike | None = None
    ) -> list[str | None]:
        """Do what `classify` does, from image features (n, d) and patch features (n, p, d)."""
        verdicts = self.predict_features(features, patches)
        indices, _ = self.nearest_classes(features, top=1)
        return [
            self.class_names_[index] if verdict > 0 else None
            for verdict, index in zip(verdicts, indices[:, 0], strict=True)
        ]

    def _threshold(self) -> float:
        self._check_fitted()
        if self.offset_ is None:
            raise NotFittedError(
                "No threshold is set: call calibrate(id_images, fpr=0.05), or set offset_."
            )
        return self.offset_

    def _known_scores(self) -> NDArray[np.float64]:
        self._check_fitted()
        if self.calibration_scores_ is None:
            raise NotFittedError(
                "There are no calibration scores to compare with: call "
                "calibrate(id_images, fpr=0.05)."
            )
        return self.calibration_scores_


def check_distinct(images: Sequence[ImageSource], fpr: float, delta: float | None) -> None:
    """Warn about copies among calibration images, which are no independent draws.

    Raises InputError if the images that differ are too few for the guarantee.
    """
    from negrefine.encoders.copies import first_copies

    n = len(set(first_copies(images)))
    n_copies = len(images) - n
    if not n_copies:
        return
    copies = f"{n_copies} of the {len(images)} calibration images are copies of others"
    if threshold_rank(n, fpr, delta) == 0:
        raise InputError(f"{copies}. {too_few(n, fpr, delta)}")
    warnings.warn(
        f"{copies}: the guarantee assumes images that were drawn independently; leave copies out.",
        stacklevel=3,
    )
