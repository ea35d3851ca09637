"""Methods that learn from the stream, on features of our own making: tables, attacks, throughput.

    python benchmarks/stream.py table        # order, ratio and batch size
    python benchmarks/stream.py false-alarms # no OOD image in the stream
    python benchmarks/stream.py frozen       # the guarantee after freeze()
    python benchmarks/stream.py poison       # verdicts that an attacker's share of the stream flips
    python benchmarks/stream.py throughput   # images a second against the static NegLabel score

The features are unit vectors of 256 numbers. An image is the sum of the text of its concept, of
what all images of the concept share beyond its text, and of noise. Classes and OOD concepts are
drawn alike; some negative labels are near each OOD concept, the others are unlike everything. What
is learnt can only be what images share beyond their text, which real images have, too; how much of
it they have is not known here, so the numbers show directions and not what to expect of a model.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors import Detector
from negrefine.detectors.conformal import conformal_threshold
from negrefine.evaluation.stream_orders import StreamSetting
from negrefine.evaluation.stream_tables import by_setting, cells, summary
from negrefine.evaluation.streams import StreamPlan, evaluate_streams
from negrefine.metrics import auroc
from negrefine.streaming import OODD, TANL, AdaNeg, StreamDetector
from negrefine.streaming.given import detector_of_features

Floats = NDArray[np.float32]
DIM, SCALE = 256, 40.0
N_CLASSES, N_OOD, N_NEGATIVES = 40, 20, 800
OODD_WEIGHTS = (0.3, 1.0)


def unit(rows: NDArray[np.floating]) -> Floats:
    """Return rows of length one."""
    scaled: Floats = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return scaled


class World:
    """Concepts, their texts, and images of them."""

    def __init__(self, seed: int, *, text: float = 0.24, shared: float = 0.45) -> None:
        self.rng = np.random.default_rng(seed)
        self.text, self.shared = text, shared
        self.classes, self.ood = self._directions(N_CLASSES), self._directions(N_OOD)
        self.class_looks, self.ood_looks = self._directions(N_CLASSES), self._directions(N_OOD)
        near = self.ood[np.arange(N_NEGATIVES // 4) % N_OOD] + 1.1 * self._directions(
            N_NEGATIVES // 4
        )
        negatives = np.concatenate([near, self._directions(N_NEGATIVES - len(near))])
        self.negatives = unit(negatives)
        self.noise = self._directions(15)
        self.base = detector_of_features(self.classes, self.negatives, SCALE)

    def _directions(self, n: int) -> Floats:
        return unit(self.rng.normal(size=(n, DIM)))

    def images(self, concepts: Sequence[int] | NDArray[np.integer], *, ood: bool = False) -> Floats:
        """Return an image of each concept, a class or an OOD concept."""
        texts, looks = (self.ood, self.ood_looks) if ood else (self.classes, self.class_looks)
        rest = np.sqrt(1 - self.text**2 - self.shared**2)
        k = np.asarray(concepts)
        return unit(self.text * texts[k] + self.shared * looks[k] + rest * self._directions(len(k)))

    def id_images(self, n: int) -> Floats:
        """Return images of classes drawn at random."""
        return self.images(self.rng.integers(0, N_CLASSES, n))

    def ood_images(self, n: int) -> Floats:
        """Return images of OOD concepts drawn at random."""
        return self.images(self.rng.integers(0, N_OOD, n), ood=True)

    def streams(self) -> dict[str, StreamDetector]:
        """Return the methods that learn, by the names of their rows."""
        made: dict[str, StreamDetector] = {
            "AdaNeg": AdaNeg(self.base),
            "AdaNeg (sample)": AdaNeg(self.base, prototypes="sample"),
            "TANL (paper)": TANL(self.base, noise_features=self.noise, n_labels=200),
            "TANL (official)": TANL(
                self.base, noise_features=self.noise, n_labels=200, preset="official"
            ),
        }
        return made | {f"OODD, weight {w:g}": OODD(self.base, weight=w) for w in OODD_WEIGHTS}


def table(seeds: Sequence[int]) -> None:
    """Print AUROC, FPR95 and false alarms over orders, ratios and batch sizes."""
    world = World(0)
    features = [world.id_images(800), world.ood_images(400), world.ood_images(400)]
    static = {"NegLabel (static)": [world.base.score_features(each) for each in features]}
    settings = (
        StreamSetting(),
        StreamSetting(batch_size=32),
        StreamSetting("mixed"),
        StreamSetting("bursts"),
        StreamSetting(ratio="100:1"),
        StreamSetting(ratio="none"),
    )
    plan = StreamPlan(world.streams(), settings, seeds)
    rows = evaluate_streams(plan, features, ["first", "second"], static)
    for title, found in by_setting(rows):
        print(f"\n{title}\n")
        for row in summary(found):
            print(f"| {row.method} | {' | '.join(cells(row))} |")


def run(stream: StreamDetector, images: Floats, batch_size: int = 256) -> NDArray[np.float64]:
    """Return the scores of a stream."""
    batches = range(0, len(images), batch_size)
    return np.concatenate([stream.update_and_score(images[i : i + batch_size]) for i in batches])


def false_alarms(seeds: Sequence[int]) -> None:
    """Print the false alarms of streams of ID images alone, early and late, for 5 %."""
    found: dict[str, list[tuple[float, ...]]] = {}
    for seed in seeds:
        world = World(seed)
        calibration, later = world.id_images(1000), world.id_images(4096)
        static = world.base.score_features
        threshold = conformal_threshold(np.sort(static(calibration)), 0.05)
        found.setdefault("NegLabel (static)", []).append(_quarters(static(later) < threshold))
        for row, stream in world.streams().items():
            threshold = conformal_threshold(np.sort(run(stream, calibration)), 0.05)
            found.setdefault(row, []).append(_quarters(run(stream, later) < threshold))
    print("| method | mean | first quarter | last quarter | worst seed |")
    for row, values in found.items():
        mean, first, last = np.mean(values, axis=0)
        worst = max(each[0] for each in values)
        print(f"| {row} | {mean:.1%} | {first:.1%} | {last:.1%} | {worst:.1%} |")


def _quarters(flags: NDArray[np.bool_]) -> tuple[float, float, float]:
    n = len(flags) // 4
    return float(flags.mean()), float(flags[:n].mean()), float(flags[-n:].mean())


def frozen(seeds: Sequence[int]) -> None:
    """Print AUROC and false alarms of static, learning and frozen scores, calibrated for 5 %.

    The stream has as many OOD as ID images. The threshold of the learning score is that of ID
    images at its start; the frozen one has other images, which the stream has not seen.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    for seed in seeds:
        world = World(seed)
        first, ids, odds = world.id_images(1000), world.id_images(2048), world.ood_images(2048)
        order = world.rng.permutation(4096)
        mixed, is_id = np.concatenate([ids, odds])[order], order < 2048
        fresh, later, later_ood = (
            world.id_images(1000),
            world.id_images(2048),
            world.ood_images(2048),
        )
        plain = _calibrated(world.base.with_params(), fresh, later, later_ood)
        found.setdefault("NegLabel (static)", []).append(plain)
        for row, stream in world.streams().items():
            threshold = conformal_threshold(np.sort(run(stream, first)), 0.05)
            scores = run(stream, mixed)
            alarms = float((scores[is_id] < threshold).mean())
            found.setdefault(row, []).append((auroc(scores[is_id], scores[~is_id]), alarms))
            learnt = _calibrated(stream.freeze(), fresh, later, later_ood)
            found.setdefault(f"{row}, frozen", []).append(learnt)
    print("| method | AUROC | false alarms | worst seed |")
    for row, values in found.items():
        mean_auroc, alarms = np.mean(values, axis=0)
        worst = max(each[1] for each in values)
        print(f"| {row} | {mean_auroc:.2%} | {alarms:.1%} | {worst:.1%} |")


