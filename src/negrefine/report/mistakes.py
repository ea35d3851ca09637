"""The most confident mistakes among ID and OOD images, as thumbnails with their explanations."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np
from PIL import Image

from negrefine.detectors.base import Detector
from negrefine.detectors.explanation import Explanation
from negrefine.encoders.images import read_image
from negrefine.errors import ImageError
from negrefine.evaluation.results import Evaluation, Scores, SetScores

THUMBNAIL_SIZE = 160


@dataclass(frozen=True, slots=True)
class Mistake:
    """An image on the wrong side of the threshold, or close to it.

    Attributes:
        path: The file.
        set_name: "ID" or the name of the OOD set.
        truth: Name of the true class, of an OOD image its folder; "" if unknown.
        predicted: Name of the most similar class.
        score: The method's score, of its first seed.
        accepted: The score reaches the threshold.
        parts: Components of the score.
        thumbnail: A data URI, "" if the file cannot be read any more.
        size: Width and height of the thumbnail in pixels.
        explanation: What decided, if there was a detector to explain it.
        problem: Why there is no thumbnail or explanation.
    """

    path: str
    set_name: str
    truth: str
    predicted: str
    score: float
    accepted: bool
    parts: dict[str, float]
    thumbnail: str = ""
    size: tuple[int, int] = (THUMBNAIL_SIZE, THUMBNAIL_SIZE)
    explanation: Explanation | None = None
    problem: str = ""

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return PurePath(self.path).name


def find_mistakes(
    evaluation: Evaluation,
    method: str,
    sets: Sequence[SetScores],
    threshold: float,
    n: int,
    *,
    highest: bool,
) -> list[Mistake]:
    """Return the n images of the sets with the highest, or lowest, scores; ties by position."""
    places = [(s, int(i)) for s in sets for i in np.flatnonzero(np.isfinite(first_seed(s, method)))]
    values = np.array([first_seed(s, method)[i] for s, i in places])
    order = np.argsort(-values if highest else values, kind="stable")[:n]
    return [
        _mistake(evaluation, method, places[j][0], places[j][1], threshold) for j in order.tolist()
    ]


def first_seed(scores: SetScores, method: str) -> Scores:
    """Return a method's scores (n,) of its first seed, NaN for unreadable images."""
    return next(iter(scores.scores[method].values()))


def _mistake(
    evaluation: Evaluation, method: str, scores: SetScores, i: int, threshold: float
) -> Mistake:
    names = evaluation.class_names
    label, prediction = int(scores.labels[i]), int(scores.predictions[i])
    score = float(first_seed(scores, method)[i])
    parts = scores.parts.get(method, {})
    return Mistake(
        path=scores.paths[i],
        set_name=scores.name,
        truth=names[label] if label >= 0 else scores.groups[i],
        predicted=names[prediction] if prediction >= 0 else "",
        score=score,
        accepted=score >= threshold,
        parts={name: float(values[i]) for name, values in parts.items()},
    )


def with_picture(mistake: Mistake, root: Path, detector: Detector | None) -> Mistake:
    """Return the mistake with its thumbnail, and explained if there is a detector.

    Args:
        mistake: From `find_mistakes`.
        root: Folder to which relative paths that do not exist refer.
        detector: Fitted, with the threshold of the verdict as `offset_`.
    """
    path = Path(mistake.path)
    if not path.is_absolute() and not path.exists():
        path = root / path
    try:
        image = read_image(path)
        thumbnail, size = _data_uri(image)
        explanation = None if detector is None else detector.explain(path, unfiltered=True)
    except ImageError as error:
        return replace(mistake, problem=str(error))
    return replace(mistake, thumbnail=thumbnail, size=size, explanation=explanation)


def _data_uri(image: Image.Image) -> tuple[str, tuple[int, int]]:
    """Return the picture at thumbnail size in the smaller of two formats."""
    image.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.LANCZOS)
    contents = []
    for kind, options in (("jpeg", {"quality": 82}), ("png", {"optimize": True})):
        buffer = io.BytesIO()
        image.save(buffer, format=kind, **options)
        contents.append((kind, buffer.getvalue()))
    kind, content = min(contents, key=lambda pair: len(pair[1]))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}", image.size
