"""From scores to decisions: a threshold with a conformal guarantee, p-values and verdicts."""

from __future__ import annotations

import warnings
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from negrefine.detectors.conformal import conformal_threshold, p_values
from negrefine.detectors.distinct_images import check_distinct, check_distinct_by_class
from negrefine.detectors.explanation import verdict_of
from negrefine.detectors.scoring import Scored
from negrefine.detectors.thresholds import (
    RankedScores,
    ThresholdGroup,
    check_by,
    check_classes,
    offsets_of,
    one_group,
)
from negrefine.errors import InputError, NotFittedError
from negrefine.real_arrays import as_real

if TYPE_CHECKING:
    from negrefine.encoders.images import ImageSource


@dataclass(frozen=True, slots=True)
class Decision:
    """What a detector decides about an image.

    Attributes:
        p_value: Conformal p-value, None without calibration scores.
        threshold: That the score is compared with, None without any.
        verdict: "ID" or "OOD", None without a threshold.
    """

    p_value: float | None
    threshold: float | None
    verdict: str | None


class Calibrated(Scored):
    """What a detector does with its scores; larger scores are more in-distribution.

    Attributes are None until `calibrate`, and `fit` resets them.

    Attributes:
        calibration_scores_: float64 (n,), sorted, of the images that set the threshold.
        calibration_classes_: intp (n,), the predicted class of each of these images: the index of
            the nearest class name. None if only scores were given.
        fpr_: The false-alarm rate that was asked for; None for a threshold set by hand.
        delta_: Its `delta`.
        by_: "class" if each class has its threshold, else None.
        class_offsets_: With `by_`, the threshold of each class, float64 (K,), else None.
    """

    calibration_scores_: NDArray[np.float64] | None = None
    calibration_classes_: NDArray[np.intp] | None = None
    fpr_: float | None = None
    delta_: float | None = None
    by_: str | None = None
    class_offsets_: NDArray[np.float64] | None = None

    @property
    def offset_(self) -> float | None:
        """The threshold of all images, with which `predict` compares scores unless `by_` is set.

        Setting it by hand gives all images this threshold: `fpr_`, `delta_`, `by_` and
        `class_offsets_` become None, because they say nothing about it. Calibration scores stay,
        and p-values then rank an image among all of them.
        """
        # In the instance's dictionary, where pickles and copies have always had it.
        offset: float | None = self.__dict__.get("offset_")
        return offset

    @offset_.setter
    def offset_(self, value: float | None) -> None:
        if value is not None and as_real(value, "offset_").ndim:
            raise InputError(
                "offset_ must be one number, the threshold of all images, or None: calibrate with "
                "by='class' sets thresholds by class."
            )
        self.__dict__["offset_"] = value
        self.fpr_ = self.delta_ = self.by_ = self.class_offsets_ = None

    def _forget_calibration(self) -> None:
        self.offset_ = self.calibration_scores_ = self.calibration_classes_ = None

    def _set_calibration(
        self,
        scores: NDArray[np.float64],
        classes: NDArray[np.intp] | None,
        fpr: float,
        delta: float | None,
        by: str | None,
    ) -> None:
        """Take up sorted scores (n,) and the thresholds that follow from them.

        Raises InputError for too few scores, a rate outside (0, 1), or `by` without classes.
        """
        check_by(by)
        if by is not None and classes is None:
            raise InputError(
                "Thresholds by class need the predicted class of each image beside its score: give "
                "classes, or call calibrate or calibrate_features."
            )
        offset = conformal_threshold(scores, fpr, delta)
        offsets = None
        if by is not None and classes is not None:
            n_classes = len(self.class_names_)
            groups = RankedScores.of(scores, classes, n_classes, fpr, delta).groups()
            offsets = offsets_of(groups, n_classes)
        self.offset_ = offset
        self.calibration_scores_, self.calibration_classes_ = scores, classes
        self.fpr_, self.delta_ = float(fpr), None if delta is None else float(delta)
        self.by_, self.class_offsets_ = by, offsets

    def calibrate(
        self,
        images: Sequence[ImageSource],
        fpr: float = 0.05,
        *,
        delta: float | None = None,
        by: str | None = None,
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
            by: "class" bounds the rate among the images of each predicted class, the nearest class
                name, with a threshold of its own where it has `images_needed(fpr, delta)` images
                or more; classes with fewer share one. See `negrefine.detectors.thresholds` for what
                is promised, and `threshold_groups` for which classes have what.
            batch_size: As for `score_samples`, like `progress`.

        Copies of images in a list give a warning.

        Raises:
            InputError: Too few images (see `images_needed`), too few that differ, a rate outside
                (0, 1), or another `by`.
        """
        from negrefine.encoders.images import check_is_list

        self._check_fitted()
        check_by(by)
        check_is_list(images)
        # A generator is read twice: for copies, and for scores.
        images = images if isinstance(images, Sized) else list(images)
        # Says what is wrong before minutes of encoding.
        conformal_threshold(np.zeros(len(images)), fpr, delta)
        listed = isinstance(images, (list, tuple, np.ndarray))
        firsts = check_distinct(images, fpr, delta) if listed else []
        scores, classes = self._scores_and_classes(images, batch_size, progress=progress)
        if by is not None and listed:
            check_distinct_by_class(firsts, classes, self.class_names_, fpr, delta)
        return self.calibrate_scores(scores, fpr, delta=delta, by=by, classes=classes)

    def calibrate_features(
        self,
        features: ArrayLike,
        fpr: float = 0.05,
        *,
        patches: ArrayLike | None = None,
        delta: float | None = None,
        by: str | None = None,
    ) -> Self:
        """Do what `calibrate` does, from image features (n, d) and patch features (n, p, d)."""
        scores = self.score_features(features, patches)
        classes = self.predicted_classes(features)
        return self.calibrate_scores(scores, fpr, delta=delta, by=by, classes=classes)

    def calibrate_scores(
        self,
        scores: ArrayLike,
        fpr: float = 0.05,
        *,
        delta: float | None = None,
        by: str | None = None,
        classes: ArrayLike | None = None,
    ) -> Self:
        """Do what `calibrate` does, from this detector's scores (n,) of in-distribution images.

        `classes` (n,) holds the predicted class of each image as `predicted_classes` gives it;
        `by="class"` needs it.
        """
        self._check_fitted()
        given = as_real(scores, "Calibration scores")
        array = given.astype(np.float64)
        if given.ndim != 1 or not np.isfinite(array).all():
            raise InputError("Calibration scores must be finite numbers in one dimension.")
        if classes is None:
            array, known = np.sort(array), None
        else:
            known = check_classes(classes, len(array), len(self.class_names_))
            # By class among equal scores, so that the order of the images leaves no trace.
            order = np.lexsort((known, array))
            array, known = array[order], known[order]
        self._set_calibration(array, known, fpr, delta, by)
        if len(array) > 1 and array[0] == array[-1]:
            warnings.warn(
                f"All {len(array)} calibration scores are {array[0]:g}: a score that does not tell "
                "images apart gives a threshold that means nothing; check the class names and the "
                "images.",
                stacklevel=2,
            )
        elif (ranked := self._ranked_scores()) and (same := ranked.equal_scores()):
            names = ", ".join(repr(self.class_names_[index]) for index in same[:5])
            warnings.warn(
                f"All calibration scores are equal in {len(same)} of the groups that have a "
                f"threshold ({names}{', ...' if len(same) > 5 else ''}): a score that does not "
                "tell images apart gives a threshold that means nothing.",
                stacklevel=2,
            )
        return self

    def predicted_classes(self, features: ArrayLike) -> NDArray[np.intp]:
        """Return the index of the nearest class name of image features (n, d), intp (n,)."""
        return self.nearest_classes(features, top=1)[0][:, 0]

    def threshold_groups(self) -> list[ThresholdGroup]:
        """Return which classes share which threshold; each class is in exactly one group.

        Raises NotFittedError unless `calibrate` has set the threshold: of one that was set by hand,
        or saved by a version that did not keep `fpr`, no rank is known.
        """
        scores = self._known_scores()
        if self.fpr_ is None:
            raise NotFittedError(
                "It is not known which false-alarm rate the threshold belongs to, because it was "
                "set by hand or saved by an earlier version: call calibrate(id_images, fpr=0.05)."
            )
        ranked = self._ranked_scores()
        if ranked is None:
            return [one_group(scores, len(self.class_names_), self.fpr_, self.delta_)]
        return ranked.groups()

    def _ranked_scores(self) -> RankedScores | None:
        """Return the calibration scores by class if each class has its threshold."""
        scores, classes = self.calibration_scores_, self.calibration_classes_
        if self.by_ is None or scores is None or classes is None or self.fpr_ is None:
            return None
        return RankedScores.of(scores, classes, len(self.class_names_), self.fpr_, self.delta_)

    def _threshold_kinds(self) -> list[str] | None:
        """Return the kind of the group of each class; None if one threshold is for all images."""
        ranked = self._ranked_scores()
        return None if ranked is None else ranked.kinds()

    def image_thresholds(self, classes: ArrayLike) -> NDArray[np.float64]:
        """Return the threshold of images by their `predicted_classes` (n,), float64 (n,).

        It is that of the image's class with `by_`, and `offset_` otherwise. Raises NotFittedError
        without a threshold, and InputError for what are not indices of class names.
        """
        threshold = self._threshold()
        known = check_classes(classes, None, len(self.class_names_))
        if self.class_offsets_ is None:
            return np.full(len(known), threshold)
        return self.class_offsets_[known]

    def p_values(
        self, images: Sequence[ImageSource], *, batch_size: int = 64, progress: bool = False
    ) -> NDArray[np.float64]:
        """Return conformal p-values of images, float64 (n,): small means out-of-distribution.

        See `negrefine.detectors.conformal.p_values`: flagging p <= t gives at most a fraction t of
        false alarms. With `by_`, an image is ranked among the calibration images of its group
        (`threshold_groups`). Raises NotFittedError before `calibrate`.
        """
        known = self._known_scores()
        if self.by_ is None:
            scores = self.score_samples(images, batch_size=batch_size, progress=progress)
            return p_values(known, scores)
        scores, classes = self._scores_and_classes(images, batch_size, progress=progress)
        return self.p_values_scores(scores, classes)

    def p_values_features(
        self, features: ArrayLike, patches: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Do what `p_values` does, from image features (n, d) and patch features (n, p, d)."""
        self._known_scores()
        scores = self.score_features(features, patches)
        return self.p_values_scores(scores, self.predicted_classes(features))

    def p_values_scores(self, scores: ArrayLike, classes: ArrayLike) -> NDArray[np.float64]:
        """Do what `p_values` does, from scores (n,) and `predicted_classes` (n,).

        Raises InputError for scores in another shape, and for what are not n indices of class
        names.
        """
        known = self._known_scores()
        array = as_real(scores, "Scores").astype(np.float64)
        if array.ndim != 1:
            raise InputError(f"Scores must be in one dimension, not of shape {array.shape}.")
        nearest = check_classes(classes, len(array), len(self.class_names_))
        ranked = self._ranked_scores()
        return p_values(known, array) if ranked is None else ranked.p_values(array, nearest)

    def decide(self, scores: NDArray[np.float64], classes: NDArray[np.intp]) -> list[Decision]:
        """Return what is decided from scores (n,) and `predicted_classes` (n,)."""
        ranks: list[float | None] = [None] * len(scores)
        thresholds: list[float | None] = [None] * len(scores)
        if self.calibration_scores_ is not None:
            ranks = list(self.p_values_scores(scores, classes).tolist())
        if self.offset_ is not None:
            thresholds = list(self.image_thresholds(classes).tolist())
        return [
            Decision(p, threshold, verdict_of(score, threshold))
            for score, p, threshold in zip(scores.tolist(), ranks, thresholds, strict=True)
        ]

    def decision_function(self, images: Sequence[ImageSource]) -> NDArray[np.float64]:
        """Return score minus threshold, float64 (n,): negative means out-of-distribution."""
        threshold = self._threshold()
        if self.by_ is None:
            return self.score_samples(images) - threshold
        scores, classes = self._scores_and_classes(images)
        return scores - self.image_thresholds(classes)

    def predict(self, images: Sequence[ImageSource]) -> NDArray[np.int64]:
        """Return +1 for in-distribution and -1 for out-of-distribution images, int64 (n,)."""
        return np.where(self.decision_function(images) >= 0, 1, -1)

    def predict_features(
        self, features: ArrayLike, patches: ArrayLike | None = None
    ) -> NDArray[np.int64]:
        """Do what `predict` does, from image features (n, d) and patch features (n, p, d)."""
        self._threshold()
        scores = self.score_features(features, patches)
        return np.where(scores >= self.image_thresholds(self.predicted_classes(features)), 1, -1)

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
        return [
            self.class_names_[index] if verdict > 0 else None
            for verdict, index in zip(verdicts, self.predicted_classes(features), strict=True)
        ]

    def _scores_and_classes(
        self, images: Sequence[ImageSource], batch_size: int = 64, *, progress: bool = False
    ) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
        """Return scores (n,) and predicted classes (n,) of images, each encoded once."""
        scores, classes = [], []
        for features, patches in self._encode_blocks(images, batch_size, progress=progress):
            scores.append(self.score_features(features, patches))
            classes.append(self.predicted_classes(features))
        return np.concatenate(scores), np.concatenate(classes)

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
