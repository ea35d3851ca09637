"""Thresholds per predicted class: Mondrian conformal prediction.

A threshold of all images holds the false-alarm rate of all images, and may flag one class far more
often than another. Here the images of each predicted class are ranked among calibration images of
that class: a Mondrian conformal predictor (Vovk, Gammerman and Shafer, Algorithmic Learning in a
Random World, 2005, section 4.5) whose categories are the predicted classes.

A class needs m = `images_needed(fpr, delta)` calibration images for a threshold of its own. Which
classes have them depends on the calibration images, so it is decided in a way that treats
calibration images and the test image alike. Let n_c be the number of calibration images of class c,
and N_c that of calibration images and test image together, n_c + 1 for the test image's class and
n_c for all others. Categories are the classes with N_c > m, and one category, the pool, of all
classes with N_c <= m. They do not depend on which of the n + 1 images is the test image.

- The test image's class c has N_c > m exactly if n_c >= m; its category holds n_c other images.
- Otherwise n_c < m, and the others in the pool are the calibration images of all classes with
  n_c' <= m. The classes with exactly m are among them, although their own test images are not.

Given the n + 1 images without their order, and given that the test image is in a certain category,
it is each of the category's images with the same probability. So its p-value among the others of
its category is valid: P(p <= t | category) <= t, ties included. Therefore

- P(flag | in-distribution, predicted class c) <= fpr over all draws with n_c >= m, for each c;
- P(flag | in-distribution, predicted class is pooled) <= fpr. This is no bound for each of the
  pooled classes.

If the pool has fewer than m calibration images, which is as symmetric, its classes use the
threshold of all calibration images. What that one promises, P(flagged by it) <= fpr, is over images
of all classes: nothing is promised for these classes, nor exactly for all images together, whose
rate is at most fpr P(other groups) + min(fpr, P(this group)).

With `delta`, the threshold of each class holds with probability at least 1 - delta given n_c >= m,
because given the predicted classes the scores of a class are independent draws from one
distribution: for each class, not for all of them at once. For the pool this is an approximation,
since the shares of its classes among the calibration images are not those among future images.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negrefine.detectors.conformal import images_needed, p_values, threshold_rank
from negrefine.errors import InputError
from negrefine.real_arrays import as_real

BY_CLASS = "class"


@dataclass(frozen=True, slots=True)
class ThresholdGroup:
    """The predicted classes whose images share a threshold.

    An image of the group is flagged exactly if its p-value is <= rank / (n + 1).

    Attributes:
        kind: "all" ranks images among all calibration images, "class" among those of one class,
            "pooled" among those of the classes with few.
        classes: Indices of the class names.
        n: Number of calibration scores that an image is ranked among.
        rank: The threshold is the rank-th smallest of them.
        threshold: An image is flagged if its score is below it.
        n_own: Number of calibration images whose predicted class is one of `classes`.
    """

    kind: str
    classes: tuple[int, ...]
    n: int
    rank: int
    threshold: float
    n_own: int


@dataclass(frozen=True, slots=True, eq=False)
class RankedScores:
    """Calibration scores, and among which of them the images of each class are ranked.

    Attributes:
        scores: float64 (n,), sorted.
        classes: intp (n,), the predicted class of each.
        n_classes: K.
        fpr: As in `Detector.calibrate`, like `delta`.
        needed: Number of images that a group needs, `images_needed(fpr, delta)`.
    """

    scores: NDArray[np.float64]
    classes: NDArray[np.intp]
    n_classes: int
    fpr: float
    delta: float | None
    needed: int

    @classmethod
    def of(
        cls,
        scores: NDArray[np.float64],
        classes: NDArray[np.intp],
        n_classes: int,
        fpr: float,
        delta: float | None,
    ) -> RankedScores:
        """Take sorted scores that are enough for one threshold of all images."""
        return cls(scores, classes, n_classes, fpr, delta, images_needed(fpr, delta))

    @property
    def counts(self) -> NDArray[np.intp]:
        """Number of calibration images of each class, intp (K,)."""
        counts: NDArray[np.intp] = np.bincount(self.classes, minlength=self.n_classes)
        return counts

    def kinds(self) -> list[str]:
        """Return the kind of the group of each class."""
        counts = self.counts
        few = "pooled" if counts[counts <= self.needed].sum() >= self.needed else "all"
        return [BY_CLASS if count >= self.needed else few for count in counts.tolist()]

    def among(self, kind: str, index: int | None = None) -> NDArray[np.float64]:
        """Return the sorted scores that images of a group are ranked among.

        `index` is the class of a group of the kind "class".
        """
        return self.scores[self.members(kind, index)]

    def members(self, kind: str, index: int | None = None) -> NDArray[np.bool_]:
        """Return which scores images of a group are ranked among, bool (n,)."""
        if kind == "all":
            return np.ones(len(self.scores), dtype=np.bool_)
        if kind == BY_CLASS:
            own: NDArray[np.bool_] = self.classes == index
            return own
        # Classes with exactly as many as are needed, too: see the module.
        few: NDArray[np.bool_] = self.counts <= self.needed
        return few[self.classes]

    def groups(self) -> list[ThresholdGroup]:
        """Return the groups, those of one class first, in the order of the class names."""
        kinds = self.kinds()
        groups = [self._group(BY_CLASS, [k]) for k, kind in enumerate(kinds) if kind == BY_CLASS]
        others = [k for k, kind in enumerate(kinds) if kind != BY_CLASS]
        return groups + ([self._group(kinds[others[0]], others)] if others else [])

    def _group(self, kind: str, classes: list[int]) -> ThresholdGroup:
        scores = self.among(kind, classes[0])
        rank = threshold_rank(len(scores), self.fpr, self.delta)
        n_own = int(self.counts[classes].sum())
        threshold = float(scores[rank - 1])
        return ThresholdGroup(kind, tuple(classes), len(scores), rank, threshold, n_own)

    def equal_scores(self) -> list[int]:
        """Return the first class of each group whose scores, two or more, are all equal."""
        kinds = self.kinds()
        shared = [k for k, kind in enumerate(kinds) if kind != BY_CLASS][:1]
        firsts = [k for k, kind in enumerate(kinds) if kind == BY_CLASS] + shared
        ranked = [(k, self.among(kinds[k], k)) for k in firsts]
        return [k for k, scores in ranked if len(scores) > 1 and scores[0] == scores[-1]]

    def p_values(
        self, scores: NDArray[np.float64], classes: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return the p-values of images with these scores and predicted classes, float64 (m,)."""
        kinds = self.kinds()
        ranks = np.empty(len(scores))
        for index in np.unique(classes).tolist():
            images = classes == index
            ranks[images] = p_values(self.among(kinds[index], index), scores[images])
        return ranks


