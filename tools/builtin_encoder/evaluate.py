"""Measure a model on the held-out styles, and write WORK/evaluation.json.

`python evaluate.py --work DIR --model DIR` measures another model of the same format.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from augment import MEAN, STD, on_white
from concepts import plain_code
from fetch import folder_of, read_sources
from images import EVALUATED_GROUPS
from numpy.typing import NDArray
from PIL import Image
from teacher import embed, reduced
from words import read_words

import negrefine
from negrefine.benchmarks import load_benchmark, locate
from negrefine.benchmarks.bundled import demo_class_names, demo_images
from negrefine.detectors import DETECTORS, NegRefine
from negrefine.encoders import CLIPEncoder
from negrefine.evaluation.ablation import ablation_of
from negrefine.evaluation.experiment import evaluate
from negrefine.evaluation.measure import metrics_of_scores, resampled_metrics
from negrefine.labels.embedding import normalise

METHODS = ("mcm", "glmcm", "neglabel", "csp", "negrefine")
STYLES = ("openmoji", "fxemoji", "noto-v1")
"""The first two are held out; the last one is for validation."""
_ANIMALS = range(6)
"""emojibase's subgroups of animals, after the first of group 3."""


def main(work: Path, model: Path | None = None, target: Path | None = None) -> None:
    """Measure WORK/model or another model."""
    encoder = negrefine.load_encoder(model or work / "model", device="cpu")
    lines = (work / "images.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    squares = np.load(work / "images.npy", mmap_mode="r")
    found: dict[str, Any] = {"model": str(model or work / "model")}
    for style in STYLES:
        found[style] = zero_shot(encoder, rows, squares, style)
        print(style, found[style], flush=True)
    found["near_ood"] = near_ood(work, encoder, rows, squares)
    print("near-OOD", found["near_ood"], flush=True)
    found["text"] = text_cosines(work, encoder) if model is None else None
    print("text", found["text"], flush=True)
    found["ood"] = far_ood(encoder, (target or work) / "demo")
    print("OOD", json.dumps(found["ood"], indent=1), flush=True)
    path = (target or work) / "evaluation.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def pictures(squares: NDArray[np.uint8], some: Sequence[int]) -> list[Image.Image]:
    """Return images on white with a margin."""
    pixels = on_white(torch.from_numpy(np.asarray(squares[list(some)]))) * STD + MEAN
    rgb = (pixels.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(image) for image in rgb]


def zero_shot(
    encoder: CLIPEncoder, rows: list[dict[str, Any]], squares: NDArray[np.uint8], style: str
) -> dict[str, float]:
    """Return top-1 and top-5 over all names of a style, and top-1 of nearest training pixels."""
    some = [i for i, r in enumerate(rows) if r["style"] == style and r["group"] in EVALUATED_GROUPS]
    training = {s["style"] for s in read_sources() if s["role"] == "train"}
    names = sorted({rows[i]["name"] for i in some})
    labels = np.array([names.index(rows[i]["name"]) for i in some])
    images = pictures(squares, some)
    similarity = encoder.encode_images(images) @ normalise(encoder.encode_texts(names)).T
    order = np.argsort(-similarity, axis=1, kind="stable")
    bank = [
        i
        for i, r in enumerate(rows)
        if r["style"] in training and r["variant"] == "plain" and r["group"] in EVALUATED_GROUPS
    ]
    reference = _small(pictures(squares, bank))
    nearest = [
        rows[bank[int(np.argmin(((reference - image) ** 2).sum(1)))]]["name"]
        for image in _small(images)
    ]
    return {
        "images": len(some),
        "names": len(names),
        "top1": float((order[:, 0] == labels).mean()),
        "top5": float((order[:, :5] == labels[:, None]).any(1).mean()),
        "pixels_top1": float(
            np.mean([n == names[k] for n, k in zip(nearest, labels, strict=True)])
        ),
    }


def _small(images: list[Image.Image]) -> NDArray[np.float32]:
    small = [image.resize((16, 16), Image.Resampling.BOX) for image in images]
    return np.stack([np.asarray(image, np.float32).ravel() for image in small])


def near_ood(
    work: Path, encoder: CLIPEncoder, rows: list[dict[str, Any]], squares: NDArray[np.uint8]
) -> dict[str, Any]:
    """Return AUROC of OpenMoji's animals of the demo's classes against its other animals."""
    names, sides = demo_class_names(), near_sides(work, rows)
    features = [encoder.encode_images(pictures(squares, side)) for side in sides]
    found: dict[str, Any] = {"images": [len(side) for side in sides]}
    for method in (negrefine.MCM, negrefine.NegLabel, negrefine.CSP, negrefine.NegRefine):
        options = {} if method is negrefine.MCM else {"lexicon_files": "full"}
        detector = method(encoder, **options).fit(names)
        scores = [detector.score_features(side) for side in features]
        drawn = resampled_metrics(scores[0], [scores[1]], 1000)[:, 0, 0]
        found[method.__name__] = {
            "auroc": float(metrics_of_scores(*scores)[0]),
            "interval": np.quantile(drawn, (0.025, 0.975)).tolist(),
        }
    return found


def near_sides(work: Path, rows: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """Return the rows of OpenMoji's animals of the demo's classes, and of its other animals."""
    source = next(s for s in read_sources() if s["package"] == "emojibase-data")
    data = folder_of(work, source) / "package" / "en" / "data.json"
    emojis = json.loads(data.read_text(encoding="utf-8"))
    first = min(e["subgroup"] for e in emojis if e.get("group") == 3)
    animals = {
        plain_code(e["hexcode"])
        for e in emojis
        if e.get("group") == 3 and e["subgroup"] - first in _ANIMALS
    }
    labels = demo_images()[0].path.parent.parent / "labels.csv"
    with labels.open(encoding="utf-8") as stream:
        inside = {plain_code(r["hexcode"]) for r in csv.DictReader(stream) if r["class"]}
    names = demo_class_names()
    sides: tuple[list[int], list[int]] = ([], [])
    for i, row in enumerate(rows):
        code = plain_code(row["id"])
        if row["style"] == "openmoji" and (code in animals or code in inside):
            shows_class = any(word in names for word in row["name"].split())
            if code in inside or not shows_class:
                sides[code not in inside].append(i)
    return sides


def text_cosines(work: Path, encoder: CLIPEncoder) -> dict[str, float]:
    """Return mean cosines to the teacher for nouns that were not in training."""
    words = [word for word in read_words(work) if word.held_out]
    embeddings = embed(work, [w.text for w in words]) + 0.5 * embed(work, [w.gloss for w in words])
    reduction = np.load(work / "reduction.npz")
    wanted = reduced(normalise(embeddings), reduction["mean"], reduction["axes"])
    found = {}
    for template in ("{}", "a photo of the nice {}."):
        features = normalise(encoder.encode_texts([template.format(w.text) for w in words]))
        found[template] = float((features * wanted).sum(1).mean())
    return found


def far_ood(encoder: CLIPEncoder, out: Path) -> list[dict[str, Any]]:
    """Return all methods' results on the demo's drawings, as `negrefine benchmark run demo`."""
    id_images, ood_images = locate(load_benchmark("demo"))
    names = demo_class_names()
    refined = NegRefine(encoder).fit(names)
    fitted = (DETECTORS[method](encoder).fit(names) for method in METHODS if method != "negrefine")
    detectors = {detector.method: detector for detector in (*fitted, refined)}
    evaluation = evaluate(detectors, id_images, ood_images, out=out, ablation=ablation_of(refined))
    accuracy = evaluation.accuracy
    rows: list[dict[str, Any]] = [{"accuracy": accuracy.value if accuracy else None}]
    for row in (*evaluation.results, *evaluation.ablation):
        cells = {
            name: [getattr(row, name).value, getattr(row, name).low, getattr(row, name).high]
            for name in ("auroc", "fpr95")
        }
        rows.append({"method": row.method, "against": row.ood_set, **cells})
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    main(given.work, given.model, given.out)
