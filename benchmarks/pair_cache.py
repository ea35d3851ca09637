"""How often the embedding of a pair is known already, measured on images and simulated for a fleet.

    python benchmarks/pair_cache.py IMAGES... --name NAME --out FILE.json
                                    [--encoder builtin-photo | --detector DIR]
    python benchmarks/pair_cache.py FILE.json... --plot FILE.svg

The class names are those of the folders or of a saved detector, and IMAGES "bundled" are the
pictures and the class names of the demo. The second form draws what the first has written. The
steps:

1. For every image, its k x k pairs; for 20 random orders of the images, how many different pairs
   the first n images have. The mean over the orders is the curve.
2. A Zipf-Mandelbrot model: the pair of rank r is among those of an image with the probability
   min(1, c (r + q)^-s), r up to (number of class names) x (number of labels), where c makes k x k
   pairs an image. s and q are fitted to the curve, and once more to its first half, to see how well
   they tell the second half.
3. A check that the fitted model, drawn image by image with a fixed seed and looked up in a memory
   that forgets what was used longest ago, gives the expected number of encoded pairs.
4. The share of look-ups that need the text encoder while n images are scored with one cache, with
   and without the 4,096 commonest pairs, which a calibrated detector brings along.

Everything but the images is deterministic.
"""

from __future__ import annotations

import argparse
import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from negrefine import NegRefine, load_detector, load_encoder
from negrefine.benchmarks.bundled import demo_class_names, demo_images
from negrefine.detectors.kept_pairs import MOST_KEPT
from negrefine.detectors.scores import stable_topk
from negrefine.encoders import find_images

ORDERS = 20
PER_IMAGE = 25
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """The Zipf-Mandelbrot model of which pairs images ask for."""

    s: float
    q: float
    n_pairs: int

    def probabilities(self) -> tuple[Floats, Floats]:
        """Return probabilities by bins of ranks, and how many ranks are in each."""
        edges = np.unique(np.geomspace(1, self.n_pairs + 1, 4000).astype(np.int64))
        ranks = (edges[:-1] + edges[1:] - 1) / 2
        counts = np.diff(edges).astype(np.float64)
        weights = (ranks + self.q) ** -self.s
        low, high = 0.0, 1.0 / weights.min()
        for _ in range(200):
            middle = (low + high) / 2
            if (counts * np.minimum(1, middle * weights)).sum() < PER_IMAGE:
                low = middle
            else:
                high = middle
        return np.minimum(1, high * weights), counts

    def distinct(self, n: Floats) -> Floats:
        """Return how many different pairs n images have on average."""
        p, counts = self.probabilities()
        with np.errstate(divide="ignore"):
            unseen = np.exp(np.outer(n, np.log1p(-p)))
        return np.asarray((counts * (1 - unseen)).sum(axis=1))

    def encoded_share(self, n: Floats, kept: int = 0) -> Floats:
        """Return the share of look-ups that n images encode, if `kept` pairs are known before."""
        p, counts = self.probabilities()
        last = np.cumsum(counts)
        counts = np.clip(last - kept, 0, counts)
        with np.errstate(divide="ignore"):
            unseen = np.exp(np.outer(n, np.log1p(-p)))
        return np.asarray((counts * (1 - unseen)).sum(axis=1) / (PER_IMAGE * n))

    def draw(self, n_images: int, max_pairs: int, seed: int = 0) -> int:
        """Draw images and return how many pairs a memory of `max_pairs` had to encode."""
        random = np.random.default_rng(seed)
        p, counts = self.probabilities()
        first = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)
        memory: OrderedDict[int, None] = OrderedDict()
        encoded = 0
        for _ in range(n_images):
            number = random.binomial(counts.astype(np.int64), p)
            for bin_ in np.flatnonzero(number):
                if counts[bin_] == 1:
                    drawn = [0]
                else:
                    drawn = random.choice(int(counts[bin_]), number[bin_], replace=False).tolist()
                for place in drawn:
                    pair = int(first[bin_]) + place
                    if pair in memory:
                        memory.move_to_end(pair)
                        continue
                    encoded += 1
                    memory[pair] = None
                    if len(memory) > max_pairs:
                        memory.popitem(last=False)
        return encoded


