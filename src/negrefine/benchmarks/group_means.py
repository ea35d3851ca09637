"""Means over the classes of an OOD set, as the authors of NINCO report it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from negrefine import metrics
from negrefine.errors import InputError
from negrefine.evaluation.results import Evaluation


@dataclass(frozen=True, slots=True)
class GroupMean:
    """One method on one OOD set, its images taken group by group.

    Attributes:
        method: Name of the method.
        ood_set: Name of the set in the evaluation.
        n_groups: Groups with readable images.
        auroc: Mean over groups, then over seeds; a fraction, in-distribution positive.
        fpr95: Likewise, the papers' definition.
    """

    method: str
    ood_set: str
    n_groups: int
    auroc: float
    fpr95: float


def group_means(evaluation: Evaluation, ood_set: str) -> list[GroupMean]:
    """Average AUROC and FPR95 over the groups of an OOD set, each against all ID images.

    Args:
        evaluation: With groups, as `locate` gives them.
        ood_set: Name of the set in the evaluation.

    Returns:
        One row for each method, in table order.

    Raises:
        InputError: The evaluation has no such set.
    """
    found = [scores for scores in evaluation.ood_sets if scores.name == ood_set]
    if not found:
        known_sets = ", ".join(scores.name for scores in evaluation.ood_sets)
        raise InputError(f"The evaluation has no OOD set {ood_set!r}: it has {known_sets}.")
    groups = np.array(found[0].groups)
    readable = found[0].readable
    names = [name for name in dict.fromkeys(found[0].groups) if readable[groups == name].any()]
    rows = []
    for method in evaluation.methods:
        means = []
        for seed, id_scores in evaluation.id_set.scores[method].items():
            known = id_scores[evaluation.id_set.readable]
            scores = found[0].scores[method][seed]
            parts = [scores[(groups == name) & readable] for name in names]
            means.append(
                (
                    np.mean([metrics.auroc(known, part) for part in parts]),
                    np.mean([metrics.fpr95(known, part) for part in parts]),
                )
            )
        auroc, fpr95 = np.mean(means, axis=0)
        rows.append(GroupMean(method, ood_set, len(names), float(auroc), float(fpr95)))
    return rows