def _calibrated(
    detector: Detector, fresh: Floats, later: Floats, later_ood: Floats
) -> tuple[float, float]:
    """Return AUROC and false alarms of a detector that is calibrated with fresh images."""
    detector.calibrate_features(fresh, fpr=0.05)
    scores = detector.score_features(later), detector.score_features(later_ood)
    return auroc(*scores), float((scores[0] < detector.offset_).mean())


@dataclass(frozen=True)
class Attack:
    """What an attacker sends.

    Attributes:
        name: What it is for.
        start: Images that each attack image begins as.
        aim: The direction it is moved in, until the static score is `score`.
        score: Low enough (or high enough) to be learnt as the other side.
        victims: Images whose verdicts should flip.
        flagged: Whether they should become flagged, or accepted.
    """

    name: str
    start: Floats
    aim: Floats
    score: float
    victims: Floats
    flagged: bool


def attacks(world: World, n: int) -> list[Attack]:
    """Return both attacks: class 0 flagged, OOD concept 0 accepted."""
    cosines = world.negatives @ world.classes[0]
    nearest = world.negatives[int(cosines.argmax())]
    towards = world.classes[int((world.classes @ world.ood[0]).argmax())]
    return [
        Attack(
            "class 0 flagged",
            world.images([0] * n),
            nearest,
            0.2,
            world.images([0] * 300),
            True,
        ),
        Attack(
            "OOD concept 0 accepted",
            world.images([0] * n, ood=True),
            towards,
            0.8,
            world.images([0] * 300, ood=True),
            False,
        ),
    ]


