"""A monitor as one JSON file, from which it goes on as if there had been no stop."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from negrefine.errors import InputError, NegrefineError
from negrefine.files.reading import parse_json, read_bytes, reason
from negrefine.files.records import from_row
from negrefine.files.writing import check_replaceable, write_text
from negrefine.monitoring.calibration import MonitoredCalibration
from negrefine.monitoring.groups import restored_urn
from negrefine.monitoring.status import Alarm

if TYPE_CHECKING:
    from negrefine.monitoring.monitor import Monitor

FORMAT = "negrefine-monitor"
FORMAT_VERSION = 1
_BYTES = 1 << 30

_M = TypeVar("_M", bound="Monitor")


def save_state(monitor: Monitor, path: str | os.PathLike[str]) -> None:
    """Write the state; see `Monitor.save`."""
    target = Path(path)
    check_replaceable(target, f'"format": "{FORMAT}"')
    text = _canonical(_content(monitor))
    write_text(target, f'{text[:-1]}, "checksum": "{_checksum(text)}"}}\n')


def load_state(
    cls: type[_M], path: str | os.PathLike[str], wanted: MonitoredCalibration | None
) -> _M:
    """Read a state; see `Monitor.load`."""
    shown = f"The state of the monitor in {str(path)!r}"
    try:
        content = parse_json(read_bytes(path, _BYTES))
    except (OSError, ValueError) as error:
        raise InputError(f"{shown} cannot be read: {reason(error)}.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{str(path)!r} is not the state of a monitor: give another file.")
    if content.pop("checksum", None) != _checksum(_canonical(content)):
        raise InputError(f"{shown} is damaged: remove it to count from the beginning.")
    if content.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{shown} was written by another version of negrefine: upgrade, or remove it."
        )
    try:
        calibration = MonitoredCalibration.from_dict(content["calibration"])
        if wanted is not None and calibration.digest != wanted.digest:
            raise InputError(
                f"{shown} is of another detector or calibration: give the detector that was "
                "monitored, or another file for the new state."
            )
        monitor = cls(
            calibration,
            alpha=content["alpha"],
            window=content["window"],
            seed=content["seed"],
        )
        _restore(monitor, content)
    except NegrefineError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{shown} is damaged ({error}): remove it to begin again.") from error
    return monitor


def _content(monitor: Monitor) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "alpha": monitor.alpha,
        "window": monitor.window,
        "seed": monitor.seed,
        "n_images": monitor.n_images,
        "n_errors": monitor.n_errors,
        "alarms": [asdict(alarm) for alarm in monitor.alarms],
        "sources": monitor.sources,
        "generator": monitor._generator.bit_generator.state,
        "groups": [group.as_dict() for group in monitor._groups],
        "n_windows": monitor._n_windows,
        "last_group": monitor._last_group,
        "flag_jumper": monitor._flag_jumper.as_dict(),
        "value_jumper": monitor._value_jumper.as_dict(),
        "class_counts": monitor._class_counts.tolist(),
        "class_shares": monitor._shares.as_dict(),
        "classes": {
            str(index): {
                "counts": each.urn.counts.tolist(),
                "jumper": None if each.jumper is None else each.jumper.as_dict(),
            }
            for index, each in monitor._classes.items()
        },
        "calibration": monitor.calibration.content,
    }


def _restore(monitor: Monitor, content: dict[str, Any]) -> None:
    monitor.n_images, monitor.n_errors = content["n_images"], content["n_errors"]
    for row in content["alarms"]:
        alarm = from_row(Alarm, row)
        monitor.alarms.append(alarm)
        monitor._raised.add((alarm.detector, alarm.class_name))
    monitor.sources = content["sources"]
    monitor._generator.bit_generator.state = content["generator"]
    for group, saved in zip(monitor._groups, content["groups"], strict=True):
        group.restore(saved)
    monitor._n_windows, monitor._last_group = content["n_windows"], content["last_group"]
    monitor._flag_jumper.restore(content["flag_jumper"])
    monitor._value_jumper.restore(content["value_jumper"])
    counts = np.array(content["class_counts"], dtype=np.int64)
    if counts.shape != monitor._class_counts.shape:
        raise ValueError("the counts of classes do not fit")
    monitor._class_counts = counts
    monitor._shares.restore(content["class_shares"])
    for index, each in monitor._classes.items():
        saved = content["classes"][str(index)]
        each.urn = restored_urn(each.urn, saved["counts"])
        if each.jumper is not None:
            each.jumper.restore(saved["jumper"])


def _canonical(content: dict[str, Any]) -> str:
    return json.dumps(content, sort_keys=True)


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