def one_group(
    scores: NDArray[np.float64], n_classes: int, fpr: float, delta: float | None
) -> ThresholdGroup:
    """Return the group of all classes, whose images are ranked among all sorted scores (n,)."""
    n = len(scores)
    rank = threshold_rank(n, fpr, delta)
    return ThresholdGroup("all", tuple(range(n_classes)), n, rank, float(scores[rank - 1]), n)


def offsets_of(groups: Iterable[ThresholdGroup], n_classes: int) -> NDArray[np.float64]:
    """Return the threshold of each class, float64 (K,)."""
    offsets = np.full(n_classes, np.nan)
    for group in groups:
        offsets[list(group.classes)] = group.threshold
    return offsets


def check_by(by: Any) -> None:
    """Raise InputError for anything but None and "class"."""
    if by is not None and not (isinstance(by, str) and by == BY_CLASS):
        raise InputError(
            f"by must be None, for one threshold, or 'class', for one of each class, not {by!r}."
        )


def check_classes(classes: ArrayLike, n: int | None, n_classes: int) -> NDArray[np.intp]:
    """Return the predicted classes of n images, any number if None, as intp (n,).

    Raises InputError for what are not n indices of class names.
    """
    array = as_real(classes, "classes")
    if array.ndim == 1 and not len(array):
        # Of an empty list, too, whose type says nothing.
        array = array.astype(np.intp)
    n = n if n is not None or array.ndim != 1 else len(array)
    if array.shape != (n,) or array.dtype.kind not in "iu":
        images, shape = ("image", "(n,)") if n is None else (f"of the {n} images", f"({n},)")
        raise InputError(
            f"classes must be the predicted class of each {images}, as whole numbers {shape}: "
            "predicted_classes(features) gives them."
        )
    if n and not (array.min() >= 0 and array.max() < n_classes):
        raise InputError(
            f"classes must be indices of class names, 0 to {n_classes - 1}, not "
            f"{array.min()} to {array.max()}."
        )
    return array.astype(np.intp)
