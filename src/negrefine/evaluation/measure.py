"""The metrics of scores on several OOD sets, with bootstrap intervals over images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from negrefine.evaluation.results import MEAN, Measured, Result, Scores, SetScores
from negrefine.metrics import operating_position

Counts = NDArray[np.intp]

N_METRICS = 5
"""The metrics of a `Result`, in its order."""
# With fewer images, 95 % of a set is all of it or less than the nominal rate.
_FEW_IMAGES = 20


def measure(
    method: str,
    id_scores: Sequence[Scores],
    ood_scores: Mapping[str, Sequence[Scores]],
    n_bootstrap: int = 0,
) -> list[Result]:
    """Return metrics of one method on each OOD set and, last, their "mean" over the sets.

    `id_scores` has (n,) for each seed, `ood_scores` (m,) for each OOD set and seed. The 95 %
    intervals, of the first seed, take `n_bootstrap` resamples; 0 for none.
    """
    measured = [
        [metrics_of_scores(inside, by_seed[i]) for by_seed in ood_scores.values()]
        for i, inside in enumerate(id_scores)
    ]
    values = with_mean(np.array(measured))
    ends = np.full((2, *values.shape[1:]), None)
    if n_bootstrap:
        first = [by_seed[0] for by_seed in ood_scores.values()]
        resampled = with_mean(resampled_metrics(id_scores[0], first, n_bootstrap))
        ends = np.quantile(resampled, (0.025, 0.975), axis=0).astype(object)
    return [
        Result(
            method, name, *(_measured(values[:, i, j], *ends[:, i, j]) for j in range(N_METRICS))
        )
        for i, name in enumerate([*ood_scores, MEAN])
    ]


def measure_accuracy(is_correct: NDArray[np.bool_], n_bootstrap: int = 0) -> Measured | None:
    """Return the fraction of correct classifications (n,) with its interval, None if n = 0."""
    if not len(is_correct):
        return None
    accuracy = float(is_correct.mean())
    if not n_bootstrap:
        return Measured(accuracy)
    rng = np.random.default_rng(0)
    resampled = rng.binomial(len(is_correct), accuracy, n_bootstrap) / len(is_correct)
    low, high = np.quantile(resampled, (0.025, 0.975))
    return Measured(accuracy, float(low), float(high))


def resampled_metrics(
    id_scores: Scores, ood_scores: Sequence[Scores], n_resamples: int, seed: int = 0
) -> NDArray[np.float64]:
    """Return the metrics of a `Result` on images drawn with replacement, float64 (B, sets, 5).

    ID scores (n,) and the scores (m,) of each OOD set are drawn independently of each other, ID
    images once per resample, the same ones for every OOD set. Which images are drawn depends on
    their numbers and `seed` alone: other scores of the same images are measured on the same ones.
    """
    ranked = [_ranks(id_scores, scores) for scores in ood_scores]
    result = np.empty((n_resamples, len(ranked), N_METRICS))
    for b in range(n_resamples):
        # A generator for each draw: a set's interval does not depend on the sizes of the others.
        id_drawn = np.random.default_rng([seed, b, 0]).integers(0, len(id_scores), len(id_scores))
        for i, (id_ranks, ood_ranks) in enumerate(ranked):
            rng = np.random.default_rng([seed, b, 1 + i])
            ood_drawn = rng.integers(0, len(ood_ranks), len(ood_ranks))
            result[b, i] = _metrics_of_ranks(id_ranks[id_drawn], ood_ranks[ood_drawn])
    return result


def metrics_of_scores(id_scores: Scores, ood_scores: Scores) -> NDArray[np.float64]:
    """Return the metrics of a `Result` of scores (n,) and (m,), float64 (5,), in its order."""
    return _metrics_of_ranks(*_ranks(id_scores, ood_scores))


def _ranks(id_scores: Scores, ood_scores: Scores) -> tuple[Counts, Counts]:
    """Return the scores of both sides as positions among their distinct values, lowest first."""
    _, ranks = np.unique(np.concatenate([id_scores, ood_scores]), return_inverse=True)
    return ranks[: len(id_scores)], ranks[len(id_scores) :]


def _metrics_of_ranks(id_ranks: Counts, ood_ranks: Counts) -> NDArray[np.float64]:
    n, m = len(id_ranks), len(ood_ranks)
    n_values = 1 + max(int(id_ranks.max()), int(ood_ranks.max()))
    id_counts = np.bincount(id_ranks, minlength=n_values)
    ood_counts = np.bincount(ood_ranks, minlength=n_values)
    id_up_to, ood_up_to = np.cumsum(id_counts), np.cumsum(ood_counts)
    id_from, ood_from = n - id_up_to + id_counts, m - ood_up_to + ood_counts
    auroc = float(id_counts @ (ood_up_to - 0.5 * ood_counts)) / (n * m)
    fpr95 = ood_from[operating_position(id_from)] / m
    aupr_in = float(id_counts @ (id_from / np.maximum(id_from + ood_from, 1))) / n
    aupr_out = float(ood_counts @ (ood_up_to / np.maximum(ood_up_to + id_up_to, 1))) / m
    # The lowest score at or below which 95 % of the OOD images are.
    caught = int(np.argmax(ood_up_to / m >= 0.95))
    fpr95_ood_positive = id_up_to[caught] / n
    return np.array([auroc, fpr95, aupr_in, aupr_out, fpr95_ood_positive])


def small_sets(image_sets: Sequence[SetScores]) -> list[str]:
    """Return a note for each set that is too small for its numbers to mean much."""
    counts = {each.name: int(each.readable.sum()) for each in image_sets}
    return [
        f"{name} has {n} images: each moves FPR95 or the rate it is measured at by {1 / n:.0%}."
        for name, n in counts.items()
        if n < _FEW_IMAGES
    ]


def with_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Append the mean over the sets, the second-to-last axis."""
    return np.concatenate([values, values.mean(axis=-2, keepdims=True)], axis=-2)


def _measured(values: NDArray[np.float64], low: float | None, high: float | None) -> Measured:
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    return Measured(float(values.mean()), low, high, std)
