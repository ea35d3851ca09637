"""False alarms and detection delays of `negrefine.Monitor` on simulated streams.

    python benchmarks/monitor.py false-alarms [--streams 300] [--processes 2]
    python benchmarks/monitor.py delays [--streams 40] [--processes 2]

Every stream has calibration scores of its own. Beside the monitor two naive ways are measured on
the same streams: the same martingale on the p-values themselves, spread over their cells, as if
they were independent uniform numbers, and a plain binomial test of the number of flagged images
against fpr at the end of the stream. Intervals are Clopper-Pearson, 95 %.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors.conformal import detection_interval, threshold_rank
from negrefine.detectors.kept_calibration import KeptCalibration
from negrefine.monitoring import Monitor, MonitoredCalibration
from negrefine.monitoring.martingale import UNIFORM_BETS, Jumper
from negrefine.monitoring.two_sample import binomial_p_value

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Scenario:
    """Streams of one kind.

    Attributes:
        name: Row of the table.
        n: Calibration images.
        length: Images of the stream.
        fpr: Of the calibration.
        n_classes: Classes, class k with the share 1 / (k + 1) up to a factor, and mean k / 4.
        by: "class" for thresholds by class.
        ties: "" for none, "saturated" for scores cut off at both ends, "rounded" to one decimal.
        start: Image at which the drift begins.
        shift: What scores lose from there on, in standard deviations.
        only_class: The one class that shifts; None for all.
        ramp: Images over which the shift grows; 0 for at once.
        ood: Fraction of images that are out-of-distribution from there on, at -3.
    """

    name: str
    n: int = 1000
    length: int = 1000
    fpr: float = 0.05
    n_classes: int = 5
    by: str | None = None
    ties: str = ""
    start: int = 0
    shift: float = 0.0
    only_class: int | None = None
    ramp: int = 0
    ood: float = 0.0


FALSE_ALARMS = (
    Scenario("n = 19, one class", n=19, length=2000, n_classes=1),
    Scenario("n = 100, 5 classes", n=100),
    Scenario("n = 1,000, 5 classes", n=1000),
    Scenario("n = 1,000, thresholds by class", n=1000, by="class"),
    Scenario("n = 120, thresholds by class, some pooled", n=120, by="class", n_classes=8),
    Scenario("n = 300, scores cut off at both ends", n=300, ties="saturated"),
    Scenario("n = 300, scores rounded to 0.1", n=300, ties="rounded"),
)
_LATE = Scenario("", n=1000, length=11_000, n_classes=10, start=1000)
DELAYS = (
    *(replace(_LATE, name=f"mean shift of {d} sd", shift=d) for d in (0.1, 0.25, 0.5, 1.0)),
    *(replace(_LATE, name=f"{f:.0%} of images become OOD", ood=f) for f in (0.05, 0.2)),
    replace(
        _LATE, name="one of 10 classes shifts by 1 sd (17 % of images)", shift=1.0, only_class=1
    ),
    replace(_LATE, name="slow drift: 0.5 sd over 5,000 images", shift=0.5, ramp=5000),
)


def draw(
    scenario: Scenario, size: int, rng: np.random.Generator, *, drifting: bool
) -> tuple[Floats, NDArray[np.intp]]:
    """Return scores and classes of images."""
    shares = 1 / np.arange(1, scenario.n_classes + 1)
    classes = rng.choice(scenario.n_classes, size, p=shares / shares.sum())
    scores = rng.normal(size=size) + classes / 4
    if drifting:
        since = np.arange(size) - scenario.start + 1
        size_of_shift = scenario.shift * np.clip(since / (scenario.ramp or 1), 0, 1)
        moved = scenario.only_class is None or classes == scenario.only_class
        scores -= size_of_shift * moved
        odd = (rng.random(size) < scenario.ood) & (since > 0)
        scores[odd] = rng.normal(-3, 1, int(odd.sum()))
    if scenario.ties == "saturated":
        scores = np.clip(scores, -1, 1.5)
    if scenario.ties == "rounded":
        scores = np.round(scores, 1)
    return scores, classes.astype(np.intp)


def calibrate(scenario: Scenario, rng: np.random.Generator) -> KeptCalibration:
    """Return a calibration on images without drift."""
    scores, classes = draw(scenario, scenario.n, rng, drifting=False)
    order = np.lexsort((classes, scores))
    names = tuple(f"class {k}" for k in range(scenario.n_classes))
    return KeptCalibration(names, scores[order], classes[order], scenario.fpr, None, scenario.by)


def p_values_of(kept: KeptCalibration, scores: Floats, classes: NDArray[np.intp]) -> Floats:
    """Return the conformal p-values that the detector would give."""
    p = np.empty(len(scores))
    for group, members in kept.members_of_groups():
        own = np.isin(classes, group.classes)
        below = np.searchsorted(kept.scores[members], scores[own], side="right")
        p[own] = (1.0 + below) / (group.n + 1.0)
    return p


def one_stream(seed: int, scenario: Scenario, alpha: float) -> dict[str, int | None]:
    """Return at which image each detector raised its first alarm; 'naive' ones, too."""
    rng = np.random.default_rng([seed, 7])
    kept = calibrate(scenario, rng)
    monitor = Monitor(MonitoredCalibration.from_kept(kept), alpha=alpha, seed=seed)
    scores, classes = draw(scenario, scenario.length, rng, drifting=True)
    p = p_values_of(kept, scores, classes)
    stops = range(0, scenario.length, 500)
    delays = scenario.shift or scenario.ood
    for start in stops:
        monitor.update(p[start : start + 500], classes[start : start + 500])
        if delays and any(alarm.image > scenario.start for alarm in monitor.alarms):
            break
    first: dict[str, int | None] = dict.fromkeys(monitor.budget)
    for alarm in monitor.alarms:
        first[alarm.detector] = first[alarm.detector] or alarm.image
    first["any"] = monitor.alarms[0].image if monitor.alarms else None
    classed = [alarm.class_name for alarm in monitor.alarms if alarm.class_name]
    first["class"] = int(classed[0].split()[1]) if classed else None
    if not delays and scenario.by is None:
        first |= naive(kept, p, rng, alpha)
    return first


def naive(
    kept: KeptCalibration, p: Floats, rng: np.random.Generator, alpha: float
) -> dict[str, int | None]:
    """Return the same for what takes p-values for independent uniform numbers."""
    n, fpr = len(kept.scores), kept.fpr
    flagged = p <= threshold_rank(n, fpr) / (n + 1)
    jumper = Jumper(len(UNIFORM_BETS.slopes))
    alarm = None
    for i, u in enumerate((p - rng.random(len(p)) / (n + 1)).tolist(), 1):
        jumper.bet(UNIFORM_BETS(u))
        if jumper.reaches(alpha):
            alarm = i
            break
    plain = binomial_p_value(int(flagged.sum()), len(p), fpr) <= alpha
    return {"naive martingale": alarm, "naive binomial": len(p) if plain else None}


def false_alarms(streams: int, alpha: float, pool: ProcessPoolExecutor) -> None:
    """Print how many streams without drift had an alarm."""
    for scenario in FALSE_ALARMS:
        job = partial(one_stream, scenario=scenario, alpha=alpha)
        results = list(pool.map(job, range(streams), chunksize=5))
        print(f"{scenario.name}: {streams} streams of {scenario.length:,}, alpha = {alpha:g}")
        for name in [key for key in results[0] if key != "class"]:
            k = sum(result[name] is not None for result in results)
            low, high = detection_interval(k, streams)
            print(f"  {name:18} {k / streams:.4f} [{low:.4f}, {high:.4f}]", flush=True)


def delays(streams: int, alpha: float, pool: ProcessPoolExecutor) -> None:
    """Print the delay from the start of a drift to the first alarm."""
    for scenario in DELAYS:
        job = partial(one_stream, scenario=scenario, alpha=alpha)
        results = list(pool.map(job, range(streams), chunksize=5))
        found = [r["any"] for r in results]
        late = [x - scenario.start if x else np.inf for x in found if not x or x > scenario.start]
        median, most = np.quantile(late, [0.5, 0.9], method="higher")
        by = Counter(
            min((x, name) for name, x in r.items() if x and name not in {"any", "class"})[1]
            for r in results
            if r["any"]
        )
        row = {
            "drift": scenario.name,
            "streams": len(late),
            "found": float(np.isfinite(late).mean()),
            "median": float(median),
            "90 %": float(most),
            "first": dict(by.most_common()),
            "first class": dict(Counter(r["class"] for r in results).most_common(3)),
        }
        print(json.dumps(row, default=str), flush=True)


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["false-alarms", "delays"])
    parser.add_argument("--streams", type=int, default=300)
    parser.add_argument("--alpha", type=float, default=0.05)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.processes) as pool:
        run = false_alarms if arguments.what == "false-alarms" else delays
        run(arguments.streams, arguments.alpha, pool)


if __name__ == "__main__":
    main()
