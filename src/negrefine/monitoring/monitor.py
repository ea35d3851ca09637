"""`Monitor`: whether scored images still look like the calibration images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike
from typing_extensions import Self

from negrefine.constraints import SEED, Number, Whole
from negrefine.monitoring.calibration import MonitoredCalibration
from negrefine.monitoring.classes import ClassShares, class_ranks
from negrefine.monitoring.groups import Group
from negrefine.monitoring.martingale import CLASS_BETS, ODDS, UNIFORM_BETS, Jumper, odds_bets
from negrefine.monitoring.observed import checked_cells, checked_classes
from negrefine.monitoring.status import (
    CLASS_P_VALUES,
    CLASS_SHARES,
    FLAG_SHARE,
    P_VALUES,
    WINDOWS,
    Alarm,
    Status,
)
from negrefine.monitoring.two_sample import holm

if TYPE_CHECKING:
    from negrefine.detectors import Detector


class Monitor:
    """Watches the p-values of scored images and raises an alarm if they drift.

    The chance that a stream without drift ever raises any alarm is at most `alpha`, however long
    it is and however often one looks: docs/monitor.md has the statements. Not safe for several
    threads at once: the caller locks.

    Attributes:
        calibration: What the stream is compared with.
        alpha: The bound.
        window: Images in a window.
        seed: Of the generator that draws what p-values leave open.
        n_images: Images judged.
        n_errors: Images that could not be read.
        alarms: The alarms so far, in order.
        sources: For the command line: what was counted of each file.

    Example:
        >>> detector = refine.calibrate(animals, fpr=0.1)
        >>> monitor = negrefine.Monitor.of(detector, alpha=0.01)
        >>> alarms = monitor.update(detector.p_values(food))
        >>> [alarm.detector for alarm in alarms]
        ['flag share']
        >>> monitor.n_images == len(food)
        True
    """

    def __init__(
        self,
        calibration: MonitoredCalibration,
        *,
        alpha: float = 0.01,
        window: int = 200,
        seed: int = 0,
    ) -> None:
        """Begin with no images; raises InputError for what `Monitor.of` refuses."""
        Number("lie strictly between 0 and 1", 0, 1)("alpha", alpha)
        Whole(10, maximum=10_000)("window", window)
        SEED("seed", seed)
        self.calibration = calibration
        self.alpha, self.window, self.seed = float(alpha), int(window), int(seed)
        self.n_images = self.n_errors = 0
        self.alarms: list[Alarm] = []
        self.sources: dict[str, dict[str, Any]] = {}
        self._generator = np.random.default_rng(self.seed)
        self._groups = [Group(calibration, each, window, seed) for each in calibration.groups]
        self._group_of = np.zeros(len(calibration.class_names), dtype=np.intp)
        for number, each in enumerate(calibration.groups):
            self._group_of[list(each.classes)] = number
        self._flag_jumper = Jumper(len(ODDS))
        self._value_jumper = Jumper(len(UNIFORM_BETS.slopes))
        self._classes = class_ranks(calibration)
        self._tested = [k for k, each in self._classes.items() if each.jumper is not None]
        self._class_counts = np.zeros(len(calibration.class_names), dtype=np.int64)
        self._n_windows = 0
        self._last_group: int | None = None
        self.budget = self._budget()
        self._shares = ClassShares(calibration, window, self.budget.get(CLASS_SHARES, 0.0))
        self._raised: set[tuple[str, str | None]] = set()

    @classmethod
    def of(
        cls, detector: Detector, *, alpha: float = 0.01, window: int = 200, seed: int = 0
    ) -> Self:
        """Watch the images that a calibrated detector scores.

        Args:
            detector: With calibration scores.
            alpha: Bound on the chance of any false alarm over an endless stream, in (0, 1).
            window: Images in a window of the two-sample test and of class shares, 10 to 10,000.
            seed: Of the generator that draws what p-values leave open.

        Raises:
            NotFittedError: The detector is not calibrated.
            InputError: A value out of range.
        """
        return cls(MonitoredCalibration.of(detector), alpha=alpha, window=window, seed=seed)

    def _budget(self) -> dict[str, float]:
        """Divide alpha evenly between the detectors that have something to test."""
        known = self.calibration.classes is not None
        at_work = {
            FLAG_SHARE: any(group.tests_flags for group in self._groups),
            P_VALUES: True,
            WINDOWS: any(group.tests_windows for group in self._groups),
            CLASS_SHARES: known and len(set(self.calibration.first_of_name)) > 1,
            CLASS_P_VALUES: bool(self._tested),
        }
        part = self.alpha / sum(at_work.values())
        return {name: part for name, works in at_work.items() if works}

    def update(
        self,
        p_values: ArrayLike,
        classes: ArrayLike | Sequence[str] | None = None,
        flagged: ArrayLike | None = None,
    ) -> list[Alarm]:
        """Take up images in the order in which they were scored; return the alarms that start.

        Any division of a stream into updates gives the same state.

        Args:
            p_values: (m,) conformal p-values, k / (n + 1) each.
            classes: (m,) nearest classes, as names or as indices of class names. Needed if
                thresholds depend on the class; without them classes are not watched.
            flagged: (m,) bool, whether each was flagged, to be checked.

        Raises:
            InputError: p-values that are not from this calibration, unknown classes, flags that
                contradict the threshold; nothing of the update is counted then.
        """
        indices = checked_classes(self.calibration, classes, np.size(p_values))
        groups = None if indices is None else self._group_of[indices]
        sizes = [(group.n, group.rank) for group in self._groups]
        cells, flags = checked_cells(p_values, groups, sizes, flagged)
        uniforms = self._generator.random((len(cells), 2))
        n_before = len(self.alarms)
        names = [None] * len(cells) if indices is None else indices.tolist()
        for k, is_flagged, index, (first, second) in zip(
            cells.tolist(), flags.tolist(), names, uniforms.tolist(), strict=True
        ):
            self.n_images += 1
            number = 0 if index is None else int(self._group_of[index])
            u = None
            if index is not None:
                u = self._take_class(self.calibration.first_of_name[index], k, second)
            self._take(number, k, is_flagged, first, u)
        return self.alarms[n_before:]

    def count_errors(self, n: int = 1) -> None:
        """Count images that could not be read."""
        Whole(0)("n", n)
        self.n_errors += n

    def _take(
        self, number: int, k: int, flagged: bool, uniform: float, class_u: float | None
    ) -> None:
        group = self._groups[number]
        group.n_flagged += flagged
        cells = group.urn.cells
        joined = int(cells.joined[k])
        is_low = joined < cells.low
        if group.tests_flags:
            self._flag_jumper.bet(odds_bets(is_low, group.urn.low_share))
            if self._flag_jumper.reaches(self.budget[FLAG_SHARE]):
                more = ODDS[self._flag_jumper.favourite()] > 1
                what = "more images are flagged than calibration leads to expect"
                self._raise(FLAG_SHARE, what if more else what.replace("more", "fewer"))
        u = group.urn.place(k, uniform)
        if not group.exact:
            # Images of several classes: each ranks among calibration images of its own.
            if class_u is not None:
                self._bet(class_u)
        elif not is_low:
            self._bet(u)
            if group.tests_windows and group.windows.add(joined):
                self._n_windows += 1
                self._last_group = number
                if group.windows.exceeds(self.budget[WINDOWS], self._n_windows):
                    self._raise(WINDOWS, f"the last {self.window} unflagged images rank unlike it")

    def _bet(self, u: float) -> None:
        self._value_jumper.bet(UNIFORM_BETS(u))
        if self._value_jumper.reaches(self.budget[P_VALUES]):
            self._raise(P_VALUES, _change(self._value_jumper, UNIFORM_BETS))

    def _take_class(self, index: int, k: int, uniform: float) -> float | None:
        self._class_counts[index] += 1
        if CLASS_SHARES in self.budget:
            for drifting, what in self._shares.add(index):
                self._raise(CLASS_SHARES, what, drifting)
        ranks = self._classes.get(index)
        if ranks is None:
            return None
        u = ranks.place(k, uniform)
        level = self.budget.get(CLASS_P_VALUES, 0.0)
        if ranks.jumper is not None and ranks.jumper.reaches(level):
            jumpers = [self._classes[each].jumper for each in self._tested]
            p = np.array([1.0 if each is None else each.p_value for each in jumpers])
            for position in holm(p, level, len(p)):
                jumper = jumpers[position]
                if jumper is not None:
                    self._raise(CLASS_P_VALUES, _change(jumper, CLASS_BETS), self._tested[position])
        return u

    def _raise(self, detector: str, what: str, index: int | None = None) -> None:
        name = None if index is None else self.calibration.class_names[index]
        if (detector, name) not in self._raised:
            self._raised.add((detector, name))
            self.alarms.append(Alarm(detector, self.n_images, what, name))

    def status(self) -> Status:
        """Return what is known now."""
        from negrefine.monitoring.summary import summarise

        return summarise(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to one JSON file, atomically.

        Raises:
            InputError: The file cannot be written, or holds something else.
        """
        from negrefine.monitoring.state import save_state

        save_state(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], detector: Detector | None = None) -> Self:
        """Go on with a saved state: the same as if there had been no stop.

        `detector`, if given, must be the one that was monitored, with the same calibration.

        Raises:
            InputError: The file is missing, damaged or not a state, or of another detector or
                calibration.
        """
        wanted = None if detector is None else MonitoredCalibration.of(detector)
        return cls.load_for(wanted, path)

    @classmethod
    def load_for(
        cls, calibration: MonitoredCalibration | None, path: str | os.PathLike[str]
    ) -> Self:
        """Do what `load` does, with the calibration in place of the detector."""
        from negrefine.monitoring.state import load_state

        return load_state(cls, path, calibration)


def _change(jumper: Jumper, bets: Any) -> str:
    """Return in which direction the bet went that gained most."""
    favourite = jumper.favourite()
    slope, spread = float(bets.slopes[favourite]), float(bets.spreads[favourite])
    if slope:
        return f"p-values are {'smaller' if slope < 0 else 'larger'} than in calibration"
    if spread:
        return f"p-values are nearer to {'both ends' if spread > 0 else 'the middle'}"
    return "p-values are not those of calibration"
