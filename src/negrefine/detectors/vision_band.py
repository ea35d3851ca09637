"""The band around a threshold in which a second opinion is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negrefine.errors import InputError


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """Where |S - threshold| < width, fixed before anything is decided with the second opinion.

    Attributes:
        thresholds: float64, one (1,), or one of each class (K,), or none (0,).
        width: None is everywhere.
    """

    thresholds: NDArray[np.float64]
    width: float | None

    def check(self) -> None:
        """Raise InputError for a width around no threshold."""
        if self.width is not None and not len(self.thresholds):
            raise InputError(
                "A band is around the threshold of NegRefine, which has none: calibrate it first, "
                "or leave the band out to ask about every image."
            )

    def centre(self, classes: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the threshold of images with these predicted classes (n,), float64 (n,)."""
        if len(self.thresholds) > 1:
            return self.thresholds[classes]
        return np.broadcast_to(self.thresholds, classes.shape)

    def contains(self, scores: NDArray[np.float64], classes: NDArray[np.intp]) -> NDArray[np.bool_]:
        """Return which scores (n,), of images with these predicted classes, lie in it."""
        self.check()
        if self.width is None:
            return np.ones(len(scores), dtype=bool)
        inside: NDArray[np.bool_] = np.abs(scores - self.centre(classes)) < self.width
        return inside

    def confine(
        self, scores: NDArray[np.float64], classes: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return scores (n,) with those beyond its ends moved to the ends."""
        if self.width is None:
            return scores
        centre = self.centre(classes)
        confined: NDArray[np.float64] = np.clip(scores, centre - self.width, centre + self.width)
        return confined


def moved_threshold(
    threshold: float, old_scores: NDArray[np.float64], new_scores: NDArray[np.float64]
) -> float:
    """Return the threshold of new scores (n,) of images under which as many are as were before.

    InputError if all images were under the old threshold, which then has no place among the new.

        >>> moved_threshold(0.5, np.array([0.1, 0.6, 0.7]), np.array([3.0, 1.0, 2.0]))
        2.0
    """
    below = int((old_scores < threshold).sum())
    if below == len(new_scores):
        raise InputError(
            "All in-distribution images score under the threshold that the band is around, so it "
            "has no place for another alpha: give other images, or leave out alpha or the band."
        )
    return float(np.sort(new_scores)[below])