def pairs_of(detector: NegRefine, features: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the numbers of each image's pairs, int64 (n, k x k)."""
    block = detector._block(detector._check_features(features))
    classes = stable_topk(block.classes, detector.k).numpy()
    negatives = stable_topk(block.negatives, detector.k).numpy()
    codes = classes[:, :, None] * len(detector.negatives_.texts) + negatives[:, None, :]
    return np.asarray(codes.reshape(len(codes), -1), dtype=np.int64)


def measured_curve(pairs: NDArray[np.int64]) -> Floats:
    """Return the mean number of different pairs of the first 1, 2, ... n images."""
    random = np.random.default_rng(0)
    total = np.zeros(len(pairs))
    for _ in range(ORDERS):
        order = random.permutation(len(pairs))
        _, first = np.unique(pairs[order].ravel(), return_index=True)
        total += np.cumsum(np.bincount(first // pairs.shape[1], minlength=len(pairs)))
    return total / ORDERS


def fit(curve: Floats, n_pairs: int) -> Model:
    """Fit the model to a curve, with equal weight for each factor in the number of images."""
    n = np.unique(np.geomspace(1, len(curve), 60).astype(np.int64))
    wanted = np.log(curve[n - 1])

    def residuals(x: Floats) -> Floats:
        model = Model(float(x[0]), float(np.exp(x[1])), n_pairs)
        return np.asarray(np.log(model.distinct(n.astype(np.float64))) - wanted)

    found = least_squares(residuals, [1.0, 3.0], bounds=([0.3, -3], [4, 9]))
    return Model(float(found.x[0]), float(np.exp(found.x[1])), n_pairs)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the curve of images, the model, and how well it fits."""
    if arguments.images == ["bundled"]:
        paths, names = [image.path for image in demo_images()], demo_class_names()
    else:
        paths = find_images(arguments.images)
        names = sorted({path.parent.name for path in paths})
    if arguments.detector:
        detector: Any = load_detector(arguments.detector)
        names = detector.class_names_
    else:
        detector = NegRefine(load_encoder(arguments.encoder)).fit(names, progress=True)
    features = detector.encoder.encode_images(paths)
    pairs = pairs_of(detector, features)
    curve = measured_curve(pairs)
    n_labels = len(detector.negatives_.texts)
    n_pairs = len(names) * n_labels
    model, half = fit(curve, n_pairs), fit(curve[: len(curve) // 2], n_pairs)
    n = np.arange(1, len(curve) + 1, dtype=np.float64)
    deviation = np.abs(model.distinct(n) / curve - 1)
    drawn = model.draw(len(paths), 100_000)
    return {
        "name": arguments.name,
        "encoder": detector.encoder.name,
        "n_images": len(paths),
        "n_classes": len(names),
        "n_labels": n_labels,
        "curve": curve.round(2).tolist(),
        "new_per_image": float(curve[-1] / len(curve)),
        "new_at_the_end": float((curve[-1] - curve[-51]) / 50),
        "model": asdict(model),
        "largest_deviation_from_10_images": float(deviation[9:].max()),
        "second_half_from_the_first": float(half.distinct(n[-1:])[0] / curve[-1] - 1),
        "drawn_against_expected": float(drawn / model.distinct(n[-1:])[0] - 1),
    }


def simulate(model: Model) -> dict[str, Any]:
    """Return the shares of look-ups that are encoded over n images, with and without kept pairs."""
    n = np.geomspace(1e2, 1e9, 71)
    return {
        "n_images": n.tolist(),
        "plain": model.encoded_share(n).tolist(),
        "kept": model.encoded_share(n, MOST_KEPT).tolist(),
    }


def plot(results: Sequence[dict[str, Any]]) -> str:
    """Return an SVG: new pairs an image, and the shares of look-ups that are encoded."""
    left, right = Axes(60, 1, 1000, 1, 30), Axes(520, 1e2, 1e9, 1e-6, 1)
    shapes = [
        *left.drawn("images scored", "new pairs an image", [1, 10, 100, 1000], [1, 3, 10, 30]),
        *right.drawn(
            "images that share a cache",
            "share of look-ups that are encoded",
            [10.0**e for e in range(2, 10)],
            [10.0**e for e in range(-6, 1)],
        ),
    ]
    for result, colour in zip(results, ("#4f46e5", "#d97706"), strict=False):
        model, curve = Model(**result["model"]), np.array(result["curve"])
        n = np.unique(np.geomspace(1, len(curve), 24).astype(np.int64))
        edges = np.concatenate([[0], n])
        new = np.diff(np.concatenate([[0], curve])[edges]) / np.diff(edges)
        middle = (edges[1:] + edges[:-1] + 1) / 2
        shapes += [
            f'<circle cx="{left.x(x):.1f}" cy="{left.y(y):.1f}" r="3" fill="{colour}"/>'
            for x, y in zip(middle, new, strict=True)
        ]
        fine = np.geomspace(1, 1000, 80)
        expected = (model.distinct(fine + 0.5) - model.distinct(fine - 0.5)).clip(1e-9)
        shapes.append(left.line(fine, expected, colour))
        simulated = result["simulated"]
        shapes.append(right.line(simulated["n_images"], simulated["plain"], colour))
        shapes.append(right.line(simulated["n_images"], simulated["kept"], colour, dashed=True))
    rows = [(r["name"], c, "") for r, c in zip(results, ("#4f46e5", "#d97706"), strict=False)]
    rows += [("4,096 pairs kept from calibration", "#475569", ' stroke-dasharray="5 4"')]
    for i, (name, colour, dash) in enumerate(rows):
        y = 345 + 18 * i
        shapes.append(
            f'<path d="M60 {y - 4}h26" stroke="{colour}" stroke-width="2"{dash}/>'
            f'<text x="94" y="{y}">{escape(name)}</text>'
        )
    shapes.append('<text x="520" y="345">dots: measured; lines: the fitted model</text>')
    height = 345 + 18 * len(rows)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 960 {height}" font-size="13" '
        'font-family="system-ui, sans-serif" fill="#1e293b" role="img" aria-label="New pairs an '
        'image fall with the number of images; so does the share of look-ups that are encoded.">'
        f'<rect width="960" height="{height}" fill="#fff"/>{"".join(shapes)}</svg>\n'
    )


@dataclass(frozen=True)
class Axes:
    """Two logarithmic axes, 400 x 250 units large, `at` units from the left."""

    at: int
    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        """Return the horizontal position of a value."""
        share = np.log(value / self.x_low) / np.log(self.x_high / self.x_low)
        return float(self.at + 400 * share)

    def y(self, value: float) -> float:
        """Return the vertical position of a value."""
        share = np.log(value / self.y_low) / np.log(self.y_high / self.y_low)
        return float(275 - 250 * share)

    def line(
        self, xs: Sequence[float], ys: Sequence[float], colour: str, *, dashed: bool = False
    ) -> str:
        """Return the line through points, as far as it is above the axis."""
        points = [(x, y) for x, y in zip(xs, ys, strict=True) if y >= self.y_low]
        path = "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in points)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'

    def drawn(
        self, x_name: str, y_name: str, xs: Sequence[float], ys: Sequence[float]
    ) -> list[str]:
        """Return the axes with ticks and names."""
        shapes = [f'<rect x="{self.at}" y="25" width="400" height="250" fill="#f8fafc"/>']
        for value in xs:
            x = self.x(value)
            shapes.append(f'<path d="M{x:.1f} 25v250" stroke="#e2e8f0"/>')
            shapes.append(f'<text x="{x:.1f}" y="292" text-anchor="middle">{_tick(value)}</text>')
        for value in ys:
            y = self.y(value)
            shapes.append(f'<path d="M{self.at} {y:.1f}h400" stroke="#e2e8f0"/>')
            shapes.append(
                f'<text x="{self.at - 6}" y="{y + 4:.1f}" text-anchor="end">{_tick(value)}</text>'
            )
        shapes.append(f'<text x="{self.at + 200}" y="312" text-anchor="middle">{x_name}</text>')
        shapes.append(f'<text x="{self.at}" y="16">{y_name}</text>')
        return shapes


def _tick(value: float) -> str:
    if 0.01 <= value <= 1000:
        return f"{value:g}"
    superscript = str(round(np.log10(value))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{superscript}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, fit, simulate and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("images", nargs="+")
    parser.add_argument("--encoder", default="builtin-photo")
    parser.add_argument("--detector", type=Path)
    parser.add_argument("--name", default="images")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args(argv)
    if arguments.plot:
        results = [json.loads(Path(file).read_text(encoding="utf-8")) for file in arguments.images]
        arguments.plot.write_text(plot(results), encoding="utf-8")
        return
    result = measure(arguments)
    print(json.dumps({k: v for k, v in result.items() if k != "curve"}, indent=2))
    if arguments.out:
        result["simulated"] = simulate(Model(**result["model"]))
        arguments.out.write_text(json.dumps(result) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
