"""Differences between methods on the same images, with paired bootstrap intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from negrefine.errors import InputError
from negrefine.evaluation.baseline import check_baseline
from negrefine.evaluation.measure import metrics_of_scores, resampled_metrics, with_mean
from negrefine.evaluation.results import MEAN, Difference, Evaluation, Measured, Scores

# Positions in a `Result`, and whether larger is better.
_MEASURED = {"auroc": 0, "fpr95": 1, "fpr95_ood_positive": 4}
_CAPTIONS = {"auroc": "AUROC", "fpr95": "FPR95"}


@dataclass(frozen=True)
class SameImages:
    """The scores of one method on the ID images and on each OOD set, for each seed.

    Attributes:
        id_scores: (n,) for each seed.
        ood_scores: For each OOD set (m,) for each seed.
    """

    id_scores: Sequence[Scores]
    ood_scores: Mapping[str, Sequence[Scores]] = field(default_factory=dict)

    def measured(self, n_resamples: int, seed: int) -> tuple[NDArray[np.float64], ...]:
        """Return the metrics, (sets + mean, 5) and (B, sets + mean, 5), as means over seeds."""
        sets = list(self.ood_scores.values())
        values, resampled = [], []
        for i, inside in enumerate(self.id_scores):
            outside = [by_seed[i] for by_seed in sets]
            values.append(np.array([metrics_of_scores(inside, scores) for scores in outside]))
            resampled.append(resampled_metrics(inside, outside, n_resamples, seed))
        return with_mean(np.mean(values, axis=0)), with_mean(np.mean(resampled, axis=0))


def paired_differences(
    method: str,
    scores: SameImages,
    baseline: str,
    baseline_scores: SameImages,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> list[Difference]:
    """Return the metrics of a method minus those of a baseline on each OOD set and their "mean".

    Both are measured on the same images, and each of `n_bootstrap` resamples draws the same images
    for both: what makes an image hard for both methods cancels, so that the interval of the
    difference is narrower than the two intervals of the methods suggest. Metrics are averaged over
    each method's seeds before they are subtracted. The intervals are 95 % percentile intervals
    over images; the generator depends on `seed` alone.

    Raises InputError without resamples, or if the two were not measured on the same images.
    """
    if n_bootstrap < 1:
        raise InputError("The interval of a difference needs at least one resample: give more.")
    sizes = [
        [len(each.id_scores[0]), *((name, len(s[0])) for name, s in each.ood_scores.items())]
        for each in (scores, baseline_scores)
    ]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"{method!r} and {baseline!r} were not scored on the same images: a paired difference "
            "needs the scores of both on each image."
        )
    return _subtract(
        method,
        scores.measured(n_bootstrap, seed),
        baseline,
        baseline_scores.measured(n_bootstrap, seed),
        list(scores.ood_scores),
    )


def differences_from(
    evaluation: Evaluation, baseline: str, n_bootstrap: int = 1000
) -> list[Difference]:
    """Return the `paired_differences` of all other methods of an evaluation from one of them.

    Raises InputError without resamples, or if the evaluation has no such method.
    """
    check_baseline(baseline, evaluation.methods, n_bootstrap)
    measured = {}
    for method in evaluation.methods:
        scores = SameImages(
            evaluation.id_set.readable_scores(method),
            {each.name: each.readable_scores(method) for each in evaluation.ood_sets},
        )
        measured[method] = scores.measured(n_bootstrap, seed=0)
    sets = [each.name for each in evaluation.ood_sets]
    return [
        row
        for method in evaluation.methods
        if method != baseline
        for row in _subtract(method, measured[method], baseline, measured[baseline], sets)
    ]


def sentences(evaluation: Evaluation) -> Iterator[str]:
    """Yield for each method compared a sentence about AUROC and one about FPR95.

    They are about the mean over the OOD sets, or the only one.
    """
    only = len(evaluation.ood_sets) == 1
    for row in evaluation.differences:
        if (row.ood_set == MEAN) == only:
            continue
        where = f"against {row.ood_set}" if only else "on average"
        names = evaluation.title_of(row.method), evaluation.title_of(row.baseline)
        for metric in _CAPTIONS:
            yield f"{_sentence(row, metric, *names)} {where}."


def is_better(row: Difference, metric: str) -> bool | None:
    """Return whether the method is better than the baseline, None if its interval holds 0."""
    each: Measured = getattr(row, metric)
    if each.low is None or each.high is None or each.low <= 0 <= each.high:
        return None
    return (each.low > 0) == (metric == "auroc")


def points(each: Measured) -> str:
    """Return a difference in points of percent, such as "+0.40 [+0.10, +0.70]"."""
    text = f"{100 * each.value:+.2f}"
    if each.low is None or each.high is None:
        return text
    return f"{text} [{100 * each.low:+.2f}, {100 * each.high:+.2f}]"


def _sentence(row: Difference, metric: str, method: str, baseline: str) -> str:
    each, better = getattr(row, metric), is_better(row, metric)
    caption = _CAPTIONS[metric]
    if better is None:
        shown = points(each).replace("+", "")
        return f"{method} and {baseline} are not distinguishable by {caption} ({shown} points)"
    # As amounts, whichever way the metric points.
    value, low, high = (abs(100 * number) for number in (each.value, each.low, each.high))
    amount = f"{value:.2f} [{min(low, high):.2f}, {max(low, high):.2f}]"
    word = "better" if better else "worse"
    return f"{method} is {word} than {baseline} by {amount} points of {caption}"


def _subtract(
    method: str,
    of_method: tuple[NDArray[np.float64], ...],
    baseline: str,
    of_baseline: tuple[NDArray[np.float64], ...],
    sets: Sequence[str],
) -> list[Difference]:
    values = of_method[0] - of_baseline[0]
    low, high = np.quantile(of_method[1] - of_baseline[1], (0.025, 0.975), axis=0)
    return [
        Difference(
            method,
            baseline,
            name,
            *(
                Measured(float(values[i, j]), float(low[i, j]), float(high[i, j]))
                for j in _MEASURED.values()
            ),
        )
        for i, name in enumerate([*sets, MEAN])
    ]
