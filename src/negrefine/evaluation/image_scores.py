"""Scores of many image files, none lost to an unreadable image or an interrupted run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from negrefine.detectors import Detector
from negrefine.detectors.conformal import (
    detection_interval,
    images_needed,
    threshold_rank,
    too_few,
)
from negrefine.detectors.distinct_images import check_distinct, check_distinct_by_class
from negrefine.detectors.selected import Selected
from negrefine.detectors.thresholds import ThresholdGroup, check_by
from negrefine.encoders.batches import iter_encoded_images
from negrefine.encoders.image_sources import ImageSource, check_is_list
from negrefine.errors import ImageError, InputError, NotFittedError
from negrefine.evaluation.journal import continued
from negrefine.evaluation.scored_image import ScoredImage, score_rows
from negrefine.files.identity import file_stamp
from negrefine.progress import progress_bar
from negrefine.shown_text import storable

__all__ = ["ScoredImage", "calibrate_files", "detect_files", "score_files"]


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What a calibration on n readable images rests on.

    The threshold, `offset_` of the detector, is the rank-th smallest score. `fpr` is the guaranteed
    false-alarm rate, and `delta` the chance that it may be exceeded, None if its mean is bounded.
    `errors` says for each unreadable image why.

    If `by` is "class", the `groups` have the thresholds: each class with at least `needed` of the
    images its own. `class_counts` (K,) are the images of each class. Otherwise there is one group.
    """

    threshold: float
    fpr: float
    delta: float | None
    n: int
    rank: int
    errors: tuple[str, ...]
    by: str | None
    needed: int
    groups: tuple[ThresholdGroup, ...]
    class_counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class DetectionReport:
    """How many of n readable out-of-distribution images a threshold flags.

    `low` and `high` are the ends of the 95 % Clopper-Pearson interval of the rate. `errors` says
    for each unreadable image why.
    """

    n: int
    n_flagged: int
    rate: float
    low: float
    high: float
    errors: tuple[str, ...]


