"""From the state of a monitor to its `Status`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from negrefine.detectors.conformal import detection_interval
from negrefine.monitoring.classes import LEAST_IMAGES
from negrefine.monitoring.status import (
    FLAG_SHARE,
    ClassStatus,
    FlagStatus,
    Status,
    ValueStatus,
    WindowStatus,
)
from negrefine.monitoring.two_sample import binomial_p_value

if TYPE_CHECKING:
    from negrefine.monitoring.monitor import Monitor


def summarise(monitor: Monitor) -> Status:
    """Return what a monitor knows now."""
    return Status(
        n_images=monitor.n_images,
        n_errors=monitor.n_errors,
        alpha=monitor.alpha,
        budget=dict(monitor.budget),
        alarms=tuple(monitor.alarms),
        flags=_flags(monitor),
        values=_values(monitor),
        windows=_windows(monitor),
        classes=_classes(monitor),
        notes=tuple(_notes(monitor)),
    )


def _flags(monitor: Monitor) -> FlagStatus:
    groups, n = monitor._groups, monitor.n_images
    n_flagged = sum(group.n_flagged for group in groups)
    weights = [group.n_images if n else 1 for group in groups]
    rates = [group.rank / (group.n + 1) for group in groups]
    expected = sum(w * r for w, r in zip(weights, rates, strict=True)) / sum(weights)
    promised = monitor.calibration.fpr
    low, high = detection_interval(n_flagged, n) if n else (None, None)
    p_values = [p for group in groups if (p := group.flag_p_value()) is not None]
    return FlagStatus(
        n_flagged=n_flagged,
        share=n_flagged / n if n else None,
        low=low,
        high=high,
        promised=promised,
        expected=expected,
        binomial_p_value=binomial_p_value(n_flagged, n, promised) if n else None,
        exact_p_value=min(1.0, len(p_values) * min(p_values)) if p_values else None,
        anytime_p_value=monitor._flag_jumper.p_value if FLAG_SHARE in monitor.budget else None,
    )


def _values(monitor: Monitor) -> ValueStatus:
    jumper = monitor._value_jumper
    return ValueStatus(
        n_images=jumper.n,
        log10_wealth=jumper.log_wealth / math.log(10),
        log10_largest=jumper.log_largest / math.log(10),
        anytime_p_value=jumper.p_value,
    )


def _windows(monitor: Monitor) -> WindowStatus:
    if monitor._last_group is None:
        return WindowStatus(monitor.window, 0, None, None)
    windows = monitor._groups[monitor._last_group].windows
    return WindowStatus(monitor.window, monitor._n_windows, windows.distance(), windows.p_value())


def _classes(monitor: Monitor) -> tuple[ClassStatus, ...] | None:
    counts, shares = monitor._class_counts, monitor._shares
    n_seen, n_known = int(counts.sum()), shares.n_known
    if not n_seen or not n_known:
        return None
    rows = []
    for index in (counts + shares.known).nonzero()[0].tolist():
        name = monitor.calibration.class_names[index]
        ranks = monitor._classes.get(index)
        jumper = None if ranks is None else ranks.jumper
        rows.append(
            ClassStatus(
                name=name,
                n_images=int(counts[index]),
                share=int(counts[index]) / n_seen,
                calibration_images=int(shares.known[index]),
                calibration_share=int(shares.known[index]) / n_known,
                anytime_p_value=None if jumper is None else jumper.p_value,
                drifts=tuple(each.what for each in monitor.alarms if each.class_name == name),
            )
        )
    return tuple(rows)


def _notes(monitor: Monitor) -> list[str]:
    notes = []
    calibration, groups = monitor.calibration, monitor._groups
    if calibration.classes is None:
        notes.append(
            "classes: not tested, because the classes of the calibration images are unknown "
            "(calibrate with images or features)."
        )
    elif monitor.n_images and not monitor._class_counts.any():
        notes.append("classes: not tested, because the nearest classes of images were not given.")
    else:
        n_names = len(set(calibration.first_of_name))
        n_few = n_names - len(monitor._tested)
        if n_few:
            notes.append(
                f"classes: {n_few} of {n_names} have fewer than {LEAST_IMAGES} calibration images; "
                "their shares are tested, not their p-values."
            )
    if FLAG_SHARE not in monitor.budget:
        notes.append("flagged: not tested, because too many calibration scores tie.")
    if n_approximate := sum(group.n_images for group in groups if not group.exact):
        notes.append(
            f"thresholds: {n_approximate:,} images are of classes without a threshold of their "
            "own; what is promised for their flags is approximate, so they raise no alarm of the "
            "flag share and are in no window; their p-values are taken among calibration images of "
            "their own class."
        )
    n_cells = sum(len(group.urn.cells.weights) for group in groups)
    n_possible = sum(group.n + 1 for group in groups)
    if n_cells < n_possible:
        notes.append(
            f"ties: calibration scores tie, so {n_cells:,} of {n_possible:,} ranks are told apart."
        )
    return notes
