"""Numbers behind the report's figures: ROC curves, histograms, AUROC of parts of a set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from negrefine.evaluation.results import Scores


def roc_points(
    id_scores: Scores, ood_scores: Scores, max_points: int = 500
) -> tuple[Scores, Scores]:
    """Return the ROC curve, in-distribution positive, as (fpr, tpr) from (0, 0) to (1, 1).

    With more than `max_points` distinct thresholds, points along the curve are left out at equal
    steps of fpr + tpr; every point left out is within 2 / (max_points - 2) of one that is kept,
    in the sum of both rates.
    """
    in_, out = np.sort(id_scores), np.sort(ood_scores)
    thresholds = np.unique(np.concatenate([in_, out]))[::-1]
    tpr = np.append(0.0, (len(in_) - np.searchsorted(in_, thresholds)) / len(in_))
    fpr = np.append(0.0, (len(out) - np.searchsorted(out, thresholds)) / len(out))
    if len(tpr) > max_points:
        # The first point of each step, and the last of all.
        step = np.floor((fpr + tpr) / 2 * (max_points - 2))
        kept = np.append(np.flatnonzero(np.diff(step, prepend=-1.0)), len(tpr) - 1)
        fpr, tpr = fpr[kept], tpr[kept]
    return fpr, tpr


def shared_bins(scores: Sequence[Scores], n_bins: int = 40) -> Scores:
    """Return n_bins + 1 equally spaced edges around all scores; a constant gets room."""
    low = min(float(values.min()) for values in scores)
    high = max(float(values.max()) for values in scores)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        room = max(abs(low), 1.0) / 2
        low, high = low - room, high + room
    return np.linspace(low, high, n_bins + 1)


def shares(scores: Scores, edges: Scores) -> Scores:
    """Return the fraction of the scores in each bin, (n_bins,)."""
    counts, _ = np.histogram(np.clip(scores, edges[0], edges[-1]), edges)
    return np.asarray(counts / len(scores), dtype=np.float64)


def mean_rank(scores: Scores, against: Scores) -> Scores:
    """Return for each score (n,) the fraction of `against` (m,), sorted, below it; ties count half.

    The mean over ID scores against OOD scores is `metrics.auroc`.
    """
    below = np.searchsorted(against, scores, "left") + np.searchsorted(against, scores, "right")
    return np.asarray(below / (2 * len(against)), dtype=np.float64)


def class_aurocs(id_scores: Scores, labels: NDArray[np.int64], ood_scores: Scores) -> Scores:
    """Return the AUROC of each class's ID images against all OOD images; NaN without ID images.

    Args:
        id_scores: (n,).
        labels: (n,), classes 0 to K - 1, or -1 for images to leave out.
        ood_scores: (m,).
    """
    known = labels >= 0
    ranks = mean_rank(id_scores[known], np.sort(ood_scores))
    n_classes = int(labels.max(initial=-1)) + 1
    counts = np.bincount(labels[known], minlength=n_classes)
    sums = np.bincount(labels[known], weights=ranks, minlength=n_classes)
    means: Scores = np.full(n_classes, np.nan)
    np.divide(sums, counts, out=means, where=counts > 0)
    return means
