"""NegRefine's alpha by rule on the bundled pictures, or on photographs in folders by class.

    python benchmarks/alpha_rules.py
    python benchmarks/alpha_rules.py --photos clothing/ --inside shoes,pants,t-shirt

In-distribution images are halved. Rules by class choose their alphas on one half, all rules are
measured on the other, and then the other way round; intervals are over the images of both halves.
A detector is made for each half, so that scores of the two are never ranked with each other: the
metrics are means over the halves.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from negrefine import NegRefine, load_encoder
from negrefine.benchmarks.bundled import demo_class_names, demo_images
from negrefine.detectors.adaptive_alpha import ALPHA_RULES
from negrefine.encoders import Encoder, find_images
from negrefine.encoders.base import FloatArray
from negrefine.evaluation.paired import SameImages, is_better, paired_differences, points
from negrefine.labels.lexicon import Lexicon


def measure(
    encoder: Encoder,
    names: Sequence[str],
    inside: FloatArray,
    outside: Mapping[str, FloatArray],
    n_bootstrap: int,
) -> None:
    """Print a row for each rule and OOD set, and how far it is from the constant alpha."""
    lexicon = Lexicon.wordnet(min_frequency=1)
    detector = NegRefine(encoder, lexicon=lexicon).fit(names)
    parts = detector.score_feature_parts(inside)
    for part, values in parts.items():
        quantiles = ", ".join(f"{q:.4f}" for q in np.quantile(values, (0.05, 0.25, 0.5)))
        print(f"{part} of in-distribution images: 5 %, 25 % and 50 % quantiles {quantiles}")
    halves = [np.arange(len(inside)) % 2 == i for i in (0, 1)]
    n = min(int(half.sum()) for half in halves)
    scores = {}
    for rule in ALPHA_RULES:
        id_scores, ood_scores = [], {name: [] for name in outside}
        for half in halves:
            variant = detector.with_params(alpha_rule=rule)
            if variant.chooses_alphas:
                variant.choose_alphas_features(inside[~half])
                found = variant.class_factors(inside[~half])
                print(f"{rule}: {found.n_own} classes with their own, factors {found.factors}")
            id_scores.append(variant.score_features(inside[half][:n]))
            for name, features in outside.items():
                ood_scores[name].append(variant.score_features(features))
        scores[rule] = SameImages(id_scores, ood_scores)
    print(
        f"\n| rule | OOD set | AUROC | FPR95 | AUROC - constant | FPR95 - constant |\n|{'---|' * 6}"
    )
    for rule, of_rule in scores.items():
        values, drawn = of_rule.measured(n_bootstrap, 0)
        low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
        rows = paired_differences(
            rule, of_rule, ALPHA_RULES[0], scores[ALPHA_RULES[0]], n_bootstrap
        )
        for i, row in enumerate(rows):
            cells = [
                f"{100 * values[i, j]:.1f} [{100 * low[i, j]:.1f}, {100 * high[i, j]:.1f}]"
                for j in (0, 1)
            ]
            if rule != ALPHA_RULES[0]:
                clear = {True: " better", False: " worse", None: ""}
                cells += [
                    points(getattr(row, metric)) + clear[is_better(row, metric)]
                    for metric in ("auroc", "fpr95")
                ]
            else:
                cells += ["", ""]
            print(f"| {rule} | {row.ood_set} | {' | '.join(cells)} |")


def main() -> None:
    """Read the options, encode and measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--photos", type=Path, help="a folder with a folder for each class")
    parser.add_argument("--inside", default="", help="the classes among them, with commas")
    parser.add_argument("--bootstrap", type=int, default=1000)
    options = parser.parse_args()
    if options.photos is None:
        encoder, names = load_encoder("builtin", device="cpu"), demo_class_names()
        sets: dict[str, list[Path]] = {}
        for image in demo_images():
            sets.setdefault(image.set_name, []).append(image.path)
        features = {name: encoder.encode_images(paths) for name, paths in sets.items()}
        inside = features.pop("animals")
    else:
        encoder, chosen = load_encoder("builtin-photo", device="cpu"), options.inside.split(",")
        kinds = sorted(path.name for path in options.photos.iterdir() if path.is_dir())
        features = {k: encoder.encode_images(find_images(options.photos / k)) for k in kinds}
        inside = np.concatenate([features.pop(name) for name in chosen])
        names = [name.replace("_", " ") for name in chosen]
    print(f"{len(names)} classes, {len(inside)} in-distribution images, encoder {encoder.name}")
    measure(encoder, names, inside, features, options.bootstrap)


if __name__ == "__main__":
    main()
