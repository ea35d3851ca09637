"""The most confident mistakes among ID and OOD images, as thumbnails with their explanations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

import numpy as np

from negrefine.detectors.base import Detector
from negrefine.detectors.explanation import Explanation
from negrefine.encoders.images import read_scored
from negrefine.errors import ImageError, JudgeError
from negrefine.evaluation.results import Evaluation, SetScores
from negrefine.report.thumbnails import THUMBNAIL_SIZE, thumbnail_of
from negrefine.shown_text import restored
from negrefine.sources.urls import is_url


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
    detector: Detector | None,
    n: int,
    *,
    highest: bool,
) -> list[Mistake]:
    """Return the n images of the sets with the highest, or lowest, scores; ties by position.

    The scores are the method's of the first seed. Without a detector there are no explanations.
    """
    places = [(s, int(i)) for s in sets for i in np.flatnonzero(s.readable)]
    scores = np.concatenate([s.readable_scores(method)[0] for s in sets])
    order = np.argsort(-scores if highest else scores, kind="stable")[:n].tolist()
    names = evaluation.class_names
    mistakes = []
    for j in order:
        (image_set, i), score = places[j], float(scores[j])
        label = int(image_set.labels[i])
        mistake = Mistake(
            path=image_set.paths[i],
            set_name=image_set.name,
            truth=names[label] if label >= 0 else image_set.groups[i],
            predicted=names[int(image_set.predictions[i])],
            score=score,
            accepted=score >= threshold,
            # NaN is what no vision model was asked about.
            parts={
                name: float(p[i])
                for name, p in image_set.parts.get(method, {}).items()
                if not np.isnan(p[i])
            },
        )
        mistakes.append(_with_picture(mistake, evaluation.directory, detector))
    return mistakes


def _with_picture(mistake: Mistake, root: Path, detector: Detector | None) -> Mistake:
    """Return the mistake with its thumbnail, and explained if there is a detector."""
    path = Path(restored(mistake.path))
    if problem := _not_read_again(restored(mistake.path)):
        return replace(mistake, problem=problem)
    if not path.exists():
        path = root / path
    try:
        thumbnail, size = thumbnail_of(read_scored(getattr(detector, "encoder", None), path))
    except ImageError as error:
        return replace(mistake, problem=str(error))
    try:
        explanation = None if detector is None else detector.explain(path, unfiltered=True)
    except JudgeError as error:
        return replace(mistake, thumbnail=thumbnail, size=size, problem=str(error))
    return replace(mistake, thumbnail=thumbnail, size=size, explanation=explanation)


def _not_read_again(name: str) -> str:
    """Return why an image of a source has no thumbnail, "" for a file."""
    if is_url(name):
        return "No picture: it is elsewhere or in an archive, and not fetched again for this page."
    if any(parent.is_file() for parent in Path(name).parents):
        return "No picture: it is in an archive or table, and not read again for this page."
    return ""
