"""What the labels that judges disagree on do to scores and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors import NegRefine
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError
from negrefine.evaluation.measure import metrics_of_scores, resampled_metrics
from negrefine.evaluation.results import Measured, Scores
from negrefine.judges.base import Judge


@dataclass(frozen=True, slots=True)
class JudgeResult:
    """One judge's metrics on one OOD set, and how far they are from the first judge's.

    Attributes:
        n_labels: Negative labels that the judge keeps.
        auroc, fpr95: Fractions, with 95 % bootstrap intervals over images.
        auroc_change: AUROC minus that of the first judge, on the same resamples; None for itself.
        score_change: Mean absolute difference of the scores of all images, in-distribution and of
            this set, from those by the first judge; None for itself.
    """

    judge: str
    ood_set: str
    n_labels: int
    auroc: Measured
    fpr95: Measured
    auroc_change: Measured | None
    score_change: float | None


def compare_judge_scores(
    detector: NegRefine,
    judges: Mapping[str, Judge],
    id_features: FloatArray,
    ood_features: Mapping[str, FloatArray],
    *,
    n_bootstrap: int = 1000,
    progress: bool = False,
) -> list[JudgeResult]:
    """Score images (n, d), and (m, d) of each OOD set, with the labels that each judge keeps.

    The detector is fitted; its mined labels, parameters and lists of words stay. A
    `RememberedJudge` is not asked again what it has answered. Raises InputError if there are no
    judges or no OOD set.
    """
    if not judges or not ood_features:
        raise InputError("There is nothing to score: give judges and at least one OOD set.")
    rules = detector.filter_rules
    kept: dict[str, int] = {}
    scores: dict[str, tuple[Scores, list[Scores]]] = {}
    for name, judge in judges.items():
        filtered = detector.with_filter(
            judge, filters=rules.filters, keep=rules.keep, drop=rules.drop, progress=progress
        )
        kept[name] = len(filtered.negatives_.kept)
        outside = [filtered.score_features(each) for each in ood_features.values()]
        scores[name] = filtered.score_features(id_features), outside
    first = next(iter(judges))
    resampled = {
        name: resampled_metrics(*of_judge, n_bootstrap) if n_bootstrap else None
        for name, of_judge in scores.items()
    }
    results = []
    for name, (inside, outside) in scores.items():
        for i, ood_set in enumerate(ood_features):
            values = metrics_of_scores(inside, outside[i])
            base = metrics_of_scores(scores[first][0], scores[first][1][i])
            drawn, drawn_base = resampled[name], resampled[first]
            auroc, fpr95, change = (
                (None, None, None)
                if drawn is None or drawn_base is None
                else (drawn[:, i, 0], drawn[:, i, 1], drawn[:, i, 0] - drawn_base[:, i, 0])
            )
            moved = np.concatenate([inside, outside[i]]) - np.concatenate(
                [scores[first][0], scores[first][1][i]]
            )
            results.append(
                JudgeResult(
                    name,
                    ood_set,
                    kept[name],
                    _measured(values[0], auroc),
                    _measured(values[1], fpr95),
                    None if name == first else _measured(values[0] - base[0], change),
                    None if name == first else float(np.abs(moved).mean()),
                )
            )
    return results


def _measured(value: np.float64, drawn: NDArray[np.float64] | None) -> Measured:
    if drawn is None:
        return Measured(float(value))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Measured(float(value), float(low), float(high))
