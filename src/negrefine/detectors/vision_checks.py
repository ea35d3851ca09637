"""What a vision model made of images: scores with and without it, and how often it was asked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from negrefine.judges.vision import ImagesFailedError


@dataclass(frozen=True, slots=True, eq=False)
class VisionChecks:
    """The scores of n images and what the vision model had to do with them.

    Attributes:
        parts: The components of the score by name, each float64 (n,); "vision" is NaN where the
            model was not asked or left an answer undecided.
        base_scores: float64 (n,), the scores of the base detector alone.
        scores: float64 (n,), those of `base_scores` where "vision" is NaN.
        classes: intp (n,), the predicted classes.
        asked: bool (n,), whether the model was asked.
        margins: float64 (n, I + J), log P(yes) - log P(no) for the I nearest class names, then the
            J nearest negative labels, corrected if the detector corrects; NaN without an answer.
        n_questions: Questions about these images.
        failed: For each image without a score its position, and why.
    """

    parts: dict[str, NDArray[np.float64]]
    base_scores: NDArray[np.float64]
    scores: NDArray[np.float64]
    classes: NDArray[np.intp]
    asked: NDArray[np.bool_]
    margins: NDArray[np.float64]
    n_questions: int
    failed: dict[int, str]

    @property
    def undecided(self) -> NDArray[np.bool_]:
        """Of which images the model left an answer undecided, bool (n,)."""
        has_failed = np.zeros(len(self.asked), dtype=bool)
        has_failed[list(self.failed)] = True
        return self.asked & np.isnan(self.parts["vision"]) & ~has_failed

    @classmethod
    def concatenate(cls, blocks: Iterable[VisionChecks]) -> Self:
        """Return the checks of one or more blocks of images as one."""
        blocks = list(blocks)
        starts = np.cumsum([0, *(len(each.scores) for each in blocks)]).tolist()
        return cls(
            parts={
                name: np.concatenate([each.parts[name] for each in blocks])
                for name in blocks[0].parts
            },
            base_scores=np.concatenate([each.base_scores for each in blocks]),
            scores=np.concatenate([each.scores for each in blocks]),
            classes=np.concatenate([each.classes for each in blocks]),
            asked=np.concatenate([each.asked for each in blocks]),
            margins=np.concatenate([each.margins for each in blocks]),
            n_questions=sum(each.n_questions for each in blocks),
            failed={
                start + row: why
                for start, each in zip(starts, blocks, strict=False)
                for row, why in each.failed.items()
            },
        )

    def check_whole(self) -> None:
        """Raise ImagesFailedError if a question about an image failed."""
        if self.failed:
            first = next(iter(self.failed.values()))
            raise ImagesFailedError(
                f"{len(self.failed)} of {len(self.scores)} images have no score, because a "
                f"question about them failed; the first: {first}",
                self.failed,
            )


@dataclass(frozen=True, slots=True)
class VisionReport:
    """How often a vision model was asked about images, and what that changed.

    Attributes:
        n: Images.
        asked: Images about which it was asked.
        questions: Questions about them.
        undecided: Images that keep the base detector's score, because an answer was undecided.
        failed: Images without a score, because a question failed.
        changed: Images whose verdict is another than the base detector's own; None where one of
            the two has no threshold.
    """

    n: int = 0
    asked: int = 0
    questions: int = 0
    undecided: int = 0
    failed: int = 0
    changed: int | None = 0

    def __add__(self, other: VisionReport) -> VisionReport:
        both = self.changed is not None and other.changed is not None
        return VisionReport(
            self.n + other.n,
            self.asked + other.asked,
            self.questions + other.questions,
            self.undecided + other.undecided,
            self.failed + other.failed,
            (self.changed or 0) + (other.changed or 0) if both else None,
        )

    def sentence(self) -> str:
        """Return the report in one line."""
        rate = self.questions / self.n if self.n else 0.0
        text = (
            f"The vision model was asked about {self.asked:,} of {self.n:,} images, "
            f"{self.questions:,} questions ({rate:.2f} for each image)"
        )
        if self.undecided:
            text += f"; {self.undecided:,} undecided, which keep the score without it"
        if self.failed:
            text += f"; {self.failed:,} failed"
        if self.changed is not None:
            text += f"; {self.changed:,} verdicts differ from those without it"
        return f"{text}."
