"""Measure a model on photographs that it never saw, and write WORK/evaluation.json.

`PYTHONPATH=../builtin_encoder python measure.py --work DIR --model NAME` measures another model.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from photographs import Photographs, clothing, food, samples, stamps
from targets import embed_new
from text_side import is_held_out
from texts import read_texts
from torch import Tensor

import negrefine
from negrefine.detectors import DETECTORS
from negrefine.encoders import CLIPEncoder
from negrefine.evaluation.measure import metrics_of_scores, resampled_metrics
from negrefine.labels.embedding import normalise

METHODS = ("mcm", "glmcm", "neglabel", "csp", "negrefine")
TEMPLATES = ("a photo of a {}", "{}")
ANIMALS = ("bird", "cattle", "fish", "insect", "rodent")
CLOTHES = (
    *("dress", "hat", "jacket", "long sleeve top", "pants", "shirt", "shoes", "shorts", "skirt"),
    "t-shirt",
)
CLOTHING = Path(__file__).parents[2].parent / "shared" / "photos" / "clothing"


def main(work: Path, folder: Path = CLOTHING, model: Path | str | None = None) -> None:
    """Measure WORK/model or another model."""
    encoder = negrefine.load_encoder(model or work / "model", device="cpu")
    sets = {"stamps": stamps(work), "food": food(work), "samples": samples(work)}
    if folder.is_dir():
        sets["clothing"] = clothing(folder)
    blocks, msp = {}, {}
    for name, each in sets.items():
        with confidences(encoder) as found_confidences:
            blocks[name] = encoder.encode_images_and_patches(each.paths)
        msp[name] = np.concatenate(found_confidences) if found_confidences else None
    found: dict[str, Any] = {"model": str(model or work / "model")}
    found["zero_shot"] = {
        name: zero_shot(encoder, each, blocks[name][0])
        for name, each in sets.items()
        if each.classes
    }
    print(json.dumps(found["zero_shot"], indent=1), flush=True)
    found["text"] = None if model else text_cosines(work, encoder)
    print(found["text"], flush=True)
    found["ood"] = []
    for inside in ("clothing", "animals"):
        source = "stamps" if inside == "animals" else inside
        if source not in sets:
            continue
        chosen = {name: _kept(each, inside) for name, each in sets.items()}
        names = list(ANIMALS) if inside == "animals" else list(CLOTHES)
        others = [name for name in sets if not (name == source and inside == "clothing")]
        for method in (*METHODS, "msp"):
            if method == "msp" and msp[source] is None:
                continue
            scores = (
                {name: msp[name][chosen[name][0]] for name in others}
                | {"in": msp[source][chosen[source][1]]}
                if method == "msp"
                else _scores(encoder, method, names, blocks, chosen, source, others)
            )
            row = {"classes": inside, "method": method, **_metrics(scores)}
            found["ood"].append(row)
            print(json.dumps(row), flush=True)
    path = work / "evaluation.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def zero_shot(
    encoder: CLIPEncoder, photographs: Photographs, features: NDArray[np.float32]
) -> dict[str, Any]:
    """Return top-1 among the names, by two templates, with its 95 % interval over photographs."""
    names = photographs.classes
    texts = encoder.encode_texts([t.format(name) for name in names for t in TEMPLATES])
    ensemble = normalise(normalise(texts).reshape(len(names), len(TEMPLATES), -1).mean(1))
    named = np.array([name != "" for name in photographs.names])
    labels = np.array([names.index(name) for name in photographs.names if name])
    right = (features[named] @ ensemble.T).argmax(1) == labels
    error = 1.96 * float(np.sqrt(right.mean() * (1 - right.mean()) / len(right)))
    top1 = float(right.mean())
    return {
        "images": len(labels),
        "names": len(names),
        "top1": top1,
        "interval": [max(0.0, top1 - error), min(1.0, top1 + error)],
    }


def text_cosines(work: Path, encoder: CLIPEncoder) -> dict[str, float]:
    """Return mean cosines to the sentence encoder for texts that were not in training."""
    unseen = [text.text for text in read_texts(work) if is_held_out(text)]
    wanted = embed_new(work, unseen)
    cosines = {}
    for template in ("{}", "a photo of the nice {}."):
        features = normalise(encoder.encode_texts([template.format(text) for text in unseen]))
        cosines[template] = float((features * wanted).sum(1).mean())
    return {"texts": len(unseen), **cosines}


@contextmanager
def confidences(encoder: CLIPEncoder) -> Iterator[list[NDArray[np.float64]]]:
    """Collect the largest of the classifier's 1,000 probabilities (MSP), which knows no names.

    Nothing is collected of a model without such a classifier.
    """
    found: list[NDArray[np.float64]] = []

    def collect(_module: Any, _inputs: Any, logits: Tensor) -> None:
        # Those of images; the classifier is asked about patches too.
        if logits.ndim == 2:
            found.append(logits.double().softmax(-1).amax(-1).numpy())

    classifier = getattr(encoder._model, "visual_classifier", None)
    hook = classifier.register_forward_hook(collect) if classifier is not None else None
    yield found
    if hook is not None:
        hook.remove()


def _kept(photographs: Photographs, inside: str) -> tuple[Any, Any]:
    """Return masks of the photographs that show none of the classes, and of those that do."""
    names = np.array(photographs.names)
    own = CLOTHES if inside == "clothing" else ANIMALS
    # Meat and fish are animals too.
    also = ("clothing", "hat") if inside == "clothing" else (*ANIMALS, "meat", "fish", "egg")
    return ~np.isin(names, (*own, *also)), np.isin(names, own)


def _scores(
    encoder: CLIPEncoder,
    method: str,
    names: list[str],
    blocks: dict[str, Any],
    chosen: dict[str, tuple[Any, Any]],
    source: str,
    others: list[str],
) -> dict[str, NDArray[np.float64]]:
    detector = DETECTORS[method](encoder).fit(names)

    def score(name: str, mask: Any) -> NDArray[np.float64]:
        features, patches = blocks[name]
        if method == "glmcm":
            return detector.score_features(features[mask], patches[mask])
        return detector.score_features(features[mask])

    return {name: score(name, chosen[name][0]) for name in others} | {
        "in": score(source, chosen[source][1])
    }


def _metrics(scores: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Return AUROC and FPR95 against each set, and their mean with 95 % bootstrap intervals."""
    inside = scores["in"]
    others = {name: each for name, each in scores.items() if name != "in"}
    each = {
        name: [round(float(v), 4) for v in metrics_of_scores(inside, outside)[:2]]
        for name, outside in others.items()
    }
    drawn = resampled_metrics(inside, list(others.values()), 1000)
    means = drawn.mean(axis=1)
    return {
        "images": {name: len(values) for name, values in scores.items()},
        "each": each,
        "mean": np.mean(list(each.values()), axis=0).round(4).tolist(),
        "intervals": np.quantile(means[:, :2], (0.025, 0.975), axis=0).T.round(4).tolist(),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--clothing", type=Path, default=CLOTHING)
    parser.add_argument("--model")
    given = parser.parse_args()
    main(given.work, given.clothing, given.model)
