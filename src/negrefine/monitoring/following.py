"""Result files followed by a monitor: each row is counted once, also over stops and kills."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import IO

from negrefine.errors import InputError
from negrefine.files.records import from_row
from negrefine.monitoring.monitor import Monitor
from negrefine.monitoring.observed import ObservedError
from negrefine.monitoring.result_rows import ResultRow, read_result_rows, read_stream_rows
from negrefine.monitoring.status import Alarm
from negrefine.shown_text import storable

_MOST_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Taken:
    """What was counted of a file.

    Attributes:
        rows: Rows taken from its beginning.
        digest: `ResultRow.chained` of these.
    """

    rows: int = 0
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Started:
    """An alarm, and the row of the image at which it started.

    Attributes:
        alarm: The alarm.
        file: The file of results, "-" for standard input.
        row: Number of the row in it, from 1; of standard input since the command started.
        path: The image, as the row has it.
    """

    alarm: Alarm
    file: str
    row: int
    path: str | None


class Follower:
    """Feeds rows to a monitor, and stops where somebody wants to look.

    Attributes:
        monitor: The monitor.
        every: Rows, those with errors too, between two stops.
    """

    def __init__(self, monitor: Monitor, every: int) -> None:
        self.monitor, self.every = monitor, every

    @property
    def n_rows(self) -> int:
        """Rows that were counted."""
        return self.monitor.n_images + self.monitor.n_errors

    def follow(self, file: str) -> Iterator[Started | None]:
        """Count the new rows of a file; yield alarms as they start, and None every so many rows.

        At None, and at the end, the monitor's state says which rows were counted.

        Raises:
            InputError: The file cannot be read, is not what was counted before, or holds rows that
                this detector has not made.
        """
        # Not resolved: a link may show another file each day.
        key = storable(os.path.abspath(file))  # noqa: PTH100
        taken = self._taken(key)
        rows = read_result_rows(file, self.monitor.calibration.class_names)
        digest = ""
        for _ in range(taken.rows):
            row = next(rows, None)
            if row is None:
                raise _changed(file, taken)
            digest = row.chained(digest)
        if digest != taken.digest:
            raise _changed(file, taken)
        number = taken.rows
        for rows_now in self._portions(rows, _MOST_AT_ONCE):
            yield from self._feed(rows_now, file, number)
            number += len(rows_now)
            for row in rows_now:
                digest = row.chained(digest)
            self.monitor.sources[key] = {"rows": number, "digest": digest}
            if self.n_rows % self.every == 0:
                yield None

    def follow_stream(self, stream: IO[bytes]) -> Iterator[Started | None]:
        """Do the same with JSON lines as they come; what was counted before is not known here."""
        for number, row in enumerate(read_stream_rows(stream)):
            yield from self._feed([row], "-", number)
            if self.n_rows % self.every == 0:
                yield None

    def _taken(self, key: str) -> Taken:
        try:
            return from_row(Taken, self.monitor.sources.get(key, {}))
        except ValueError as error:
            raise InputError(f"The state of the monitor is damaged ({error}).") from error

    def _portions(self, rows: Iterable[ResultRow], most: int) -> Iterator[list[ResultRow]]:
        portion: list[ResultRow] = []
        for row in rows:
            portion.append(row)
            if len(portion) == most or (self.n_rows + len(portion)) % self.every == 0:
                yield portion
                portion = []
        if portion:
            yield portion

    def _feed(self, rows: list[ResultRow], file: str, n_before: int) -> Iterator[Started]:
        numbered = list(enumerate(rows, n_before + 1))
        self.monitor.count_errors(sum(row.error is not None for row in rows))
        judged = [pair for pair in numbered if pair[1].error is None]
        for unnamed, group in groupby(judged, key=lambda pair: pair[1].nearest_class is None):
            part = list(group)
            first = self.monitor.n_images + 1
            names = None if unnamed else [str(row.nearest_class) for _, row in part]
            try:
                alarms = self.monitor.update(
                    [float(row.p_value or 0) for _, row in part],
                    names,
                    [bool(row.flagged) for _, row in part],
                )
            except ObservedError as error:
                raise InputError(
                    f"{_shown(file)}, row {part[error.position][0]}: {error.problem}"
                ) from error
            except InputError as error:
                raise InputError(f"{_shown(file)}, row {part[0][0]}: {error}") from error
            for alarm in alarms:
                number, row = part[alarm.image - first]
                yield Started(alarm, file, number, row.path)


def _shown(file: str) -> str:
    return "Standard input" if file == "-" else repr(str(Path(file)))


def _changed(file: str, taken: Taken) -> InputError:
    return InputError(
        f"The first {taken.rows} rows of {file!r} were counted before and have changed: give new "
        "results another name, or begin with another --state."
    )
