"""Calibrations, and streams of p-values like theirs, as `negrefine score` makes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors.conformal import p_values
from negrefine.detectors.kept_calibration import KeptCalibration
from negrefine.monitoring import Monitor, MonitoredCalibration

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


def kept(
    scores: Floats, classes: Indices | None = None, fpr: float = 0.05, by: str | None = None
) -> KeptCalibration:
    """Return a calibration on scores; class k is named "class k"."""
    order = np.argsort(scores, kind="stable")
    names = tuple(f"class {k}" for k in range(1 if classes is None else int(classes.max()) + 1))
    known = None if classes is None else classes[order]
    return KeptCalibration(names, scores[order], known, fpr, None, by)


def monitor(calibration: KeptCalibration, **settings: float) -> Monitor:
    """Watch with a calibration."""
    return Monitor(MonitoredCalibration.from_kept(calibration), **settings)  # type: ignore[arg-type]


def p_values_of(calibration: KeptCalibration, scores: Floats, classes: Indices | None) -> Floats:
    """Return the p-values that a detector with this calibration gives."""
    p = np.empty(len(scores))
    for group, members in calibration.members_of_groups():
        own = np.isin(np.zeros(len(scores)) if classes is None else classes, group.classes)
        p[own] = p_values(calibration.scores[members], scores[own])
    return p
