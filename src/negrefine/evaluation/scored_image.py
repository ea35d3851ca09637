"""What is known of one image after it was scored, and its columns in tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from negrefine.detectors import Detector, VisionChecked
from negrefine.detectors.alpha_rules import FACTOR
from negrefine.detectors.mcm import RULES
from negrefine.detectors.registry import saved_methods
from negrefine.encoders.image_sources import ImageSource

_NAME_COLUMNS = {
    "nearest_class": "string",
    "similarity": "double",
    "runner_up": "string",
    "runner_up_similarity": "double",
    "nearest_negative": "string",
    "negative_similarity": "double",
}


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """One row of results.

    `path` is `storable`: of a file name that is not UTF-8, `shown_text.restored` gives it back.
    `score` is larger for in-distribution images; None if the image could not be read, and `error`
    says why. `verdict` is "ID" or "OOD" if the detector has a threshold, and `threshold` that of
    the predicted class, None if one threshold, the detector's `offset_`, is for all images.
    `p_value` is conformal, small for OOD; None without calibration scores. `nearest_class` is the
    most similar class name, whatever the verdict, and `similarity` its cosine; `runner_up` is the
    next one, None if there is one class name only. `nearest_negative` is the most similar of the
    kept negative labels, None for a method without any.
    """

    path: str
    score: float | None
    parts: dict[str, float] = field(default_factory=dict)
    verdict: str | None = None
    error: str | None = None
    p_value: float | None = None
    nearest_class: str | None = None
    similarity: float | None = None
    runner_up: str | None = None
    runner_up_similarity: float | None = None
    nearest_negative: str | None = None
    negative_similarity: float | None = None
    threshold: float | None = None

    def as_row(
        self, part_names: Sequence[str], *, p_value: bool = False, threshold: bool = False
    ) -> dict[str, Any]:
        """Return a flat row with one column for each component, and the others that are wanted."""
        row = {"path": self.path, "score": self.score}
        row |= {name: self.parts.get(name) for name in part_names}
        if p_value:
            row["p_value"] = self.p_value
        row["verdict"] = self.verdict
        if threshold:
            row["threshold"] = self.threshold
        row |= {name: getattr(self, name) for name in _NAME_COLUMNS}
        return row | {"error": self.error}


def score_columns(
    part_names: Sequence[str], *, p_value: bool = False, threshold: bool = False
) -> dict[str, str]:
    """Return the columns of `ScoredImage.as_row` with their Arrow types, in order."""
    columns = ScoredImage("", None).as_row(part_names, p_value=p_value, threshold=threshold)
    types = {"path": "string", "verdict": "string", "error": "string", **_NAME_COLUMNS}
    return {name: types.get(name, "double") for name in columns}


def columns_of_any_method() -> tuple[list[str], list[str]]:
    """Return the columns that every table of scores has, and those that some have."""
    always = ["path", "score", "verdict", "error"]
    parts = {p for cls in saved_methods().values() for p in (*cls.parts, *cls.further_parts)}
    parts |= {*RULES, FACTOR}
    return always, ["p_value", "threshold", *_NAME_COLUMNS, *sorted(parts)]


def score_rows(
    detector: Detector,
    features: ArrayLike,
    patches: ArrayLike | None = None,
    images: Sequence[ImageSource] = (),
) -> list[ScoredImage]:
    """Return what `detector` makes of image features (n, d) and patch features (n, p, d).

    A detector with `image_parts` looks at the n images; one that fails has an error and no score.
    The rows have no path. Raises as `Detector.score_feature_parts`.
    """
    failed: dict[int, str] = {}
    if isinstance(detector, VisionChecked) and len(images) == len(np.asarray(features)):
        checks = detector.check_features(np.asarray(features), images)
        parts, failed = checks.parts, checks.failed
        # A score of failed images is needed nowhere.
        scores = np.where(np.isnan(checks.scores), 0.0, checks.scores)
    else:
        parts = detector.score_feature_parts(features, patches)
        scores = detector.combine(parts)
    nearest, cosines = detector.nearest_classes(features, top=2)
    decisions = detector.decide(scores, nearest[:, 0])
    negatives = detector.nearest_negatives(features, top=1)
    rows = []
    for i, (score, decision) in enumerate(zip(scores.tolist(), decisions, strict=True)):
        if i in failed:
            rows.append(ScoredImage("", None, error=failed[i]))
            continue
        names: dict[str, Any] = {
            "nearest_class": detector.class_names_[nearest[i, 0]],
            "similarity": float(cosines[i, 0]),
        }
        if nearest.shape[1] > 1:
            names["runner_up"] = detector.class_names_[nearest[i, 1]]
            names["runner_up_similarity"] = float(cosines[i, 1])
        if negatives is not None and detector.negatives_ is not None:
            names["nearest_negative"] = detector.negatives_.texts[negatives[0][i, 0]]
            names["negative_similarity"] = float(negatives[1][i, 0])
        own = {
            name: float(values[i])
            for name, values in parts.items()
            if name not in detector.image_parts or not np.isnan(values[i])
        }
        if detector.by_ is not None:
            names["threshold"] = decision.threshold
        rows.append(
            ScoredImage("", score, own, decision.verdict, p_value=decision.p_value, **names)
        )
    return rows
