"""Calibrate on image files, some of which may be broken, and measure the detection of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors import Detector
from negrefine.detectors.conformal import detection_interval, threshold_rank, too_few
from negrefine.errors import ImageError, InputError, NotFittedError
from negrefine.evaluation.image_scores import score_files


@dataclass(frozen=True, slots=True)
class CalibrationReport:
    """What a calibration rests on.

    Attributes:
        threshold: `offset_` of the detector.
        fpr: The guaranteed false-alarm rate.
        delta: The chance that the rate may be exceeded, None if its mean is bounded.
        n: Images used.
        rank: The threshold is the rank-th smallest score.
        errors: Why images could not be read, one sentence for each.
    """

    threshold: float
    fpr: float
    delta: float | None
    n: int
    rank: int
    errors: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DetectionReport:
    """How many out-of-distribution images a threshold flags.

    Attributes:
        n: Images that could be read.
        n_flagged: Of them, flagged.
        rate: n_flagged / n.
        low: Lower end of the 95 % Clopper-Pearson interval of the rate.
        high: Its upper end.
        errors: Why images could not be read, one sentence for each.
    """

    n: int
    n_flagged: int
    rate: float
    low: float
    high: float
    errors: tuple[str, ...]


def calibrate_files(
    detector: Detector,
    paths: Sequence[Path],
    fpr: float = 0.05,
    *,
    delta: float | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> CalibrationReport:
    """Do what `Detector.calibrate` does with image files, leaving out those that cannot be read.

    Args:
        detector: Fitted, on an encoder from `load_encoder`; gets the threshold.
        paths: In-distribution image files.
        fpr: False-alarm rate, in (0, 1).
        delta: See `Detector.calibrate`.
        batch_size: Images to encode at a time.
        progress: Draw a progress bar on a terminal.

    Raises:
        ImageError: No image can be read.
        InputError: Too few images, or too few that can be read; a rate outside (0, 1).
    """
    check_enough(len(paths), fpr, delta)
    scores, errors = _readable_scores(detector, paths, batch_size, progress)
    if errors and threshold_rank(len(scores), fpr, delta) == 0:
        raise InputError(
            f"{too_few(len(scores), fpr, delta)} {len(errors)} of the {len(paths)} given could "
            f"not be read; the first: {errors[0]}"
        )
    detector.calibrate_scores(scores, fpr, delta=delta)
    rank = threshold_rank(len(scores), fpr, delta)
    assert detector.offset_ is not None  # noqa: S101 - set just above
    return CalibrationReport(detector.offset_, fpr, delta, len(scores), rank, errors)


def detect_files(
    detector: Detector, paths: Sequence[Path], *, batch_size: int = 64, progress: bool = False
) -> DetectionReport:
    """Count the out-of-distribution image files that a detector with a threshold flags.

    Raises:
        ImageError: No image can be read.
        NotFittedError: No threshold is set.
    """
    if detector.offset_ is None:
        raise NotFittedError("No threshold is set: call calibrate(id_images, fpr=0.05).")
    scores, errors = _readable_scores(detector, paths, batch_size, progress)
    n, flagged = len(scores), int((scores < detector.offset_).sum())
    return DetectionReport(n, flagged, flagged / n, *detection_interval(flagged, n), errors)


def check_enough(n: int, fpr: float, delta: float | None) -> None:
    """Raise InputError if n images cannot give the guarantee, before minutes of work."""
    if threshold_rank(n, fpr, delta) == 0:
        raise InputError(too_few(n, fpr, delta))


def _readable_scores(
    detector: Detector, paths: Sequence[Path], batch_size: int, progress: bool
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    rows = score_files(detector, paths, batch_size=batch_size, progress=progress)
    scores = np.array([row.score for row in rows if row.score is not None], dtype=np.float64)
    errors = tuple(row.error for row in rows if row.error is not None)
    if not len(scores):
        first = f" The first: {errors[0]}" if errors else ""
        raise ImageError(f"None of the {len(paths)} images could be read.{first}")
    return scores, errors
