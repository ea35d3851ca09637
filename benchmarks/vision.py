"""S_MM, S_VLM and both on composite pictures, with an oracle in place of the vision model.

    python benchmarks/vision.py --n 200

Pictures of the demo are put side by side: an animal of the classes with another thing, an animal
alone (both in-distribution), and another thing alone (out-of-distribution). The negative labels
are the names of the other things, so that they can name what is shown. The oracle knows the two
names and answers yes or no with a margin that it draws around +4 or -4; `--noise` is the
deviation, with which some answers are wrong. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from negrefine import NegRefine, VisionChecked, load_encoder, metrics
from negrefine.benchmarks.bundled import DemoImage, demo_class_names, demo_images
from negrefine.encoders.images import read_image
from negrefine.judges.vision import image_key
from negrefine.labels.lexicon import Lexicon, LexiconEntry

MARGIN = 4.0
SIDE = 160
FPR = 0.05


@dataclass(frozen=True)
class Composite:
    """A picture and the names of what it shows; `kind` is "both", "class" or "other"."""

    image: Image.Image
    shown: frozenset[str]
    kind: str


@dataclass
class Oracle:
    """Knows what each picture shows; the same question has the same answer.

    Attributes:
        noise: Deviation of the margins around +4 or -4.
        asked: Questions so far.
    """

    shown: dict[str, frozenset[str]]
    noise: float = 0.0
    name: str = "oracle"
    asked: int = field(default=0)

    def yes_margins(
        self, images: Sequence[Image.Image], names: Sequence[Sequence[str]]
    ) -> NDArray[np.float64]:
        keys = [image_key(image) for image in images]
        self.asked += sum(map(len, names))
        rows = [
            [self._margin(key, name) for name in row] for key, row in zip(keys, names, strict=True)
        ]
        return np.array(rows, dtype=np.float64)

    def _margin(self, key: str, name: str) -> float:
        seed = [int(key[:16], 16), *name.encode()]
        drawn = self.noise * float(np.random.default_rng(seed).normal())
        return drawn + (MARGIN if name in self.shown[key] else -MARGIN)


def composites(n: int, seed: int = 0) -> list[Composite]:
    """Return 3 n pictures, n of each kind, for a quarter of them with two things in "other"."""
    rng = np.random.default_rng(seed)
    pictures = demo_images()
    animals = [each for each in pictures if each.class_name]
    others = [each for each in pictures if not each.class_name]
    made = []
    for kind in ("both", "class", "other"):
        for i in range(n):
            first = animals[rng.integers(len(animals))]
            second, third = (others[j] for j in rng.choice(len(others), 2, replace=False))
            parts = {
                "both": [first, second],
                "class": [first],
                "other": [second, third] if i % 4 == 0 else [second],
            }[kind]
            made.append(_composite(parts, kind, rng))
    return made


def _composite(parts: list[DemoImage], kind: str, rng: np.random.Generator) -> Composite:
    """Draw the first picture over most of the sheet, and the second small in one of the corners."""
    sheet = Image.new("RGB", (SIDE, SIDE), "white")
    for i, part in enumerate(parts):
        side = round(SIDE * (rng.uniform(0.8, 1) if i == 0 else 0.5))
        where = rng.random(2) if i == 0 else rng.integers(2, size=2)
        left, top = np.rint((SIDE - side) * where).astype(int).tolist()
        sheet.paste(read_image(part.path).resize((side, side)), (left, top))
    return Composite(sheet, frozenset(each.class_name or each.annotation for each in parts), kind)


def fit(encoder: Any) -> NegRefine:
    """Return NegRefine on the animals, whose negative labels are the names of the other things."""
    names = dict.fromkeys(each.annotation for each in demo_images() if not each.class_name)
    entries = tuple(LexiconEntry(name, "noun.artifact", "noun") for name in names)
    lexicon = Lexicon(entries, "other things")
    detector = NegRefine(
        encoder, lexicon=lexicon, lexicon_files="full", top_fraction=1, judge="none", n_groups=5
    )
    return detector.fit(demo_class_names())


def oracle_of(pictures: Sequence[Composite], noise: float = 0.0) -> Oracle:
    """Return the oracle that knows these pictures."""
    return Oracle({image_key(each.image): each.shown for each in pictures}, noise)


def figures(scores: NDArray[np.float64], kinds: NDArray[np.str_]) -> dict[str, float]:
    """Return AUROC and FPR95 of the two kinds of in-distribution pictures against the others."""
    inside, other = scores[kinds != "other"], scores[kinds == "other"]
    both = scores[kinds == "both"]
    return {
        "auroc": metrics.auroc(inside, other),
        "fpr95": metrics.fpr95(inside, other),
        "auroc of both": metrics.auroc(both, other),
        "fpr95 of both": metrics.fpr95(both, other),
    }


@dataclass(frozen=True)
class Row:
    """What one setting gives: figures, questions for each picture, verdicts that it changed."""

    name: str
    figures: dict[str, float]
    questions: float
    changed: int | None
    flagged_inside: float
    flagged_other: float


def measure(
    base: NegRefine,
    pictures: Sequence[Composite],
    calibration: Sequence[Composite],
    noise: float,
    settings: Sequence[tuple[str, dict[str, Any]]],
) -> list[Row]:
    """Return a row for each setting of `VisionChecked`, thresholds from other pictures.

    `calibration` holds in-distribution pictures alone, the first half of which sets the base's
    threshold and the second half that of the final score.
    """
    half = len(calibration) // 2
    images = [each.image for each in pictures]
    others = [each.image for each in calibration]
    encoded, known = (base.encoder.encode_images(each) for each in (images, others))
    base.calibrate_features(known[:half], FPR)
    kinds = np.array([each.kind for each in pictures])
    oracle = oracle_of([*pictures, *calibration], noise)
    rows = []
    for name, setting in settings:
        checked = VisionChecked.of(base, oracle, **setting)
        checked.calibrate_scores(checked.check_features(known[half:], others[half:]).scores, FPR)
        checks = checked.check_features(encoded, images)
        report = checked.report(checks)
        flagged = checks.scores < (checked.offset_ or 0.0)
        rows.append(
            Row(
                name,
                figures(checks.scores, kinds),
                report.questions / report.n,
                report.changed,
                float(flagged[kinds != "other"].mean()),
                float(flagged[kinds == "other"].mean()),
            )
        )
    return rows


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200, help="pictures of each kind")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    base = fit(load_encoder("builtin", device="cpu"))
    pictures = composites(given.n, given.seed)
    calibration = [each for each in composites(given.n, given.seed + 1) if each.kind != "other"]
    order = np.random.default_rng(given.seed).permutation(len(calibration))
    calibration = [calibration[i] for i in order]
    settings: list[tuple[str, dict[str, Any]]] = [("S_MM, w = 0", {"weight": 0.0})]
    for k in (2, 5):
        for rule, name in (("pair", "S_VLM"), ("class", "V")):
            for weight in (0.5, 1.0):
                setting = {"weight": weight, "rule": rule, "k": k}
                settings.append((f"{name}, w = {weight:g}, k = {k}", setting))
    for confine in (False, True):
        for band in (0.1, 0.3, 1.0):
            name = f"V, w = 1, k = 5, band {band:g}{', confined' if confine else ''}"
            setting = {"weight": 1.0, "rule": "class", "k": 5, "band": band, "confine": confine}
            settings.append((name, setting))
    for noise in (0.0, 4.0):
        print(f"\nNoise {noise:g}\n")
        print(
            "| score | AUROC | FPR95 | AUROC, class + other | FPR95, class + other | "
            "questions | changed | flagged ID | flagged OOD |"
        )
        print("|---" * 9 + "|")
        for row in measure(base, pictures, calibration, noise, settings):
            values = " | ".join(f"{100 * value:.1f}" for value in row.figures.values())
            print(
                f"| {row.name} | {values} | {row.questions:.2f} | {row.changed} | "
                f"{100 * row.flagged_inside:.1f} | {100 * row.flagged_other:.1f} |"
            )


if __name__ == "__main__":
    main()
