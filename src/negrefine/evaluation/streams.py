"""Methods that learn from the stream beside static ones, over orders, ratios, batches and seeds.

For each stream a method is measured twice. AUROC and FPR95 are of all its images, from `reset`, as
published. False alarms are of a second stream: half of the ID images, drawn by the seed, come first
and set the conformal threshold for `fpr`; the other half and the OOD images follow, the method goes
on learning, and the ID images below the threshold are counted. For a static score the rate is at
most `fpr` on average over draws, whatever the stream; a score that learns has no such guarantee.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors import Detector
from negrefine.detectors.conformal import conformal_threshold, images_needed
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError
from negrefine.evaluation.measure import metrics_of_scores
from negrefine.evaluation.results import MEAN, Scores
from negrefine.evaluation.stream_orders import NO_OOD, Stream, StreamSetting, make_stream
from negrefine.evaluation.stream_rows import Spread, StreamRow
from negrefine.progress import progress_bar
from negrefine.streaming import OODD, TANL, AdaNeg, StreamDetector

SEEDS = (0, 1, 2, 3, 4)
"""Five streams of each kind: the order of images is the largest source of chance."""
SETTINGS = (
    StreamSetting(),
    StreamSetting("mixed"),
    StreamSetting("bursts"),
    StreamSetting(ratio=NO_OOD),
)

VARIANTS: Mapping[str, tuple[str, Callable[[Detector], StreamDetector]]] = {
    "adaneg": ("AdaNeg", AdaNeg),
    "adaneg-sample": ("AdaNeg (sample)", lambda base: AdaNeg(base, prototypes="sample")),
    "tanl": ("TANL", TANL),
    "tanl-official": ("TANL (official)", lambda base: TANL(base, preset="official")),
    "oodd": ("OODD", OODD),
}
"""The stream methods that an evaluation knows by name: title, and how one is made on a base."""

# Scores of the images of a stream, in its order, for a calibrating half and what follows.
_Run = Callable[[Sequence[Stream], int], list[Scores]]


@dataclass(frozen=True)
class StreamPlan:
    """What to compare over streams, beside the static methods of an evaluation.

    Attributes:
        streams: Row of the table to stream; each is reset before it is used.
        settings: Kinds of streams.
        seeds: Of the orders; each method gets the same streams.
        fpr: The false-alarm rate that thresholds are calibrated for.
    """

    streams: Mapping[str, StreamDetector]
    settings: Sequence[StreamSetting] = SETTINGS
    seeds: Sequence[int] = SEEDS
    fpr: float = 0.05

    def __post_init__(self) -> None:
        images_needed(self.fpr)
        if not self.settings or not self.seeds:
            raise InputError("A plan of streams needs at least one setting and one seed.")
        if len(set(self.seeds)) < len(self.seeds) or any(seed < 0 for seed in self.seeds):
            raise InputError("Stream seeds must be different whole numbers of at least 0.")


def evaluate_streams(
    plan: StreamPlan,
    features: Sequence[FloatArray],
    ood_names: Sequence[str],
    static_scores: Mapping[str, Sequence[Scores]],
    *,
    progress: bool = False,
) -> list[StreamRow]:
    """Run every method over every stream and measure.

    Args:
        plan: Streams, settings and seeds.
        features: Image features, float32 (n, d), of the ID set and of each OOD set.
        ood_names: Names of the OOD sets.
        static_scores: Row to the scores (n,) of the same sets by a static method.
        progress: Draw a progress bar on a terminal.

    Returns:
        For each setting, method and set a row, and one for "mean" where there are several sets.

    Raises:
        InputError: A row named twice, no OOD set, or sets that differ in number.
    """
    twice = set(plan.streams) & set(static_scores)
    if twice:
        raise InputError(f"The row {sorted(twice)[0]!r} is both static and a stream: rename it.")
    if not ood_names or len(features) != len(ood_names) + 1:
        raise InputError("Streams need features of the ID set and of each of the OOD sets.")
    runs: dict[str, _Run] = {row: _static(scores) for row, scores in static_scores.items()}
    runs |= {row: _learning(stream, features) for row, stream in plan.streams.items()}
    sizes = [len(each) for each in features]
    rows: list[StreamRow] = []
    total = len(plan.settings) * len(runs)
    with progress_bar("Running streams", total, enabled=progress) as advance:
        for setting in dict.fromkeys(map(_without_order, plan.settings)):
            for row, run in runs.items():
                measured = _measured(setting, sizes, plan, run)
                rows += _rows(row, row in plan.streams, setting, ood_names, measured)
                advance(1)
    return rows


def _without_order(setting: StreamSetting) -> StreamSetting:
    """Return the setting; without OOD images all orders are one."""
    if setting.ratio == NO_OOD:
        return StreamSetting(ratio=NO_OOD, batch_size=setting.batch_size)
    return setting


def _static(scores: Sequence[Scores]) -> _Run:
    def run(streams: Sequence[Stream], batch_size: int) -> list[Scores]:  # noqa: ARG001
        return [_taken(scores, stream) for stream in streams]

    return run


def _learning(detector: StreamDetector, features: Sequence[FloatArray]) -> _Run:
    def run(streams: Sequence[Stream], batch_size: int) -> list[Scores]:
        detector.reset()
        return [
            np.concatenate(
                [detector.update_and_score(b) for b in _batches(features, stream, batch_size)]
            )
            for stream in streams
        ]

    return run


def _batches(
    features: Sequence[FloatArray], stream: Stream, batch_size: int
) -> Iterator[FloatArray]:
    """Yield the features of a stream; what is left at the end joins the batch before it.

    A few images alone would be too small a batch for some methods.
    """
    starts = list(range(0, len(stream.sets), batch_size))
    if len(starts) > 1 and len(stream.sets) - starts[-1] < min(batch_size, _SMALLEST):
        starts.pop()
    for start, stop in zip(starts, [*starts[1:], len(stream.sets)], strict=True):
        part = Stream(stream.sets[start:stop], stream.images[start:stop])
        yield _taken(features, part)


_SMALLEST = 16


def _taken(arrays: Sequence[NDArray[Any]], stream: Stream) -> NDArray[Any]:
    """Return the rows of the images of a stream, in its order."""
    taken = np.empty((len(stream.sets), *arrays[0].shape[1:]), arrays[0].dtype)
    for number, array in enumerate(arrays):
        chosen = stream.sets == number
        taken[chosen] = array[stream.images[chosen]]
    return taken


@dataclass(frozen=True, slots=True)
class _Measured:
    """One stream of one seed: for each OOD set in it its size and metrics."""

    sets: dict[int, tuple[int, float, float]]
    n_id: int
    n_ood: int
    false_alarms: float | None


def _measured(
    setting: StreamSetting, sizes: Sequence[int], plan: StreamPlan, run: _Run
) -> list[list[_Measured]]:
    """Return for each seed what is measured of each of its streams."""
    n_id, n_ood = sizes[0], sizes[1:]
    together: Iterable[list[int]] = [[i] for i in range(len(n_ood))]
    if setting.ratio == NO_OOD:
        together = [[]]
    elif setting.order == "mixed":
        together = [list(range(len(n_ood)))]
    return [
        [
            _measure_one(_Draw(setting, n_id, n_ood, chosen, seed), plan.fpr, run)
            for chosen in together
        ]
        for seed in plan.seeds
    ]


@dataclass(frozen=True, slots=True)
class _Draw:
    """What decides which images a stream has, and in which order."""

    setting: StreamSetting
    n_id: int
    n_ood: Sequence[int]
    chosen: Sequence[int]
    seed: int

    def stream(self, left_out: NDArray[np.int64] | None = None) -> Stream:
        return make_stream(
            self.setting, self.n_id, self.n_ood, self.chosen, self.seed, left_out=left_out
        )


def _measure_one(draw: _Draw, fpr: float, run: _Run) -> _Measured:
    found: dict[int, tuple[int, float, float]] = {}
    stream = draw.stream()
    if draw.chosen:
        (scores,) = run([stream], draw.setting.batch_size)
        inside = scores[stream.sets == 0]
        for number in draw.chosen:
            outside = scores[stream.sets == number + 1]
            if len(outside):
                auroc, fpr95 = metrics_of_scores(inside, outside)[:2]
                found[number] = (len(outside), float(auroc), float(fpr95))
    n_inside = int((stream.sets == 0).sum())
    alarms = _false_alarms(draw, fpr, run)
    return _Measured(found, n_inside, len(stream.sets) - n_inside, alarms)


def _false_alarms(draw: _Draw, fpr: float, run: _Run) -> float | None:
    """Return the fraction of the later ID images below the threshold of the earlier ones."""
    n = draw.n_id // 2
    if n < images_needed(fpr):
        return None
    earlier = np.random.default_rng([draw.seed, 0]).permutation(draw.n_id)[:n].astype(np.int64)
    later = draw.stream(left_out=earlier)
    streams = [Stream(np.zeros_like(earlier), earlier), later]
    calibration, scores = run(streams, draw.setting.batch_size)
    threshold = conformal_threshold(np.sort(calibration), fpr)
    return float((scores[later.sets == 0] < threshold).mean())


def _rows(
    method: str,
    learns: bool,
    setting: StreamSetting,
    ood_names: Sequence[str],
    measured: Sequence[Sequence[_Measured]],
) -> list[StreamRow]:
    kind = (method, learns, setting.order, setting.ratio, setting.batch_size)
    first = measured[0]
    if setting.ratio == NO_OOD:
        alarms = _alarms([streams[0].false_alarms for streams in measured])
        return [StreamRow(*kind, "", first[0].n_id, 0, None, None, alarms)]
    rows = []
    for number, name in enumerate(ood_names):
        of_set = [one for streams in measured for one in streams if number in one.sets]
        if of_set:
            pairs = [one.sets[number][1:] for one in of_set]
            counts = of_set[0].n_id, of_set[0].sets[number][0]
            alarms = _alarms([one.false_alarms for one in of_set])
            rows.append(StreamRow(*kind, name, *counts, *_spreads(pairs), alarms))
    if len(ood_names) > 1:
        means = [
            np.mean([pair[1:] for one in streams for pair in one.sets.values()], axis=0)
            for streams in measured
        ]
        known = [[one.false_alarms for one in streams] for streams in measured]
        alarms = _alarms([None if None in each else float(np.mean(each)) for each in known])  # type: ignore[arg-type]
        n_ood = round(np.mean([one.n_ood for one in first]))
        rows.append(StreamRow(*kind, MEAN, first[0].n_id, n_ood, *_spreads(means), alarms))
    return rows


def _spreads(
    pairs: Sequence[tuple[float, float] | NDArray[np.float64]],
) -> tuple[Spread | None, Spread | None]:
    """Return the spreads of AUROC and FPR95, one pair for each seed."""
    aurocs, rates = [float(a) for a, _ in pairs], [float(f) for _, f in pairs]
    return Spread.of(aurocs, larger_is_better=True), Spread.of(rates)


def _alarms(values: Sequence[float | None]) -> Spread | None:
    return Spread.of([value for value in values if value is not None])
