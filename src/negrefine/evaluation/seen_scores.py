"""Scores of detectors that must see the images, beside those that features alone decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors import Detector
from negrefine.detectors.scoring import SCORE_ROWS
from negrefine.detectors.vision_checked import VisionChecked
from negrefine.detectors.vision_checks import VisionChecks, VisionReport
from negrefine.errors import InputError
from negrefine.evaluation.images import ImageSet, SourceSet
from negrefine.evaluation.store import Block, Parts, Scorer, SetStore
from negrefine.progress import progress_bar

# Stored beside the components: what `confine` and a band make of them, and what that cost.
FINAL, QUESTIONS = "score", "questions"

FAILED = "no answer about the image: "
"""How the error of an image begins about which a question failed."""


@dataclass(frozen=True)
class SeenScorer(Scorer):
    """All components of the score of a `VisionChecked`, its final score, and the questions."""

    @property
    def stored_names(self) -> tuple[str, ...]:
        """What is stored of an image: its components, final score and number of questions."""
        return (*self.part_names, FINAL, QUESTIONS)

    def look(self, block: Block, paths: Sequence[Path]) -> VisionChecks:
        """Return what the detector makes of a block of features, and of its readable images."""
        detector = self.detector
        assert isinstance(detector, VisionChecked)  # noqa: S101 - no other has image parts
        # In the blocks in which `score_samples` sums over labels.
        return VisionChecks.concatenate(
            detector.check_features(block.features[rows], paths[rows])
            for start in range(0, max(len(paths), 1), SCORE_ROWS)
            for rows in [slice(start, start + SCORE_ROWS)]
        )

    def stored(self, checks: VisionChecks) -> Parts:
        """Return what is stored of images, each float64 (n,)."""
        width = np.float64(checks.n_questions / max(int(checks.asked.sum()), 1))
        parts = {name: checks.parts[name] for name in self.part_names}
        return {**parts, FINAL: checks.scores, QUESTIONS: np.where(checks.asked, width, 0.0)}


def report_of(found: Parts, n_failed: int) -> VisionReport:
    """Return how often the model was asked, from what is stored of images."""
    asked = found[QUESTIONS] > 0
    unknown = int((asked & np.isnan(found["vision"])).sum())
    questions = int(found[QUESTIONS].sum())
    return VisionReport(len(asked), int(asked.sum()), questions, unknown - n_failed, n_failed, None)


def score_seen(
    store: SetStore, scorer: SeenScorer, blocks: Sequence[Block], paths: Sequence[Path], row: str
) -> tuple[Parts, dict[int, str]]:
    """Return what is stored of each readable image, new or from before, and which failed.

    Blocks without a failing question are stored; of others the next run asks only what is missing,
    because answers are stored by themselves. `paths` are those of all images of the blocks. Raises
    JudgeError for a model that cannot be reached.
    """
    found: list[Mapping[str, NDArray[Any]]] = []
    failed: dict[int, str] = {}
    start = done = 0
    caption = f"Scoring {store.caption} ({row})"
    with progress_bar(caption, len(paths), enabled=store.progress) as advance:
        for number, block in enumerate(blocks):
            files = paths[start : start + len(block.errors)]
            kept = store.read_parts(number, scorer, block)
            if kept is None:
                readable = [p for p, e in zip(files, block.errors, strict=True) if e is None]
                checks = scorer.look(block, readable)
                kept = Block(scorer.stored(checks))
                failed |= {done + i: f"{FAILED}{why}" for i, why in checks.failed.items()}
                if not checks.failed:
                    kept.write(*store.parts_file(number, scorer, block))
            found.append(kept.arrays)
            start, done = start + len(files), done + len(block.features)
            advance(len(files))
    return scorer.joined(found), failed


def check_seen(
    detectors: Mapping[str, Detector], image_sets: Sequence[ImageSet | SourceSet]
) -> None:
    """Raise InputError for images that are read once, where a detector looks at them again."""
    rows = [row for row, detector in detectors.items() if detector.image_parts]
    wrong = [each.name for each in image_sets if not isinstance(each, ImageSet)]
    if rows and wrong:
        raise InputError(
            f"The vision model of {rows[0]!r} looks at the images after they were encoded, but "
            f"those of {wrong[0]} are read once: give files or folders, not addresses or archives."
        )
