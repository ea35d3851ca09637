"""Draw the figures of the concept pages: `python tools/site/figures.py`.

All numbers are computed here: cosines and scores of the bundled drawings with the built-in encoder,
and the law of false-alarm rates of conformal thresholds. The same machine writes the same bytes.
"""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from drawing import Axes, Drawing
from scipy.stats import beta

import negrefine
from negrefine.benchmarks.bundled import DemoImage, demo_class_names, demo_images
from negrefine.detectors.conformal import threshold_rank

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images" / "concepts"


def fitted() -> tuple[negrefine.NegRefine, list[DemoImage], np.ndarray]:
    """Return a detector of the bundled animals, all drawings and their features (n, d)."""
    encoder = negrefine.load_encoder("builtin")
    lexicon = negrefine.Lexicon.wordnet(min_frequency=5)
    detector = negrefine.NegRefine(encoder, lexicon=lexicon).fit(demo_class_names())
    images = demo_images()
    features = encoder.encode_images([image.path for image in images])
    return detector, images, features / np.linalg.norm(features, axis=1, keepdims=True)


def negative_labels(
    detector: negrefine.NegRefine, images: list[DemoImage], features: np.ndarray
) -> None:
    """Draw the largest cosine with a class name against that with a negative label."""
    assert detector.negatives_ is not None  # noqa: S101 - it is fitted
    classes = (features @ detector.class_features_.T).max(1)
    negatives = (features @ detector.negatives_.kept_features.T).max(1)
    drawing = Drawing(
        520,
        470,
        "Animals are nearer to a class name than to any negative label, others mostly not.",
    )
    axes = Axes(drawing, (48, 40, 500, 380), (0, 0.5), (0, 0.5))
    ticks = [(v / 10, f"{v / 10:.1f}") for v in range(6)]
    axes.frame(
        ticks, ticks, "largest cosine with a class name", "largest cosine with a negative label"
    )
    axes.curve([(0, 0), (0.5, 0.5)], "ld dash")
    for image, x, y in zip(images, classes, negatives, strict=True):
        drawing.dot(axes.x(x), axes.y(y), "a" if image.set_name == "animals" else "b")
    for name, where in (("newspaper", 1), ("calendar", 1), ("elephant", 1), ("turtle", 1)):
        i = next(i for i, image in enumerate(images) if image.annotation == name)
        drawing.text(axes.x(classes[i]) + 7 * where, axes.y(negatives[i]) + 4, name, "title")
    drawing.legend(54, 440, [("a", "25 kinds of animals"), ("b", "all other drawings")])
    drawing.text(250, 440, "Above the broken line a negative", "faint")
    drawing.text(250, 460, "label is nearer than any class.", "faint")
    drawing.write(IMAGES / "negative-labels.svg")


def multi_match(detector: negrefine.NegRefine, images: list[DemoImage]) -> None:
    """Draw what S_MM compares, for a picture of a class and for one of something else."""
    drawing = Drawing(520, 320, "What S_MM compares, for an elephant and for a newspaper.")
    for row, name in enumerate(("elephant", "newspaper")):
        image = next(image for image in images if image.annotation == name)
        explanation = detector.explain(image.path, top=1)
        pair = explanation.pair
        assert pair is not None  # noqa: S101 - it is NegRefine
        top = 20 + 158 * row
        data = base64.b64encode(image.path.read_bytes()).decode()
        drawing.bar(12, top, 88, 88, "white")
        drawing.add(
            f'<image x="16" y="{top + 4}" width="80" height="80" '
            f'href="data:image/png;base64,{data}"/>'
        )
        drawing.text(56, top + 108, name, "title", "middle")
        texts = (
            (pair.negative, pair.negative_similarity, "b"),
            (pair.text, pair.similarity, "c"),
            (pair.class_name, _cosine(detector, image, pair.class_name), "a"),
        )
        for i, (text, cosine, kind) in enumerate(texts):
            y = top + 4 + 32 * i
            drawing.text(280, y + 13, text, "", "end")
            drawing.bar(288, y, max(1.0, 400 * cosine), 18, kind)
            drawing.text(295 + max(1.0, 400 * cosine), y + 14, f"{cosine:.3f}", "faint")
        part = explanation.parts["multi_match"]
        better = "better" if pair.similarity > pair.negative_similarity else "worse"
        drawing.text(
            112, top + 118, f"the pair fits {better} than the label alone: S_MM = {part:.3f}"
        )
    drawing.write(IMAGES / "multi-match.svg")


