"""What a monitor knows at a moment: numbers, alarms and plain sentences."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from negrefine.notebook_html import GREY, RED, coloured, escaped, frame, paragraph

FLAG_SHARE = "flag share"
P_VALUES = "p-values"
WINDOWS = "windows"
CLASS_SHARES = "class shares"
CLASS_P_VALUES = "class p-values"


@dataclass(frozen=True, slots=True)
class Alarm:
    """One way in which the stream differs from the calibration images.

    Attributes:
        detector: "flag share", "p-values", "windows", "class shares" or "class p-values".
        image: Number of the image at which it started, from 1; images with errors do not count.
        what: What differs, as a phrase.
        class_name: The class that drifts, None for the stream as a whole.
    """

    detector: str
    image: int
    what: str
    class_name: str | None = None

    def sentence(self) -> str:
        """Return the alarm as a sentence."""
        of_class = "" if self.class_name is None else f" of class {self.class_name!r}"
        return f"{self.detector}{of_class}: {self.what}, since image {self.image:,}."


@dataclass(frozen=True, slots=True)
class FlagStatus:
    """How many images were flagged, and how many calibration promised.

    Attributes:
        n_flagged: Number of flagged images.
        share: Their share, None without images.
        low: Lower end of its 95 % Clopper-Pearson interval, like `high`.
        promised: `fpr` of the calibration.
        expected: Mean share without drift, over calibrations: rank / (n + 1); with thresholds of
            each class, weighted by the images of each group.
        binomial_p_value: Two-sided exact binomial test of the share against `promised`, as if
            that were the rate of the threshold at hand. It is not: see docs/monitor.md.
        exact_p_value: Two-sided p-value of the beta-binomial law of the number of flagged images,
            exact for one look; twice the smallest over groups, times their number.
        anytime_p_value: As exact, but valid whenever one looks; None if nothing can be tested.
    """

    n_flagged: int
    share: float | None
    low: float | None
    high: float | None
    promised: float
    expected: float
    binomial_p_value: float | None
    exact_p_value: float | None
    anytime_p_value: float | None


@dataclass(frozen=True, slots=True)
class ValueStatus:
    """The wager on the p-values of unflagged images.

    Attributes:
        n_images: Images that were bet on.
        log10_wealth: Logarithm to base 10 of the wealth, which started with 1.
        log10_largest: That of the largest wealth so far.
        anytime_p_value: 1 / largest wealth.
    """

    n_images: int
    log10_wealth: float
    log10_largest: float
    anytime_p_value: float


@dataclass(frozen=True, slots=True)
class WindowStatus:
    """Smirnov's two-sample test on the last finished window.

    Attributes:
        size: Images in a window.
        n_done: Finished windows.
        distance: D of the last one, None before the first.
        p_value: Its exact p-value, for this window alone.
    """

    size: int
    n_done: int
    distance: float | None
    p_value: float | None


@dataclass(frozen=True, slots=True)
class ClassStatus:
    """One class in the stream and in calibration; flagged images are included.

    Attributes:
        name: The class name.
        n_images: Images of the stream with this nearest class.
        share: Their share.
        calibration_images: Calibration images with this nearest class.
        calibration_share: Their share.
        anytime_p_value: Of its wager, None if it has too few calibration images for one.
        drifts: What started alarms.
    """

    name: str
    n_images: int
    share: float
    calibration_images: int
    calibration_share: float
    anytime_p_value: float | None
    drifts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """All that a monitor says.

    Attributes:
        n_images: Images judged.
        n_errors: Images that could not be read, which are counted and not judged.
        alpha: Bound on the chance of any false alarm over an endless stream.
        budget: The part of alpha of each detector of drift at work.
        alarms: In the order in which they started; they stand until the detector is calibrated
            again.
        flags: The share of flagged images.
        values: The p-values of unflagged images.
        windows: The same in windows.
        classes: Classes with images in the stream or in calibration; None if the classes of
            calibration images or of the stream are unknown.
        notes: What was not tested, and why.
    """

    n_images: int
    n_errors: int
    alpha: float
    budget: dict[str, float]
    alarms: tuple[Alarm, ...]
    flags: FlagStatus
    values: ValueStatus
    windows: WindowStatus
    classes: tuple[ClassStatus, ...] | None
    notes: tuple[str, ...]

    @property
    def alarm(self) -> bool:
        """Whether any alarm stands."""
        return bool(self.alarms)

    @property
    def drifting_classes(self) -> tuple[str, ...]:
        """Names of the classes with alarms, in the order of the first of each."""
        names = (each.class_name for each in self.alarms if each.class_name is not None)
        return tuple(dict.fromkeys(names))

    def as_dict(self) -> dict[str, Any]:
        """Return JSON data, with `alarm` and `drifting_classes`."""
        return {
            "alarm": self.alarm,
            "drifting_classes": list(self.drifting_classes),
            **asdict(self),
        }

    def _repr_html_(self) -> str:
        """Return what notebooks show: the sentences, the verdict in colour."""
        first, *others = self.sentences()
        title = coloured(escaped(first), RED if self.alarm else GREY)
        return frame(title, *(paragraph(escaped(line.strip())) for line in others))

    def sentences(self) -> list[str]:
        """Return what a reader needs, the verdict first."""
        errors = f", {self.n_errors:,} unreadable" if self.n_errors else ""
        count = f"{_images(self.n_images)}{errors}"
        if self.alarm:
            first = f"ALARM after {count}: the stream differs from the calibration images."
        else:
            first = f"No alarm after {count}: too little to say that the stream has changed."
        return [
            first,
            *(f"  {alarm.sentence()}" for alarm in self.alarms),
            *(f"  {line}" for line in (self._flag_line(), self._value_line(), self._window_line())),
            *(f"  {note}" for note in self.notes),
        ]

    def _flag_line(self) -> str:
        flags = self.flags
        wanted = f"calibration promised at most {_percent(flags.promised)}"
        if flags.share is None or flags.low is None or flags.high is None:
            return f"flagged: no images yet; {wanted}."
        interval = f"95 % interval {_percent(flags.low)} to {_percent(flags.high)}"
        return (
            f"flagged: {flags.n_flagged:,} ({_percent(flags.share)}; {interval}); {wanted}; exact "
            f"p-value {_p(flags.exact_p_value)}, at any time {_p(flags.anytime_p_value)}, plain "
            f"binomial {_p(flags.binomial_p_value)}."
        )

    def _value_line(self) -> str:
        values = self.values
        now, most = (10 ** min(x, 300) for x in (values.log10_wealth, values.log10_largest))
        return (
            f"p-values of {_images(values.n_images)}: wealth {now:.3g}, largest {most:.3g}, "
            f"p-value at any time {_p(values.anytime_p_value)}."
        )

    def _window_line(self) -> str:
        windows = self.windows
        if windows.distance is None:
            return f"windows of {windows.size} unflagged images: none finished yet."
        return (
            f"windows of {windows.size} unflagged images: {windows.n_done:,} finished, the last "
            f"with D = {windows.distance:.3f}, p-value {_p(windows.p_value)}."
        )


def _images(n: int) -> str:
    return f"{n:,} image{'' if n == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _p(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2g}"
