"""Thresholds with a guarantee: split conformal prediction on in-distribution scores.

Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005); for outlier detection
Bates et al., "Testing for outliers with conformal p-values" (Annals of Statistics 2023).
Larger scores are more in-distribution, and an image is flagged if its score is below the threshold.
"""

from __future__ import annotations

import math
import numbers
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negrefine.errors import InputError
from negrefine.real_arrays import as_real

_MOST = 2**62


def p_values(calibration: NDArray[np.float64], scores: ArrayLike) -> NDArray[np.float64]:
    """Return (1 + #{calibration scores <= score}) / (n + 1), float64 of the shape of `scores`.

    For an image exchangeable with the n calibration images, whose scores (n,) are sorted,
    P(p <= t) <= t for every t, whatever the distribution of the scores, ties included.
    """
    below = np.searchsorted(calibration, as_real(scores, "Scores").astype(np.float64), side="right")
    return np.asarray((1.0 + below) / (len(calibration) + 1.0))


def threshold_rank(n: int, fpr: float, delta: float | None = None) -> int:
    """Return m in 0..n: an image is flagged if its score is below the m-th smallest of n scores.

    Zero says that n images are too few. A score is below the m-th smallest exactly if at most m - 1
    calibration scores are <= it, that is, if its p-value is <= m / (n + 1). Without `delta`,
    m = floor(fpr (n + 1)), so that P(flag | in-distribution) <= m / (n + 1) <= fpr over calibration
    and test image together, with equality at the first sign for scores without ties. With `delta`,
    m is the largest rank with P(Binomial(n, fpr) <= m - 1) <= delta, so that the false-alarm rate
    of the threshold at hand is <= fpr with probability at least 1 - delta (independent images).
    Raises InputError for a rate outside (0, 1).
    """
    _check_rate("fpr", fpr)
    if delta is None:
        return math.floor(_decimal(fpr) * (n + 1))
    _check_rate("delta", delta)
    # scipy.stats takes a good part of a second to import.
    from scipy.stats import binom

    rank = int(binom.ppf(delta, n, fpr)) + 1
    while rank > 0 and binom.cdf(rank - 1, n, fpr) > delta:
        rank -= 1
    return rank


def images_needed(fpr: float, delta: float | None = None) -> int:
    """Return the smallest number of calibration images that can give the guarantee.

    It is ceil(1 / fpr) - 1, and with `delta` the smallest n with (1 - fpr)^n <= delta. Raises
    InputError for a rate outside (0, 1), and with `delta` for one that needs more than 2^62.
    """
    _check_rate("fpr", fpr)
    if delta is None:
        return math.ceil(1 / _decimal(fpr)) - 1
    _check_rate("delta", delta)
    about = math.log(delta) / math.log1p(-fpr)
    if about > _MOST:
        raise InputError(f"fpr = {fpr!r} needs more images than there are: give a larger rate.")
    n = max(1, math.floor(about) - 1)
    while threshold_rank(n, fpr, delta) == 0:
        # Of very large numbers the next one is the same in floating point.
        n += max(1, n >> 40)
    return n


def conformal_threshold(
    scores: NDArray[np.float64], fpr: float, delta: float | None = None
) -> float:
    """Return the threshold below which images are flagged, from sorted scores (n,).

    See `threshold_rank`. Raises InputError for too few scores or a rate outside (0, 1).
    """
    rank = threshold_rank(len(scores), fpr, delta)
    if rank == 0:
        raise InputError(too_few(len(scores), fpr, delta))
    return float(scores[rank - 1])


def too_few(n: int, fpr: float, delta: float | None = None) -> str:
    """Return the sentence that says how many images a guarantee needs."""
    need = images_needed(fpr, delta)
    certainty = "" if delta is None else f" with probability {1 - delta:g}"
    # Rounded up to four decimals, so that it is enough.
    lowest = math.ceil(10_000 / (n + 1)) / 10_000
    smallest = f" or ask for fpr >= {lowest:g}" if n and delta is None else ""
    return (
        f"A false-alarm rate of at most {fpr:g}{certainty} needs at least {need} in-distribution "
        f"images to calibrate on, not {n}: give more images{smallest}."
    )


def detection_interval(n_flagged: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of a rate of which n_flagged of n were observed.

    Raises InputError unless 0 <= n_flagged <= n, n >= 1 and 0 < confidence < 1.
    """
    _check_rate("confidence", confidence)
    if not 0 <= n_flagged <= n or n < 1:
        raise InputError(f"An interval needs 0 <= n_flagged <= n and n >= 1, not {n_flagged}, {n}.")
    from scipy.stats import beta

    tail = (1 - confidence) / 2
    low = 0.0 if n_flagged == 0 else float(beta.ppf(tail, n_flagged, n - n_flagged + 1))
    high = 1.0 if n_flagged == n else float(beta.ppf(1 - tail, n_flagged + 1, n - n_flagged))
    return low, high


def _decimal(rate: float) -> Fraction:
    """Return the rate as the decimal number that was written: 0.29 * 100 is 29, not 28.99..."""
    return Fraction(repr(float(rate)))


def _check_rate(name: str, rate: float) -> None:
    if not isinstance(rate, numbers.Real) or not 0 < rate < 1:
        raise InputError(f"{name} must lie strictly between 0 and 1, not {rate!r}.")
