"""Percentile bootstrap over images, in-distribution and OOD images drawn independently."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]

METRICS = ("auroc", "fpr95", "aupr_in", "aupr_out")
"""What `resampled_metrics` gives, in this order; as in `negrefine.metrics`."""


@dataclass(frozen=True)
class _Ranked:
    """Scores of both sides as places among their distinct values, lowest first."""

    id_place: NDArray[np.intp]
    ood_place: NDArray[np.intp]
    n_values: int


def resampled_metrics(
    id_scores: Scores, ood_scores: Sequence[Scores], n_resamples: int, seed: int = 0
) -> NDArray[np.float64]:
    """Compute all metrics on resampled images.

    Args:
        id_scores: (n,), drawn anew once for each resample, the same for every OOD set.
        ood_scores: For each OOD set (m,).
        n_resamples: B.
        seed: Of the draws.

    Returns:
        float64 (B, sets, 4), the metrics of `METRICS`.
    """
    ranked = [_rank(id_scores, scores) for scores in ood_scores]
    result = np.empty((n_resamples, len(ranked), len(METRICS)))
    for b in range(n_resamples):
        # A generator for each draw: a set's interval does not depend on the sizes of the others.
        drawn = np.random.default_rng([seed, b, 0]).integers(0, len(id_scores), len(id_scores))
        for number, one in enumerate(ranked):
            rng = np.random.default_rng([seed, b, 1 + number])
            chosen = rng.integers(0, len(one.ood_place), len(one.ood_place))
            result[b, number] = metrics_of_counts(
                np.bincount(one.id_place[drawn], minlength=one.n_values),
                np.bincount(one.ood_place[chosen], minlength=one.n_values),
            )
    return result


def metrics_of_scores(id_scores: Scores, ood_scores: Scores) -> NDArray[np.float64]:
    """Return the metrics of `METRICS` of the scores themselves, float64 (4,)."""
    ranked = _rank(id_scores, ood_scores)
    return metrics_of_counts(
        np.bincount(ranked.id_place, minlength=ranked.n_values),
        np.bincount(ranked.ood_place, minlength=ranked.n_values),
    )


def metrics_of_counts(
    id_counts: NDArray[np.intp], ood_counts: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Return the metrics of scores that are given as counts at ascending values.

    Args:
        id_counts: (v,), in-distribution images with each value; one at least is not 0.
        ood_counts: (v,), the same of OOD images.
    """
    n, m = int(id_counts.sum()), int(ood_counts.sum())
    ood_below = np.cumsum(ood_counts) - ood_counts
    auroc = float(id_counts @ (ood_below + 0.5 * ood_counts)) / (n * m)
    id_from, ood_from = _from_above(id_counts), _from_above(ood_counts)
    # A value that no drawn image has is no threshold, nor is one below every drawn ID score.
    usable = ((id_counts + ood_counts) > 0) & (np.cumsum(id_counts) > 0)
    distance = np.where(usable, np.abs(id_from / n - 0.95), np.inf)
    fpr95 = ood_from[np.argmin(distance)] / m
    aupr_in = float(id_counts @ _ratio(id_from, id_from + ood_from)) / n
    id_to, ood_to = np.cumsum(id_counts), np.cumsum(ood_counts)
    aupr_out = float(ood_counts @ _ratio(ood_to, ood_to + id_to)) / m
    return np.array([auroc, fpr95, aupr_in, aupr_out])


def _from_above(counts: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return how many have each value or a larger one."""
    return np.cumsum(counts[::-1])[::-1]


def _ratio(part: NDArray[np.intp], whole: NDArray[np.intp]) -> NDArray[np.float64]:
    return part / np.maximum(whole, 1)


def _rank(id_scores: Scores, ood_scores: Scores) -> _Ranked:
    values, places = np.unique(np.concatenate([id_scores, ood_scores]), return_inverse=True)
    return _Ranked(places[: len(id_scores)], places[len(id_scores) :], len(values))
