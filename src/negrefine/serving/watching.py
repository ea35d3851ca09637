"""Monitors of the served detectors: does what is scored still look like the calibration images?"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from prometheus_client.core import GaugeMetricFamily

from negrefine.errors import NegrefineError, NotFittedError
from negrefine.evaluation.scored_image import ScoredImage
from negrefine.monitoring import Monitor

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from negrefine.detectors import Detector
    from negrefine.monitoring import Status

_SAVE_SECONDS = 10.0


class Watch:
    """The monitor of one version of a detector, for several threads; without calibration, none.

    Its state is kept in a file, if there is a folder for it, and goes on from there.
    """

    def __init__(
        self,
        name: str,
        version: str,
        detector: Detector,
        folder: str | os.PathLike[str] | None,
        say: Callable[[str], None],
    ) -> None:
        """Begin, or go on with what the folder holds.

        Raises InputError for a state that is damaged.
        """
        self.name = name
        self._say = say
        self._lock = threading.Lock()
        self._file: Path | None = None
        self._saved_at = time.monotonic()
        self._is_saved = True
        self._is_retired = False
        self._failure = ""
        self._monitor: Monitor | None = None
        try:
            monitor = Monitor.of(detector)
        except NotFittedError:
            return
        if folder is not None:
            self._file = Path(folder) / f"{quote(name, safe='')}-{version[:16]}.json"
            if self._file.exists():
                monitor = Monitor.load(self._file, detector)
        self._monitor = monitor

    def update(self, rows: Sequence[ScoredImage], n_errors: int) -> None:
        """Take up images in the order in which they were scored, with their p-values."""
        if self._monitor is None:
            return
        with self._lock:
            self._monitor.count_errors(n_errors)
            alarms = self._monitor.update(
                [row.p_value for row in rows if row.p_value is not None],
                classes=[row.nearest_class or "" for row in rows],
            )
            self._is_saved = False
            if self._is_retired or time.monotonic() - self._saved_at > _SAVE_SECONDS:
                self._save()
        for alarm in alarms:
            self._say(f"Alarm of the detector {self.name!r}: {alarm.sentence()}")

    def retire(self) -> None:
        """Write the state, and from now on after each request that is still under way."""
        with self._lock:
            self._is_retired = True
            if not self._is_saved:
                self._save()

    def _save(self) -> None:
        self._saved_at = time.monotonic()
        if self._file is None or self._monitor is None:
            return
        try:
            self._monitor.save(self._file)
        except (NegrefineError, OSError) as error:
            if str(error) != self._failure:
                self._failure = str(error)
                self._say(f"The state of the monitor of {self.name!r} is not kept: {error}")
        else:
            self._is_saved, self._failure = True, ""

    def status(self) -> Status | None:
        """Return what is known now; None without a calibration."""
        if self._monitor is None:
            return None
        with self._lock:
            return self._monitor.status()


class WatchCollector:
    """Says the state of monitors to Prometheus."""

    def __init__(self, watches: Callable[[], Iterable[Watch]]) -> None:
        self._watches = watches

    def describe(self) -> list[Metric]:
        """Return nothing: monitors are asked when metrics are."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield gauges by detector."""
        texts = {
            "images": "Images that the monitor has judged.",
            "flagged_share": "Share of flagged images.",
            "promised_rate": "The false-alarm rate that the threshold was set for.",
            "log10_wealth": "Logarithm to base 10 of the wealth of the wager on p-values; it "
            "grows if they drift.",
        }
        gauges = {
            name: GaugeMetricFamily(f"negrefine_monitor_{name}", text, labels=["detector"])
            for name, text in texts.items()
        }
        alarms = GaugeMetricFamily(
            "negrefine_monitor_alarms",
            "Alarms that stand, by what drifts; they end when the detector is calibrated again.",
            labels=["detector", "drift"],
        )
        for watch in self._watches():
            status = watch.status()
            if status is None:
                continue
            values = {
                "images": status.n_images,
                "flagged_share": status.flags.share,
                "promised_rate": status.flags.promised,
                "log10_wealth": status.values.log10_wealth,
            }
            for name, value in values.items():
                if value is not None:
                    gauges[name].add_metric([watch.name], value)
            for drift in status.budget:
                count = sum(alarm.detector == drift for alarm in status.alarms)
                alarms.add_metric([watch.name, drift], count)
        yield from (*gauges.values(), alarms)
