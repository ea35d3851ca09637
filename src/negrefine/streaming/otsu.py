"""Otsu's threshold between two groups of scores, on TANL's grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def otsu_threshold(scores: NDArray[np.float64]) -> float:
    """Return the threshold t of 0.00, 0.01, ..., 0.99 with the least variance on its two sides.

    Minimises w_0 var(scores < t) + w_1 var(scores >= t) with population variances and the shares of
    both sides as weights; a threshold with everything on one side counts as infinite. Of equal
    ones, as between two scores, the middle one is taken.
    """
    ordered = np.sort(scores)
    n = len(ordered)
    thresholds = np.arange(100) / 100
    below = np.searchsorted(ordered, thresholds, side="left")
    # Thresholds between the same two scores share one number, so that they tie exactly.
    spread = {0: np.inf, n: np.inf}
    for k in np.unique(below).tolist():
        if k not in spread:
            spread[k] = (k * ordered[:k].var() + (n - k) * ordered[k:].var()) / n
    values = np.array([spread[k] for k in below.tolist()])
    ties = np.flatnonzero(values == values.min())
    return float(thresholds[ties[len(ties) // 2]])