def score_files(
    detector: Detector,
    paths: Iterable[str | os.PathLike[str]],
    *,
    journal: Path | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> list[ScoredImage]:
    """Return one row for each image file, in order; unreadable ones have an error and no score.

    Finished rows are appended to `journal` as the run goes on, and rows of an earlier run of the
    same detector on unchanged files are taken from there. The caller removes it once the results
    are stored.
    """
    files = _as_paths(paths)
    stamps = [file_stamp(path) for path in files]
    with (
        continued(journal, detector) as kept,
        progress_bar("Scoring images", len(files), enabled=progress) as advance,
    ):
        known = kept.known
        missing = {s: path for s, path in zip(stamps, files, strict=True) if s not in known}
        advance(len(files) - len(missing))
        for rows in _score_batches(detector, missing, batch_size):
            known.update(rows)
            kept.keep(rows)
            advance(len(rows))
        # One file may be given, or have been scored before, under another spelling of its path.
        return [
            replace(known[stamp], path=storable(str(path)))
            for stamp, path in zip(stamps, files, strict=True)
        ]


def calibrate_files(
    detector: Detector,
    paths: Iterable[str | os.PathLike[str]],
    fpr: float = 0.05,
    *,
    delta: float | None = None,
    by: str | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> CalibrationReport:
    """Do what `Detector.calibrate` does with image files, leaving out those that cannot be read.

    Copies among the images give a warning. Raises ImageError if no image can be read, and
    InputError for too few images, too few that can be read or differ, images on which alphas or
    parameters of the detector were chosen, or a rate outside (0, 1).
    """
    check_by(by)
    files = _as_paths(paths)
    check_enough(len(files), fpr, delta)
    if isinstance(detector, Selected):
        detector.check_unseen_images(files)
    readable, rows, errors = _readable_rows(detector, files, batch_size, progress)
    return calibrate_rows(detector, readable, rows, errors, fpr, delta=delta, by=by)


def calibrate_rows(
    detector: Detector,
    readable: Sequence[ImageSource],
    rows: Sequence[ScoredImage],
    errors: Sequence[str],
    fpr: float,
    *,
    delta: float | None = None,
    by: str | None = None,
) -> CalibrationReport:
    """Do what `calibrate_files` does, when the images have rows: `readable` are those of `rows`."""
    check_by(by)
    scores = np.array([row.score for row in rows], dtype=np.float64)
    rank = threshold_rank(len(scores), fpr, delta)
    if rank == 0:
        unread = ""
        if errors:
            n_given = len(rows) + len(errors)
            unread = (
                f" {len(errors)} of the {n_given} given could not be read; the first: {errors[0]}"
            )
        raise InputError(f"{too_few(len(scores), fpr, delta)}{unread}")
    firsts = check_distinct(readable, fpr, delta)
    names = detector.class_names_
    index = detector.class_indices()
    classes = np.array([index[str(row.nearest_class)] for row in rows], dtype=np.intp)
    if by is not None:
        check_distinct_by_class(firsts, classes, names, fpr, delta)
    detector.calibrate_scores(scores, fpr, delta=delta, by=by, classes=classes)
    assert detector.offset_ is not None  # noqa: S101 - set just above
    return CalibrationReport(
        detector.offset_,
        fpr,
        delta,
        len(scores),
        rank,
        tuple(errors),
        by,
        images_needed(fpr, delta),
        tuple(detector.threshold_groups()),
        tuple(np.bincount(classes, minlength=len(names)).tolist()),
    )


def detect_files(
    detector: Detector,
    paths: Iterable[str | os.PathLike[str]],
    *,
    batch_size: int = 64,
    progress: bool = False,
) -> DetectionReport:
    """Count the out-of-distribution image files that a detector with a threshold flags.

    Raises ImageError if no image can be read, NotFittedError without a threshold.
    """
    if detector.offset_ is None:
        raise NotFittedError("No threshold is set: call calibrate(id_images, fpr=0.05).")
    _, rows, errors = _readable_rows(detector, _as_paths(paths), batch_size, progress)
    return detection_report([row.verdict for row in rows], errors)


def detection_report(verdicts: Sequence[str | None], errors: Sequence[str]) -> DetectionReport:
    """Count flagged images from the verdicts of one or more readable ones."""
    n, flagged = len(verdicts), verdicts.count("OOD")
    interval = detection_interval(flagged, n)
    return DetectionReport(n, flagged, flagged / n, *interval, tuple(errors))


def check_enough(n: int, fpr: float, delta: float | None) -> None:
    """Raise InputError if n images cannot give the guarantee, before minutes of work."""
    if threshold_rank(n, fpr, delta) == 0:
        raise InputError(too_few(n, fpr, delta))


def _as_paths(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    check_is_list(paths)
    for i, path in enumerate(paths := list(paths)):
        if not isinstance(path, (str, os.PathLike)):
            raise InputError(
                f"paths[{i}] must be the path of an image file, not of type "
                f"{type(path).__name__}: the detector's own methods take images."
            )
    return [Path(path) for path in paths]


def _readable_rows(
    detector: Detector, paths: Sequence[Path], batch_size: int, progress: bool
) -> tuple[list[Path], list[ScoredImage], tuple[str, ...]]:
    """Return the image files that can be read, their rows, and the errors of the others."""
    rows = score_files(detector, paths, batch_size=batch_size, progress=progress)
    errors = tuple(row.error for row in rows if row.error is not None)
    readable = [path for path, row in zip(paths, rows, strict=True) if row.error is None]
    if not readable:
        first = f" The first: {errors[0]}" if errors else ""
        raise ImageError(f"None of the {len(paths)} images could be read.{first}")
    return readable, [row for row in rows if row.error is None], errors


def _score_batches(
    detector: Detector, paths: Mapping[str, Path], batch_size: int
) -> Iterator[dict[str, ScoredImage]]:
    """Yield the rows of each batch by the keys of `paths`."""
    if not paths:
        return
    images, remaining = list(paths.values()), iter(paths.items())
    encoded = iter_encoded_images(
        detector.encoder, images, batch_size, patches=detector.uses_patches
    )
    for batch in encoded:
        part = list(islice(remaining, len(batch.errors)))
        readable = [p for (_, p), error in zip(part, batch.errors, strict=True) if error is None]
        scored = iter(score_rows(detector, batch.features, batch.patches, readable))
        rows = {}
        for (stamp, path), error in zip(part, batch.errors, strict=True):
            name = storable(str(path))
            if error is not None:
                rows[stamp] = ScoredImage(name, None, error=str(error))
            else:
                rows[stamp] = replace(next(scored), path=name)
        yield rows
