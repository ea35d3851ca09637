"""How far an exported model agrees with the detector, on images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negrefine.adapters.onnx_files import open_session
from negrefine.detectors.base import Detector
from negrefine.encoders.base import FloatArray
from negrefine.encoders.images import use_scored
from negrefine.encoders.preprocessing import Preprocessing
from negrefine.errors import ImageError
from negrefine.progress import progress_bar


@dataclass(frozen=True)
class Comparison:
    """Scores and verdicts of a detector and of the exported model on n readable images.

    Attributes:
        largest_difference: Of the scores, which are those of one formula if nothing is left out.
        rank_correlation: Spearman's, of the scores; None if one of them is the same for all.
        n_flagged: Images that the detector and that the model take for out-of-distribution; None
            for one without a threshold.
        n_different: Images with two verdicts that differ; None unless both have thresholds.
        errors: For each image that cannot be read, why.
    """

    n: int
    largest_difference: float
    rank_correlation: float | None
    n_flagged: tuple[int | None, int | None]
    n_different: int | None
    errors: tuple[str, ...]


def compare_onnx(
    model: str | os.PathLike[str],
    detector: Detector,
    paths: Sequence[Path],
    *,
    batch_size: int = 64,
    progress: bool = False,
) -> Comparison:
    """Score image files with the whole detector and with the model that was exported of it.

    Both see the same pixels. Raises ImageError if no image can be read.
    """
    session = open_session(model)
    rows: list[tuple[NDArray[Any], ...]] = []
    errors: list[str] = []
    with progress_bar("Comparing scores", len(paths), enabled=progress) as advance:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            pixels = _readable(detector.encoder, batch, errors)
            if pixels:
                rows.append(_scored(session, detector, pixels))
            advance(len(batch))
    if not rows:
        raise ImageError(f"None of the {len(paths)} images could be read; the first: {errors[0]}")
    whole, part, flagged, part_flagged = (np.concatenate(each) for each in zip(*rows, strict=True))
    decides = detector.offset_ is not None
    part_decides = "is_in_distribution" in _output_names(session)
    return Comparison(
        len(whole),
        float(np.abs(whole - part).max()),
        _rank_correlation(whole, part),
        (
            int(flagged.sum()) if decides else None,
            int(part_flagged.sum()) if part_decides else None,
        ),
        int((flagged != part_flagged).sum()) if decides and part_decides else None,
        tuple(errors),
    )


def _readable(encoder: Any, paths: Sequence[Path], errors: list[str]) -> list[FloatArray]:
    """Return the pixels of images that can be read, and add why others cannot."""
    results = [_prepared(encoder, path) for path in paths]
    errors += [str(each) for each in results if isinstance(each, ImageError)]
    return [each for each in results if not isinstance(each, ImageError)]


def _prepared(encoder: Any, path: Path) -> FloatArray | ImageError:
    how: Preprocessing = encoder.preprocessing
    try:
        return use_scored(encoder, path, how, how.memory_bytes)
    except ImageError as error:
        return error


def _scored(
    session: Any, detector: Detector, pixels: Sequence[FloatArray]
) -> tuple[NDArray[Any], ...]:
    """Return scores of detector and model, and what each flags: nothing without a threshold."""
    names = _output_names(session)
    results = dict(zip(names, session.run(names, {"pixels": np.stack(pixels)}), strict=True))
    encoder: Any = detector.encoder
    features = encoder.encode_pixels(pixels)[0]
    scores = detector.score_features(features)
    flagged = np.zeros(len(scores), dtype=np.bool_)
    if detector.offset_ is not None:
        flagged = scores < detector.image_thresholds(detector.predicted_classes(features))
    return scores, results["scores"], flagged, ~results.get("is_in_distribution", ~flagged)


def _output_names(session: Any) -> list[str]:
    return [each.name for each in session.get_outputs()]


def _rank_correlation(first: NDArray[Any], second: NDArray[Any]) -> float | None:
    from scipy.stats import spearmanr

    if any(len(set(scores.tolist())) < 2 for scores in (first, second)):
        return None
    return float(spearmanr(first, second).statistic)
