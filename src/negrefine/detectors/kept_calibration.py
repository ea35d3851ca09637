"""What a calibration leaves behind: enough to judge p-values, without features or an encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors.conformal import threshold_rank
from negrefine.detectors.saved_form import CALIBRATION, saved_scores
from negrefine.detectors.thresholds import BY_CLASS, RankedScores, ThresholdGroup, one_group
from negrefine.errors import InputError, NotFittedError

if TYPE_CHECKING:
    from negrefine.detectors.base import Detector

_UNKNOWN = (
    "no calibration to compare with is known; call calibrate(id_images, fpr=0.05), or run "
    "'negrefine calibrate'."
)


@dataclass(frozen=True, slots=True, eq=False)
class KeptCalibration:
    """Calibration scores, their predicted classes and the rule that made thresholds from them.

    Attributes:
        class_names: K class names.
        scores: float64 (n,), sorted.
        classes: intp (n,), the predicted class of each; None if it is unknown.
        fpr: As in `Detector.calibrate`, like `delta` and `by`.
    """

    class_names: tuple[str, ...]
    scores: NDArray[np.float64]
    classes: NDArray[np.intp] | None
    fpr: float
    delta: float | None
    by: str | None

    @classmethod
    def of(cls, detector: Detector) -> KeptCalibration:
        """Take it from a detector; raises NotFittedError as `Detector.threshold_groups`."""
        detector.threshold_groups()
        scores, fpr = detector.calibration_scores_, detector.fpr_
        if scores is None or fpr is None:
            raise NotFittedError(_UNKNOWN[0].upper() + _UNKNOWN[1:])
        names, classes = tuple(detector.class_names_), detector.calibration_classes_
        return cls(names, scores, classes, fpr, detector.delta_, detector.by_)

    def members_of_groups(self) -> list[tuple[ThresholdGroup, NDArray[np.intp]]]:
        """Return each group of classes and the positions of the scores that it ranks among."""
        if self.by != BY_CLASS or self.classes is None:
            group = one_group(self.scores, len(self.class_names), self.fpr, self.delta)
            return [(group, np.arange(len(self.scores)))]
        ranked = RankedScores.of(
            self.scores, self.classes, len(self.class_names), self.fpr, self.delta
        )
        return [
            (group, np.flatnonzero(ranked.members(group.kind, group.classes[0])))
            for group in ranked.groups()
        ]


def restored_calibration(
    facts: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
) -> KeptCalibration:
    """Return what detector.json and the arrays of a saved detector say of its calibration.

    Raises:
        InputError: They do not fit together.
        NotFittedError: No calibration was kept.
    """
    saved = facts.get("calibration")
    if saved is None:
        raise NotFittedError(_UNKNOWN)
    CALIBRATION("detector.json.calibration", saved)
    names = tuple(facts["class_names"])
    scores, classes = saved_scores(arrays, len(names))
    rank = 0 if scores is None else threshold_rank(len(scores), saved["fpr"], saved["delta"])
    if scores is None or not rank:
        raise InputError("calibration_scores are too few for the saved false-alarm rate.")
    if scores[rank - 1] != facts["offset"]:
        raise InputError(
            f"detector.json.offset is {facts['offset']}, not {scores[rank - 1]}, the threshold of "
            "the calibration scores."
        )
    if saved["by"] is not None and classes is None:
        raise InputError(
            "calibration_classes is missing: thresholds by class need the predicted class of each "
            "image."
        )
    return KeptCalibration(names, scores, classes, saved["fpr"], saved["delta"], saved["by"])
