"""The scores of image sets by all detectors of an evaluation, from what is stored or new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors import Detector
from negrefine.detectors.vision_checks import VisionReport
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError, JudgeError
from negrefine.evaluation.images import ImageSet, SourceSet
from negrefine.evaluation.results import Scores, SetScores
from negrefine.evaluation.seen_scores import FINAL, QUESTIONS, SeenScorer, report_of, score_seen
from negrefine.evaluation.store import Block, Parts, Scorer, SetStore
from negrefine.shown_text import restored, storable

# Components that do not depend on a detector's seed: S_MM, which takes by far the longest, and the
# mass on proposed labels.
_UNSEEDED = frozenset({"multi_match", "near"})

Scorers: TypeAlias = Mapping[int, Sequence[Scorer]]


def scorers_by_seed(detector: Detector, seeds: Sequence[int]) -> Scorers:
    """Return for each seed what to compute; without seeds, 0 means the detector's own seed."""
    names = detector.part_names_
    if detector.image_parts:
        return {0: [SeenScorer(detector, tuple(names))]}
    seeded = tuple(name for name in names if name not in _UNSEEDED)
    unseeded = tuple(name for name in names if name in _UNSEEDED)
    variants = {0: detector}
    if detector.seed_parameter is not None and seeds:
        variants = {seed: detector.with_params(**{detector.seed_parameter: seed}) for seed in seeds}
    shared = [Scorer(detector, unseeded)] if unseeded else []
    return {seed: [Scorer(variant, seeded), *shared] for seed, variant in variants.items()}


def score_sets(
    image_sets: Sequence[ImageSet | SourceSet],
    stores: Sequence[SetStore],
    blocks: Sequence[Sequence[Block]],
    scorers: Mapping[str, Scorers],
    class_features: FloatArray,
) -> tuple[list[SetScores], list[str]]:
    """Return the scores of each set, and a note of what each vision model was asked in all.

    An image about which a question fails has no score by any detector, so that all are measured
    on the same images; its error says so.
    """
    scored: list[SetScores] = []
    asked: dict[str, VisionReport] = {}
    for image_set, store, each in zip(image_sets, stores, blocks, strict=True):
        of_set, reports = _score_set(image_set, store, each, scorers, class_features)
        scored.append(of_set)
        asked = {
            row: asked[row] + found if row in asked else found for row, found in reports.items()
        }
    return scored, [f"{row}: {report.sentence()}" for row, report in asked.items()]


def scored_features(blocks: Sequence[Block], scored: SetScores) -> FloatArray:
    """Return the features of the images of a set that have scores."""
    encoded = np.array([error is None for block in blocks for error in block.errors])
    features: FloatArray = np.concatenate([block.features for block in blocks])
    kept: FloatArray = features[scored.readable[encoded]]
    return kept


def _score_set(
    image_set: ImageSet | SourceSet,
    store: SetStore,
    blocks: Sequence[Block],
    scorers: Mapping[str, Scorers],
    class_features: FloatArray,
) -> tuple[SetScores, dict[str, VisionReport]]:
    errors = [error for block in blocks for error in block.errors]
    readable = np.array([error is None for error in errors], dtype=np.bool_)
    n = len(errors)
    if not readable.any():
        raise InputError(
            f"None of the {n} images of {image_set.name} can be read; the first: {errors[0]}"
        )

    def on_all(values: NDArray[Any], missing: float) -> NDArray[Any]:
        """Return values of the readable images with `missing` for the others."""
        spread = np.full(n, missing, values.dtype)
        spread[readable] = values
        return spread

    scores: dict[str, dict[int, Scores]] = {}
    parts: dict[str, dict[str, Scores]] = {}
    asked: dict[str, VisionReport] = {}
    failed: dict[int, str] = {}
    for row, by_seed in scorers.items():
        scores[row] = {}
        for seed, wanted in by_seed.items():
            found: Parts = {}
            for scorer in wanted:
                if isinstance(scorer, SeenScorer) and isinstance(image_set, ImageSet):
                    own, lost = score_seen(store, scorer, blocks, image_set.paths, row)
                    asked[row] = report_of(own, len(lost))
                    failed |= lost
                else:
                    own = store.score(scorer, blocks, row)
                found |= own
            # The final score of a model that sees images is stored: a band may confine it.
            final = found.pop(FINAL) if FINAL in found else wanted[0].detector.combine(found)
            found.pop(QUESTIONS, None)
            scores[row][seed] = on_all(final, np.nan)
            if row not in parts:
                parts[row] = {part: on_all(values, np.nan) for part, values in found.items()}
    if isinstance(image_set, SourceSet):
        names = [name for block in blocks for name, _ in block.images]
        groups, labels = image_set.groups_and_labels([restored(name) for name in names])
    else:
        names = [storable(str(path)) for path in image_set.paths]
        groups = [""] * n if image_set.groups is None else image_set.groups
        labels = [-1] * n if image_set.labels is None else image_set.labels
    # Features need no unit length: it scales the similarities to all classes alike.
    classes = class_features.astype(np.float64).T
    nearest = [np.argmax(b.features.astype(np.float64) @ classes, axis=1) for b in blocks]
    predictions = on_all(np.concatenate(nearest), -1)
    of_set = SetScores(
        image_set.name,
        names,
        np.array(labels, dtype=np.int64),
        predictions,
        errors,
        list(map(storable, groups)),
        scores,
        parts,
    )
    _leave_out(of_set, {int(np.flatnonzero(readable)[i]): why for i, why in failed.items()})
    return of_set, asked


def _leave_out(of_set: SetScores, failed: Mapping[int, str]) -> None:
    """Take their scores from images about which a question failed; JudgeError if none is left."""
    for position, why in failed.items():
        of_set.errors[position] = why
        of_set.predictions[position] = -1
        for by_seed in of_set.scores.values():
            for scores in by_seed.values():
                scores[position] = np.nan
        for by_name in of_set.parts.values():
            for values in by_name.values():
                values[position] = np.nan
    if not of_set.readable.any():
        first = next(iter(failed.values()))
        raise JudgeError(f"No image of {of_set.name} has a score; the first: {first}")
