"""AUROC, AUPR and FPR95 as the six papers compute them.

In-distribution is the positive class and larger scores mean more in-distribution. OpenOOD and
pytorch-ood have it the other way round, which `fpr95_ood_positive` computes: never mix the tables.

Example:
    >>> from negrefine import metrics
    >>> known, strange = [0.9, 0.8, 0.7, 0.4], [0.5, 0.3]
    >>> metrics.auroc(known, strange), metrics.fpr95(known, strange)
    (0.875, 0.5)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negrefine.errors import InputError
from negrefine.real_arrays import as_real


def auroc(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Return the area under the ROC curve, a fraction; ties count half.

    Args:
        id_scores: Scores of in-distribution images, one or more.
        ood_scores: Scores of out-of-distribution images, one or more.

    Raises:
        InputError: A side is empty, not one-dimensional, masked or complex, no numbers, or holds
            NaN or infinity.
    """
    from sklearn.metrics import roc_auc_score

    in_, out = _checked(id_scores, ood_scores)
    return float(roc_auc_score(*_labelled(in_, out)))


def aupr_in(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Return the average precision with in-distribution as the positive class, a fraction."""
    from sklearn.metrics import average_precision_score

    in_, out = _checked(id_scores, ood_scores)
    return float(average_precision_score(*_labelled(in_, out)))


def aupr_out(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Return the average precision of negated scores with OOD as the positive class."""
    from sklearn.metrics import average_precision_score

    in_, out = _checked(id_scores, ood_scores)
    return float(average_precision_score(*_labelled(-out, -in_)))


def fpr95(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Return the false positive rate at 95 % recall as MCM to NegRefine compute it, a fraction.

    This is the `fpr` of the `operating_point`. Args and Raises as `auroc`.
    """
    return operating_point(id_scores, ood_scores).fpr


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """The point of a ROC curve at which `fpr95` is measured.

    Attributes:
        threshold: Images with this score or a larger one are accepted as in-distribution.
        tpr: Fraction of ID images accepted, as close to 0.95 as the scores allow.
        fpr: Fraction of OOD images accepted.
    """

    threshold: float
    tpr: float
    fpr: float


def operating_point(id_scores: ArrayLike, ood_scores: ArrayLike) -> OperatingPoint:
    """Return the operating point of `fpr95`.

    Over all distinct score values t from the lowest ID score upwards, take the one whose recall
    mean(ID >= t) is closest to 0.95, above or below, and the smallest of equals; the false positive
    rate is mean(OOD >= t). With few ID scores the recall may be well under 0.95.

    Args and Raises as `auroc`.
    """
    in_, out = _checked(id_scores, ood_scores)
    values = np.unique(np.concatenate([in_, out]))
    n_accepted = len(in_) - np.searchsorted(np.sort(in_), values)
    i = operating_position(n_accepted)
    threshold, tpr = float(values[i]), float(n_accepted[i] / len(in_))
    return OperatingPoint(threshold, tpr, float(np.mean(out >= threshold)))


def operating_position(n_accepted: NDArray[np.intp]) -> int:
    """Return which of ascending thresholds is that of the `operating_point`.

    Args:
        n_accepted: (v,), number of ID scores at or above each threshold; of the first one all.
    """
    n = n_accepted[0]
    # Thresholds below the lowest ID score only let more OOD images pass.
    from_lowest = np.append(n_accepted[1:], 0) < n
    return int(np.argmin(np.where(from_lowest, np.abs(n_accepted / n - 0.95), np.inf)))


def fpr95_interpolated(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Return the false positive rate at 95 % recall as CLIPN computes it, a fraction.

    The ROC curve, in-distribution positive and without its collinear points, is interpolated
    linearly at recall 0.95. With equal scores on both sides this invents operating points that no
    threshold has: where all scores are equal it gives 0.95 and `fpr95` 1.0.

    Args and Raises as `auroc`.
    """
    from sklearn.metrics import roc_curve

    in_, out = _checked(id_scores, ood_scores)
    false_positives, recall, _ = roc_curve(*_labelled(in_, out), drop_intermediate=True)
    # np.interp is what the official scipy interp1d calls, also where recall values repeat.
    return float(np.interp(0.95, recall, false_positives))


def fpr95_ood_positive(id_scores: ArrayLike, ood_scores: ArrayLike) -> float:
    """Return the fraction of ID images rejected when 95 % of OOD is caught, as pytorch-ood does.

    The threshold t is the lowest OOD score with mean(OOD <= t) >= 0.95, compared in float64, and
    the result is mean(ID <= t): ID images that tie with t are rejected. OpenOOD takes the same
    first point of a ROC curve whose collinear points scikit-learn has dropped, so it can report a
    larger value, but only where ID and OOD scores are equal. This is another quantity than the
    papers' `fpr95`, not another way to compute it.

    Args and Raises as `auroc`.
    """
    in_, out = _checked(id_scores, ood_scores)
    caught = np.arange(1, len(out) + 1) / len(out)
    threshold = np.sort(out)[np.argmax(caught >= 0.95)]
    return float(np.mean(in_ <= threshold))


def _checked(
    id_scores: ArrayLike, ood_scores: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    sides = []
    for name, scores in (("id_scores", id_scores), ("ood_scores", ood_scores)):
        array = as_real(scores, name).astype(np.float64)
        if array.ndim != 1 or not len(array):
            raise InputError(f"{name} must be a non-empty one-dimensional array of scores.")
        if not np.isfinite(array).all():
            raise InputError(f"{name} holds NaN or infinity: leave unreadable images out.")
        sides.append(array)
    return sides[0], sides[1]


def _labelled(
    positive: NDArray[np.float64], negative: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    labels = np.concatenate([np.ones(len(positive)), np.zeros(len(negative))]).astype(np.int64)
    return labels, np.concatenate([positive, negative])
