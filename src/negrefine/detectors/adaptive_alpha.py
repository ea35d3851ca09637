"""The weight of S_MM for each image: alpha times a factor that the image has.

NegRefine's alpha is 2 for every image. The rules here are none of the paper's, which leaves an
adaptive alpha open, and none is published elsewhere:

- "constant": the factor is 1, as published.
- "uncertain": 4 p (1 - p) with p = S_NegLabel, `uncertain_factor`. Where S_NegLabel has decided,
  S_MM has little to say.
- "class": one factor for each predicted class, chosen from in-distribution images alone,
  `factors_by_class`.

The attainable range of a score S_NegLabel + a S_MM is 1 + |a|, because both parts are in [0, 1]. So
images with different alphas have scores that mean different things: with "uncertain" and S_MM near
1, p = 0.5 gives 2.5 and p = 1 gives 1, and what is certainly of a class ranks last.
"uncertain-scaled" and "class-scaled" multiply the score by (1 + |alpha|) / (1 + |a|), which gives
all images the range of the published score. It is then a mean of the two parts with weights of the
image's own, times 1 + |alpha|.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negrefine.errors import InputError
from negrefine.real_arrays import as_real

CONSTANT, UNCERTAIN, BY_CLASS, SCALED = "constant", "uncertain", "class", "-scaled"
ALPHA_RULES = (CONSTANT, UNCERTAIN, BY_CLASS, UNCERTAIN + SCALED, BY_CLASS + SCALED)
"""The names of the rules, the published one first."""

FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)
"""What the factors of classes are chosen among."""

LARGEST_FACTOR = 1000.0
"""More would drown S_NegLabel in the digits of the sum."""

LEAST_IMAGES = 20
"""Images that a class needs for a factor of its own."""

# A spread must be smaller by more than what two orders of summing differ by.
_LEAST_GAIN = 1e-12


def uncertain_factor(neglabel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return 4 p (1 - p) with p = S_NegLabel clipped to [0, 1], float64 (n,) in [0, 1].

    It is 1 where p is 0.5 and 0 where p is 0 or 1.

    >>> uncertain_factor(np.array([0.0, 0.5, 0.75, 1.2])).tolist()
    [0.0, 1.0, 0.75, 0.0]
    """
    p = np.clip(neglabel, 0.0, 1.0)
    factor: NDArray[np.float64] = 4.0 * p * (1.0 - p)
    return factor


def relative_spread(
    neglabel: NDArray[np.float64], multi_match: NDArray[np.float64], alpha: float
) -> float:
    """Return the deviation of S_NegLabel + alpha S_MM over its attainable range 1 + |alpha|.

    It is the standard deviation of a weighted mean of the two parts (n,), up to a sign, and so
    comparable between values of alpha.
    """
    return float(np.std(neglabel + alpha * multi_match)) / (1.0 + abs(alpha))


@dataclass(frozen=True, slots=True, eq=False)
class ClassFactors:
    """The factors of K classes, and what they were chosen from.

    Attributes:
        factors: float64 (K,).
        counts: Number of images of each predicted class, intp (K,).
        least: A class with this many images has a factor of its own.
        pooled: The factor of the other classes was chosen on their images together; False if even
            these were too few, so that they have the published factor 1.
    """

    factors: NDArray[np.float64]
    counts: NDArray[np.intp]
    least: int
    pooled: bool

    @property
    def n_own(self) -> int:
        """Number of classes with a factor of their own."""
        return int((self.counts >= self.least).sum())


def factors_by_class(
    neglabel: NDArray[np.float64],
    multi_match: NDArray[np.float64],
    classes: NDArray[np.intp],
    n_classes: int,
    alpha: float,
    *,
    factors: ArrayLike = FACTORS,
    least: int = LEAST_IMAGES,
) -> ClassFactors:
    """Choose a factor for each class that leaves in-distribution images the smallest spread.

    For the n images of one predicted class, the factor f minimises `relative_spread` at
    alpha f. Of equal ones the nearest to 1 is taken, and then the smaller. Classes with fewer than
    `least` images share one factor, chosen on all their images together; if these are fewer than
    `least`, too, it is 1.

    Why: a threshold lets in-distribution images pass that lie within some multiple of the spread
    below their mean, so where outliers fall anywhere in the attainable range alike, the fewest of
    them pass where the in-distribution images take up the least of it. That is a guess about
    outliers and not knowledge: a part that is the same for all images, outliers included, has no
    spread and tells nothing. The factors are bounded for this reason, by 2 with the default.

    Scores of classes with different factors have different ranges, so a threshold for each class
    (`calibrate(by="class")`) suits them, and one threshold for all images may not.

    Args:
        neglabel: S_NegLabel of in-distribution images (n,), none of which may calibrate.
        multi_match: S_MM of the same images (n,).
        classes: Their predicted classes, intp (n,).
        n_classes: K.
        alpha: What the factors multiply.
        factors: Candidates, numbers from 0 to `LARGEST_FACTOR`.
        least: At least 2.

    Raises InputError for candidates or numbers of images that cannot be used.

    >>> s, m = np.tile([0.2, 0.8], 10), np.full(20, 0.5)
    >>> factors_by_class(s, m, np.zeros(20, dtype=np.intp), 2, 2.0).factors.tolist()
    [2.0, 1.0]
    """
    candidates = _checked(factors, least)
    if not len(neglabel):
        raise InputError("There are no images to choose alphas on: give in-distribution images.")
    counts: NDArray[np.intp] = np.bincount(classes, minlength=n_classes)
    few = (counts < least)[classes]
    pooled = int(few.sum()) >= least
    shared = _best(neglabel[few], multi_match[few], alpha, candidates) if pooled else 1.0
    chosen = np.full(n_classes, shared)
    for index in np.flatnonzero(counts >= least).tolist():
        own = classes == index
        chosen[index] = _best(neglabel[own], multi_match[own], alpha, candidates)
    return ClassFactors(chosen, counts, least, pooled)


def _best(
    neglabel: NDArray[np.float64],
    multi_match: NDArray[np.float64],
    alpha: float,
    candidates: Sequence[float],
) -> float:
    best, smallest = candidates[0], np.inf
    for factor in candidates:
        spread = relative_spread(neglabel, multi_match, alpha * factor)
        if spread < smallest - _LEAST_GAIN:
            best, smallest = factor, spread
    return best


def _checked(factors: ArrayLike, least: int) -> list[float]:
    """Return the candidates, those nearest to 1 first."""
    array = as_real(factors, "factors").astype(np.float64)
    if array.ndim != 1 or not len(array) or not ((array >= 0) & (array <= LARGEST_FACTOR)).all():
        raise InputError(f"factors must be one or more numbers from 0 to {LARGEST_FACTOR:g}.")
    if isinstance(least, bool) or not isinstance(least, (int, np.integer)) or least < 2:
        raise InputError(f"least must be a whole number of at least 2, not {least!r}.")
    return sorted(np.unique(array).tolist(), key=lambda factor: (abs(factor - 1.0), factor))
