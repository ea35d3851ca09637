"""`negrefine monitor`: do the scored images still look like the calibration images?"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from negrefine.cli.bundles import option
from negrefine.cli.options import AS_JSON, DETECTOR_DIR, pinned_place
from negrefine.cli.output import print_json, say
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.monitoring import Monitor, MonitoredCalibration
    from negrefine.monitoring.following import Started

_STANDING = 3
_RESULTS = typer.Argument(
    metavar="RESULTS",
    help="What 'negrefine score' wrote (.jsonl, .csv, .parquet), or '-' for JSON lines on standard "
    "input, followed to its end.",
)


def monitor(
    detector_dir: Path = DETECTOR_DIR,
    results: list[str] = _RESULTS,
    state: Path | None = option(
        None,
        "Keep the counts here and go on from them: of a file only rows that are new are counted.",
        "FILE",
    ),
    every: int = option(
        1000, "Print the status, and write the state, each time so many rows.", min=1
    ),
    alpha: float | None = option(
        None, "Chance of any false alarm over an endless stream. [default: 0.01]", "CHANCE"
    ),
    window: int | None = option(
        None, "Images in a window of the two-sample test, 10 to 10,000. [default: 200]"
    ),
    as_json: bool = AS_JSON,
    fail_on_alarm: bool = option(
        False, "Exit with code 3 if an alarm stands.", name="--fail-on-alarm"
    ),
) -> None:
    """Tell whether scored images still look like the calibration images.

    Three questions, from p-values alone: is the share of flagged images what calibration promised,
    are the p-values of the others distributed as in calibration, and which classes drift? Without
    drift, the chance of any alarm is at most --alpha however long one watches; an alarm stands
    until the detector is calibrated again. No encoder is loaded. With --json, each status and each
    alarm is an object on one line.
    """
    from negrefine.detectors.loading import load_calibration
    from negrefine.monitoring import MonitoredCalibration
    from negrefine.monitoring.following import Follower
    from negrefine.monitoring.result_rows import check_results_path

    for each in results:
        if each != "-":
            check_results_path(each)
    if results.count("-") > 1:
        raise InputError("Standard input ('-') can be given once only.")
    calibration = MonitoredCalibration.from_kept(load_calibration(pinned_place(detector_dir)))
    watching = _begin(calibration, state, alpha, window)
    follower = Follower(watching, every)
    shown_at = -1
    for each in results:
        events: Iterable[Started | None] = (
            follower.follow_stream(sys.stdin.buffer) if each == "-" else follower.follow(each)
        )
        for event in events:
            if event is not None:
                _show_alarm(event, as_json=as_json)
                continue
            if state is not None:
                watching.save(state)
            _show_status(watching, as_json=as_json)
            shown_at = follower.n_rows
    if state is not None:
        watching.save(state)
    if shown_at != follower.n_rows:
        _show_status(watching, as_json=as_json)
    if fail_on_alarm and watching.alarms:
        raise typer.Exit(_STANDING)


def _begin(
    calibration: MonitoredCalibration, state: Path | None, alpha: float | None, window: int | None
) -> Monitor:
    """Go on with a saved state, or begin."""
    from negrefine.monitoring import Monitor

    given: dict[str, Any] = {"alpha": alpha, "window": window}
    settings = {name: value for name, value in given.items() if value is not None}
    if state is None or not state.exists():
        return Monitor(calibration, **settings)
    found = Monitor.load_for(calibration, state)
    for name, value in settings.items():
        saved = getattr(found, name)
        if value != saved:
            raise InputError(
                f"The state in {str(state)!r} was begun with --{name} {saved:g}, not {value:g}: "
                "leave the option out, or give another file for a new state."
            )
    return found


def _show_alarm(started: Started, *, as_json: bool) -> None:
    alarm = started.alarm
    if as_json:
        place = {"file": started.file, "row": started.row, "path": started.path}
        print_json({"event": "alarm", **asdict(alarm), **place}, indent=None)
        return
    where = "standard input" if started.file == "-" else started.file
    image = "" if started.path is None else f", {started.path}"
    say(f"ALARM {alarm.sentence()[:-1]} (row {started.row:,} of {where}{image}).")


def _show_status(watching: Monitor, *, as_json: bool) -> None:
    status = watching.status()
    if as_json:
        print_json({"event": "status", **status.as_dict()}, indent=None)
    else:
        say(*status.sentences())