def _cosine(detector: negrefine.NegRefine, image: DemoImage, name: str) -> float:
    features = detector.encoder.encode_images([image.path])[0]
    features = features / np.linalg.norm(features)
    return float(features @ detector.class_features_[detector.class_names_.index(name)])


def conformal() -> None:
    """Draw the law of the false-alarm rate of a threshold, over calibrations."""
    drawing = Drawing(
        520,
        350,
        "Densities of the false-alarm rate: narrow around 5 % with 1,000 images, wide with 19.",
    )
    axes = Axes(drawing, (20, 50, 496, 296), (0, 0.2), (0, 66))
    axes.frame(
        [(v / 100, f"{v} %") for v in range(0, 21, 5)],
        [],
        "false-alarm rate of one threshold",
    )
    rates = np.linspace(0.0005, 0.2, 400)
    places = []
    for n, delta, kind in (
        (19, None, "lb"),
        (100, None, "lc"),
        (1000, None, "la"),
        (1000, 0.05, "la dash"),
    ):
        m = threshold_rank(n, 0.05, delta)
        density = beta.pdf(rates, m, n + 1 - m)
        axes.curve(zip(rates, density, strict=True), kind)
        places.append((n, delta, beta.sf(0.05, m, n + 1 - m)))
    drawing.line(axes.x(0.05), 26, axes.x(0.05), 296, "ld")
    drawing.text(axes.x(0.05) + 6, 36, "asked for: 5 %; how likely are other rates,", "faint")
    drawing.text(axes.x(0.05) + 6, 52, "over calibrations with", "faint")
    for i, ((n, delta, above), kind) in enumerate(zip(places, "bcaa", strict=True)):
        y = 80 + 24 * i
        style = f"curve l{kind}" + (" dash" if delta else "")
        drawing.line(190, y - 4, 216, y - 4, style)
        what = f"{n:,} images" + ("; delta 0.05" if delta else "")
        drawing.text(224, y, f"{what}: above 5 % in {100 * above:.0f} %")
    drawing.write(IMAGES / "conformal.svg")


def stream(images: list[DemoImage], features: np.ndarray, base: negrefine.NegRefine) -> None:
    """Draw scores of a dozen drawings in 40 orders of one stream, and the static ones."""
    adaneg = negrefine.AdaNeg(base)
    orders = 40
    scores = np.zeros((orders, len(images)))
    for seed in range(orders):
        order = np.random.default_rng(seed).permutation(len(images))
        adaneg.reset()
        for start in range(0, len(order), 64):
            batch = order[start : start + 64]
            scores[seed, batch] = adaneg.update_and_score(features[batch])
    spread = np.ptp(scores, axis=0)
    animals = [i for i, image in enumerate(images) if image.set_name == "animals"]
    others = [i for i, image in enumerate(images) if image.set_name != "animals"]
    chosen = []
    for group in (animals, others):
        ranked = sorted(group, key=lambda i: -spread[i])
        chosen += [
            ranked[0],
            ranked[len(ranked) // 8],
            *ranked[len(ranked) // 4 :: len(ranked) // 4],
        ]
    static = base.score_feature_parts(features)["neglabel"]
    drawing = Drawing(
        520,
        90 + 30 * len(chosen),
        "Stream scores of one drawing spread; the static score does not.",
    )
    axes = Axes(drawing, (156, 40, 500, 40 + 30 * len(chosen)), (0, 1.15), (0, 1))
    axes.frame(
        [(v / 5, f"{v / 5:.1f}") for v in range(6)], [], "score of the same drawing in 40 orders"
    )
    for row, i in enumerate(chosen):
        y = 55 + 30 * row
        kind = "a" if images[i].set_name == "animals" else "b"
        drawing.text(148, y + 4, images[i].annotation, "", "end")
        for value in scores[:, i]:
            drawing.dot(axes.x(value), y, kind)
        drawing.line(axes.x(static[i]), y - 9, axes.x(static[i]), y + 9, "curve ld")
    drawing.legend(20, 24, [("a", "animal, AdaNeg")])
    drawing.legend(150, 24, [("b", "something else, AdaNeg")])
    drawing.line(340, 12, 340, 28, "curve ld")
    drawing.text(348, 24, "NegLabel, static")
    drawing.write(IMAGES / "stream.svg")


if __name__ == "__main__":
    refine, drawings, encoded = fitted()
    negative_labels(refine, drawings, encoded)
    multi_match(refine, drawings)
    conformal()
    stream(drawings, encoded, refine)
