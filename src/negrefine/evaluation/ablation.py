"""The ablation of the NegRefine paper: NegFilter off/on x S_MM off/on, from one fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negrefine import metrics
from negrefine.detectors.negfilter import PROPER_NOUN, SUBCATEGORY
from negrefine.detectors.negrefine import NegRefine
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError

Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Row:
    """Results of one method on one OOD set.

    Attributes:
        method: What made the scores.
        ood_set: Name of the OOD set.
        auroc: Fraction, in-distribution positive.
        fpr95: Fraction, the papers' definition.
    """

    method: str
    ood_set: str
    auroc: float
    fpr95: float


def compare(method: str, id_scores: Scores, ood_scores: Mapping[str, Scores]) -> list[Row]:
    """Return one row for each OOD set and a last one, "mean", over the sets."""
    rows = [
        Row(method, name, metrics.auroc(id_scores, scores), metrics.fpr95(id_scores, scores))
        for name, scores in ood_scores.items()
    ]
    mean = Row(
        method,
        "mean",
        float(np.mean([row.auroc for row in rows])),
        float(np.mean([row.fpr95 for row in rows])),
    )
    return [*rows, mean]


def ablation_scores(
    detector: NegRefine, features: FloatArray, *, single_filters: bool = False
) -> dict[str, Scores]:
    """Score image features with and without NegFilter, with and without S_MM.

    Args:
        detector: Fitted with the filter on.
        features: (n, d) from `encoder.encode_images`; encode every image once.
        single_filters: Also the proper-noun filter alone and the subcategory filter alone.

    Returns:
        Variant name to float64 (n,): "no filter, no S_MM" is CSP's score on NegRefine's pool,
        "NegFilter + S_MM" is NegRefine.

    Raises:
        InputError: The detector has alpha = 0 and so no S_MM.
    """
    if detector.alpha == 0:
        raise InputError("The ablation needs S_MM: fit NegRefine with alpha greater than 0.")
    variants = {"no filter": detector.with_filter("none")}
    if single_filters:
        for name, question in (("proper nouns", PROPER_NOUN), ("subcategories", SUBCATEGORY)):
            variants[f"NegFilter ({name})"] = detector.with_filter(
                detector.judge, filters=(question,), keep=detector.keep, drop=detector.drop
            )
    variants["NegFilter"] = detector
    scores: dict[str, Scores] = {}
    for name, variant in variants.items():
        parts = variant.score_feature_parts(features)
        scores[f"{name}, no S_MM"] = parts["neglabel"]
        scores[f"{name} + S_MM"] = parts["neglabel"] + detector.alpha * parts["multi_match"]
    return scores