def sent(world: World, attack: Attack) -> Floats:
    """Return the attack images: those with the smallest move that reaches the score."""
    images = attack.start.copy()
    open_ = np.ones(len(images), dtype=bool)
    for step in np.linspace(0, 1, 41):
        moved = unit((1 - step) * attack.start[open_] + step * attack.aim)
        scores = world.base.score_features(moved)
        images[open_] = moved
        reached = scores < attack.score if attack.flagged else scores > attack.score
        open_[np.flatnonzero(open_)[reached]] = False
        if not open_.any():
            break
    return images


def poison(seeds: Sequence[int]) -> None:
    """Print which fraction of the victims' verdicts flips, by the attacker's share of the stream.

    The stream begins with 1,000 ID images, which set the threshold for 5 %, goes on with 2,048 ID,
    512 OOD and the attacker's images, shuffled, and ends with 300 victims among 700 ID images. A
    verdict has flipped if it differs from that of the same method without an attack in the
    direction that the attacker wants.
    """
    shares = (0.001, 0.01, 0.05, 0.2)
    found: dict[tuple[str, str], list[list[float]]] = {}
    for seed in seeds:
        world = World(seed)
        first, plain = world.id_images(1000), world.id_images(2048)
        odd, end = world.ood_images(512), world.id_images(700)
        for attack in attacks(world, 640):
            images = sent(world, attack)
            rows = {"NegLabel (static)": None, **world.streams()}
            for row, stream in rows.items():
                verdicts = []
                for share in (0.0, *shares):
                    n = round(share / (1 - share) * (len(plain) + len(odd)))
                    middle = np.concatenate([plain, odd, images[:n]])
                    order = np.random.default_rng([seed, n]).permutation(len(middle))
                    last = np.concatenate([attack.victims, end])
                    mixed = np.random.default_rng(seed).permutation(len(last))
                    scores: Callable[[Floats], NDArray[np.float64]] = world.base.score_features
                    if stream is not None:
                        stream.reset()
                        scores = lambda batch, s=stream: run(s, batch)  # noqa: E731
                    threshold = conformal_threshold(np.sort(scores(first)), 0.05)
                    if stream is not None:
                        scores(middle[order])
                    values = np.empty(len(last))
                    values[mixed] = scores(last[mixed])
                    verdicts.append(values[: len(attack.victims)] < threshold)
                before = verdicts[0]
                flips = [
                    float((after & ~before if attack.flagged else ~after & before).mean())
                    for after in verdicts[1:]
                ]
                found.setdefault((attack.name, row), []).append([before.mean(), *flips])
    print(f"| attack | method | flagged before | {' | '.join(f'{s:.1%}' for s in shares)} |")
    for (name, row), values in found.items():
        shown = " | ".join(f"{v:.1%}" for v in np.mean(values, axis=0))
        print(f"| {name} | {row} | {shown} |")


def throughput(seeds: Sequence[int]) -> None:
    """Print images a second relative to the static NegLabel score, in turns, median of rounds."""
    rng = np.random.default_rng(0)
    classes, negatives = (unit(rng.normal(size=(n, 512))) for n in (1000, 10_000))
    base = detector_of_features(classes, negatives, 100.0)
    near = np.concatenate([classes, negatives])
    noise = unit(rng.normal(size=(15, 512)))
    streams: dict[str, StreamDetector] = {
        "AdaNeg": AdaNeg(base),
        "AdaNeg (sample)": AdaNeg(base, prototypes="sample"),
        "TANL (10,000 candidates)": TANL(base, noise_features=noise),
        "OODD": OODD(base),
    }
    times: dict[str, list[float]] = {}
    for _ in range(6 * len(seeds)):
        images = unit(
            near[rng.integers(0, len(near), 256)] + 1.2 * unit(rng.normal(size=(256, 512)))
        )
        for row, score in {
            "NegLabel (static)": base.score_features,
            **{row: stream.update_and_score for row, stream in streams.items()},
        }.items():
            start = time.perf_counter()
            score(images)
            times.setdefault(row, []).append(time.perf_counter() - start)
    plain = np.array(times["NegLabel (static)"])
    print(json.dumps({"static images per second": round(256 / float(np.median(plain)))}))
    for row, values in times.items():
        # The first batches fill memories.
        ratios = np.array(values)[3:] / plain[3:]
        print(f"| {row} | {np.median(ratios):.2f} times the static time |")


COMMANDS = {
    "table": table,
    "false-alarms": false_alarms,
    "frozen": frozen,
    "poison": poison,
    "throughput": throughput,
}


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    COMMANDS[arguments.command](range(arguments.seeds))


if __name__ == "__main__":
    main()
