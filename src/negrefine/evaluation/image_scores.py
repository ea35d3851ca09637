"""Scores of many image files, none lost to an unreadable image or an interrupted run."""

from __future__ import annotations

import itertools
import json
import math
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import cast

import numpy as np

from negrefine.detectors import Detector
from negrefine.detectors.conformal import (
    detection_interval,
    images_needed,
    threshold_rank,
    too_few,
)
from negrefine.detectors.distinct_images import check_distinct, check_distinct_by_class
from negrefine.detectors.explanation import verdict_of
from negrefine.detectors.thresholds import ThresholdGroup, check_by
from negrefine.encoders.batches import iter_encoded_images
from negrefine.encoders.image_sources import check_is_list
from negrefine.errors import ImageError, InputError, NotFittedError
from negrefine.evaluation.scored_image import ScoredImage, score_rows
from negrefine.files.identity import file_stamp
from negrefine.files.writing import naming, write_text
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
        _continued(journal, detector) as (known, keep),
        progress_bar("Scoring images", len(files), enabled=progress) as advance,
    ):
        missing = {s: path for s, path in zip(stamps, files, strict=True) if s not in known}
        advance(len(files) - len(missing))
        for rows in _score_batches(detector, missing, batch_size):
            known.update(rows)
            keep(rows)
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
    InputError for too few images, too few that can be read or differ, or a rate outside (0, 1).
    """
    check_by(by)
    files = _as_paths(paths)
    check_enough(len(files), fpr, delta)
    readable, rows, errors = _readable_rows(detector, files, batch_size, progress)
    scores = np.array([row.score for row in rows], dtype=np.float64)
    rank = threshold_rank(len(scores), fpr, delta)
    if rank == 0:
        raise InputError(
            f"{too_few(len(scores), fpr, delta)} {len(errors)} of the {len(files)} given could "
            f"not be read; the first: {errors[0]}"
        )
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
        errors,
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
    n, flagged = len(rows), sum(row.verdict == "OOD" for row in rows)
    return DetectionReport(n, flagged, flagged / n, *detection_interval(flagged, n), errors)


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
        scored = iter(score_rows(detector, batch.features, batch.patches))
        rows = {}
        for error in batch.errors:
            stamp, path = next(remaining)
            name = storable(str(path))
            if error is not None:
                rows[stamp] = ScoredImage(name, None, error=str(error))
            else:
                rows[stamp] = replace(next(scored), path=name)
        yield rows


@contextmanager
def _continued(
    journal: Path | None, detector: Detector
) -> Iterator[tuple[dict[str, ScoredImage], Callable[[Mapping[str, ScoredImage]], None]]]:
    """Yield the rows of the journal by the stamps of their files, and a function that adds rows."""
    if journal is None:
        yield {}, lambda _: None
        return
    # Rows of one detector never continue the journal of another.
    identity = json.dumps(
        {
            "detector": detector.identity(),
            "encoder": detector.encoder.fingerprint,
            "columns": [each.name for each in fields(ScoredImage)],
        }
    )
    with naming(journal):
        known = _read_journal(journal, identity, detector)
        # Written anew, so that nothing is left that is no row.
        write_text(journal, "".join([identity + "\n", *itertools.starmap(_line, known.items())]))
        stream = journal.open("a", encoding="utf-8")

    def keep(rows: Mapping[str, ScoredImage]) -> None:
        with naming(journal):
            stream.writelines(itertools.starmap(_line, rows.items()))
            stream.flush()
            os.fsync(stream.fileno())

    try:
        yield known, keep
    finally:
        # What could not be written to a full disk cannot be written now, either.
        with suppress(OSError):
            stream.close()


def _read_journal(journal: Path, identity: str, detector: Detector) -> dict[str, ScoredImage]:
    _check_journal(journal)
    header, *lines = journal.read_bytes().split(b"\n") if journal.exists() else [b""]
    if header != identity.encode():
        return {}
    rows: dict[str, ScoredImage] = {}
    # A killed run leaves at most one unfinished line, at the end; a finished run nothing.
    *lines, _ = lines or [b""]
    n_bad = 0
    negatives = frozenset(() if detector.negatives_ is None else detector.negatives_.texts)
    classes = detector.class_indices()
    for stamp, row in (_read_line(line, detector, classes, negatives) for line in lines):
        if row is None:
            n_bad += 1
        # The cause of an error may be gone.
        elif row.error is None:
            rows[stamp] = row
    if n_bad:
        warnings.warn(
            f"Lines of {str(journal)!r} that are no rows of results: {n_bad}; their images are "
            "scored again.",
            stacklevel=2,
        )
    return rows


def _read_line(
    line: bytes, detector: Detector, classes: Mapping[str, int], negatives: Collection[str]
) -> tuple[str, ScoredImage | None]:
    """Return the stamp and row of a line, None for one that is damaged or something else."""
    # JSON may be no JSON, too deep, no object, or have other fields.
    with suppress(ValueError, RecursionError, TypeError, KeyError):
        content = json.loads(line)
        stamp, row = content["stamp"], ScoredImage(**content["row"])
        named = isinstance(stamp, str) and isinstance(row.path, str)
        if named and _is_row(row, detector, classes, negatives):
            return stamp, row
    return "", None


def _is_row(
    row: ScoredImage, detector: Detector, classes: Mapping[str, int], negatives: Collection[str]
) -> bool:
    """Whether `_score_batches` may have made a row with this detector, its classes and labels."""
    if row.error is not None:
        return isinstance(row.error, str)
    if row.nearest_class is None or row.nearest_class not in classes:
        return False
    names = [row.nearest_class, row.runner_up]
    numbers = [row.score, row.similarity]
    if len(detector.class_names_) == 1:
        del names[1]
    else:
        numbers.append(row.runner_up_similarity)
    if detector.calibration_scores_ is not None:
        numbers.append(row.p_value)
    if negatives:
        numbers.append(row.negative_similarity)
    threshold = detector.offset_
    if detector.class_offsets_ is not None:
        threshold = float(detector.class_offsets_[classes[row.nearest_class]])
        numbers.append(row.threshold)
    return (
        isinstance(row.parts, dict)
        and set(row.parts) == set(detector.part_names_)
        and all(isinstance(x, float) and math.isfinite(x) for x in [*numbers, *row.parts.values()])
        and all(name in classes for name in names)
        and (not negatives or row.nearest_negative in negatives)
        and row.verdict == verdict_of(cast(float, row.score), threshold)
        and row.threshold == (None if detector.class_offsets_ is None else threshold)
    )


def _check_journal(journal: Path) -> None:
    """Raise InputError for a file that `score_files` has not written, which is never replaced."""
    if not journal.exists():
        return
    head = b""
    if journal.is_file():
        with journal.open("rb") as stream:
            head = stream.readline(4096)
            if not head:
                return
    if not head.startswith(b'{"detector": "'):
        raise InputError(
            f"{str(journal)!r} would keep the unfinished rows, and it is a file that negrefine "
            "has not written: rename it, or choose another name for the results."
        )


def _line(stamp: str, row: ScoredImage) -> str:
    return json.dumps({"stamp": stamp, "row": asdict(row)}) + "\n"
