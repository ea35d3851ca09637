"""Exact laws of counts and ranks of two exchangeable samples.

All are functions of counts alone, computed in float64 from sums of positive terms, so that small
probabilities keep their relative precision.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray


def hypergeometric_tails(x: int, marked: int, drawn: int, total: int) -> tuple[float, float]:
    """Return P(X <= x) and P(X >= x) of X marked among `drawn` of `total` with `marked` marked."""
    from scipy.special import gammaln

    def log_choose(n: NDArray[np.float64], k: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))

    low, high = max(0, drawn + marked - total), min(marked, drawn)
    support = np.arange(low, high + 1, dtype=np.float64)
    whole, others = np.float64(marked), np.float64(total - marked)
    logs = log_choose(np.full_like(support, whole), support)
    logs += log_choose(np.full_like(support, others), drawn - support)
    terms = np.exp(logs - logs.max())
    terms /= terms.sum()
    at = x - low
    at_most = terms[: max(at + 1, 0)].sum()
    at_least = terms[max(at, 0) :].sum()
    return min(1.0, float(at_most)), min(1.0, float(at_least))


def beta_binomial_tails(flagged: int, n_images: int, rank: int, n: int) -> tuple[float, float]:
    """Return P(F <= flagged) and P(F >= flagged) of the number F of `n_images` that are flagged.

    F is beta-binomial(n_images, rank, n + 1 - rank): the images below the rank-th smallest of n
    calibration scores, all exchangeable and without ties. F <= f says that among the rank + f
    smallest of all scores at least `rank` are calibration scores, which is hypergeometric.
    """
    total = n + n_images
    _, at_most = hypergeometric_tails(rank, n, rank + flagged, total)
    if flagged == 0:
        return at_most, 1.0
    at_least, _ = hypergeometric_tails(rank - 1, n, rank + flagged - 1, total)
    return at_most, at_least


def two_sided(tails: tuple[float, float]) -> float:
    """Return the p-value of both tails: twice the smaller one, at most 1."""
    return min(1.0, 2 * min(tails))


def binomial_p_value(flagged: int, n_images: int, rate: float) -> float:
    """Return the two-sided exact binomial p-value against a rate."""
    from scipy.special import betainc

    at_most, at_least = 1.0, 1.0
    if flagged < n_images:
        at_most = float(betainc(n_images - flagged, flagged + 1, 1 - rate))
    if flagged > 0:
        at_least = float(betainc(flagged, n_images - flagged + 1, rate))
    return two_sided((at_most, at_least))


@lru_cache(maxsize=64)
def smirnov_tail(d: int, n: int, m: int) -> float:
    """Return P(max |b n - a m| >= d), the exact law of Smirnov's two-sample statistic n m D.

    The maximum is over the pairs (a, b) of how many of n and of m exchangeable values without ties
    are <= x, for all x. The (n + m)! / (n! m!) orders are equally likely; the sum runs over the
    step at which the path of (a, b) first leaves the band, in n + m steps of m + 1 numbers.
    """
    if d <= 0:
        return 1.0
    b = np.arange(m + 1, dtype=np.float64)
    inside = np.zeros(m + 1)
    inside[0] = 1.0
    outside = 0.0
    for t in range(1, n + m + 1):
        left = n + m - t + 1
        up = inside * ((m - b) / left)
        inside *= np.maximum(n - (t - 1 - b), 0.0) / left
        inside[1:] += up[:-1]
        # |b n - a m| = |b (n + m) - t m| < d in a range of b, as t = a + b.
        first = max(0, (t * m - d) // (n + m) + 1)
        last = min(m, (t * m + d - 1) // (n + m))
        outside += inside[:first].sum() + inside[last + 1 :].sum()
        inside[:first] = 0.0
        inside[last + 1 :] = 0.0
    return min(1.0, float(outside))


def spent(alpha: float, j: int) -> float:
    """Return the share of alpha for the j-th look, j = 1, 2, ...; all shares sum to alpha."""
    return 6 * alpha / (math.pi * j) ** 2


def holm(p_values: NDArray[np.float64], alpha: float, n_hypotheses: int) -> list[int]:
    """Return the positions that Holm's procedure rejects; the hypotheses left out have p = 1."""
    rejected: list[int] = []
    for i, position in enumerate(np.argsort(p_values, kind="stable").tolist()):
        if p_values[position] > alpha / (n_hypotheses - i):
            break
        rejected.append(position)
    return rejected
