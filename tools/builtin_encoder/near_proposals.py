"""Measure proposed negative labels near the classes: OpenMoji's class animals against its others.

The demo's sets that are far from the classes are scored, too.

    python build.py fetch --work DIR; python build.py render --work DIR
    python near_proposals.py --work DIR [--encoder builtin]

Writes WORK/near_proposals_ENCODER.json and prints the same. The differences are of the same images
with and without proposals, resampled together.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from evaluate import near_sides, pictures
from numpy.typing import NDArray

import negrefine
from negrefine.benchmarks.bundled import ID_SET, demo_class_names, demo_images
from negrefine.encoders import CLIPEncoder
from negrefine.evaluation.measure import metrics_of_scores, resampled_metrics

RESAMPLES = 10_000
Scores = tuple[NDArray[np.float64], NDArray[np.float64]]


def detectors(encoder: CLIPEncoder) -> dict[str, Callable[[], Any]]:
    """Return what makes each detector, by its name in the table."""
    full: dict[str, Any] = {"lexicon_files": "full"}
    made: dict[str, Callable[[], Any]] = {
        "MCM": lambda: negrefine.MCM(encoder),
        "NegLabel": lambda: negrefine.NegLabel(encoder, **full),
        "CSP": lambda: negrefine.CSP(encoder, **full),
        "NegRefine": lambda: negrefine.NegRefine(encoder, **full),
        "NegRefine, no animals mined": lambda: negrefine.NegRefine(encoder),
        "EOE, mined": lambda: negrefine.EOE(encoder, temperature=0.01),
        "EOE, proposed (3)": lambda: negrefine.EOE(encoder, temperature=0.01, propose="wordnet"),
    }
    for n in (3, 5, 10, 20):
        made[f"NegRefine, {n} proposed"] = lambda n=n: negrefine.NegRefine(
            encoder, propose="wordnet", n_proposed=n, **full
        )
        made[f"NegRefine, no animals mined, {n} proposed"] = lambda n=n: negrefine.NegRefine(
            encoder, propose="wordnet", n_proposed=n
        )
        made[f"VSNL, {n} proposed"] = lambda n=n: negrefine.VSNL(encoder, n_proposed=n)
    return made


def auroc(scores: Scores) -> float:
    """Return the AUROC of in-distribution against other scores."""
    return float(metrics_of_scores(*scores)[0])


def interval(scores: Scores) -> list[float]:
    """Return the 95 % interval of the AUROC."""
    drawn = resampled_metrics(scores[0], [scores[1]], RESAMPLES)[:, 0, 0]
    return [float(each) for each in np.quantile(drawn, (0.025, 0.975))]


def difference(one: Scores, other: Scores) -> list[float]:
    """Return the difference of two AUROC on the same images, and its 95 % interval."""
    drawn = []
    rng = np.random.default_rng(0)
    sizes = len(one[0]), len(one[1])
    for _ in range(RESAMPLES):
        rows = [rng.integers(0, size, size) for size in sizes]
        drawn.append(_fast(one, rows) - _fast(other, rows))
    low, high = np.quantile(drawn, (0.025, 0.975))
    return [auroc(one) - auroc(other), float(low), float(high)]


def _fast(scores: Scores, rows: list[NDArray[np.intp]]) -> float:
    inside, outside = (side[some] for side, some in zip(scores, rows, strict=True))
    larger = (inside[:, None] > outside).mean() + 0.5 * (inside[:, None] == outside).mean()
    return float(larger)


def main(work: Path, encoder_name: str) -> None:
    """Fit every detector, score both sides, and write what came out."""
    lines = (work / "images.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    squares = np.load(work / "images.npy", mmap_mode="r")
    sides = near_sides(work, rows)
    encoder = negrefine.load_encoder(encoder_name, device="cpu")
    features = [encoder.encode_images(pictures(squares, side)) for side in sides]
    far = {
        name: encoder.encode_images([i.path for i in demo_images() if i.set_name == name])
        for name in dict.fromkeys(image.set_name for image in demo_images())
    }
    names = demo_class_names()
    found: dict[str, Any] = {"images": [len(side) for side in sides], "encoder": encoder_name}
    scores: dict[str, Scores] = {}
    for title, make in detectors(encoder).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            detector = make().fit(names)
        inside, outside = (detector.score_features(side) for side in features)
        scores[title] = (inside, outside)
        proposals = getattr(detector, "proposals_", [])
        row: dict[str, Any] = {"auroc": auroc(scores[title]), "interval": interval(scores[title])}
        row["proposals"] = [len(proposals), sum(each.kept for each in proposals)]
        parts = [detector.score_feature_parts(side) for side in features]
        if len(parts[0]) > 1:
            # A larger mass on proposed labels is less in-distribution.
            signs = {part: -1 if part == "near" else 1 for part in parts[0]}
            row["parts"] = {p: auroc((s * parts[0][p], s * parts[1][p])) for p, s in signs.items()}
        of_far = detector.score_features(far[ID_SET])
        row["far"] = {
            name: auroc((of_far, detector.score_features(each)))
            for name, each in far.items()
            if name != ID_SET
        }
        without = title.rpartition(", ")[0]
        if title.startswith("NegRefine") and title.endswith("proposed"):
            row["difference"] = difference(scores[title], scores[without])
        found[title] = row
        print(title, json.dumps(row), flush=True)
    path = work / f"near_proposals_{encoder_name.replace('/', '-')}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--encoder", default="builtin")
    arguments = parser.parse_args()
    main(arguments.work, arguments.encoder)
