"""Asking a vision judge about images, whose failures cost the images that they are about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors.vision_score import corrected_margins
from negrefine.errors import ImageError
from negrefine.judges.vision import ImagesFailedError, VisionJudge, checked_margins

if TYPE_CHECKING:
    from PIL.Image import Image

    from negrefine.encoders.images import ImageSource

# Images whose pixels are in memory at a time.
_PICTURES = 16
_GREY_SIDE = 224
_GREY = (127, 127, 127)


@dataclass(eq=False)
class ImageAsker:
    """Puts questions about images to a vision judge.

    Attributes:
        encoder: Its settings for orientation and transparency hold for what the judge sees, too.
        grey: The margins on a grey image that are known, by name; None corrects nothing.
    """

    judge: VisionJudge
    encoder: object
    grey: dict[str, float] | None = None

    def margins(
        self, images: Sequence[ImageSource], names: Sequence[Sequence[str]]
    ) -> tuple[list[NDArray[np.float64]], dict[int, str]]:
        """Return the margins of the names of each image, float64 (m,), and which images failed.

        Those of an image that failed are NaN. Raises JudgeError where all questions fail.
        """
        margins = [np.full(len(row), np.nan) for row in names]
        failed: dict[int, str] = {}
        for start in range(0, len(images), _PICTURES):
            rows = range(start, min(start + _PICTURES, len(images)))
            pictures = self._read(rows, images, failed)
            for row, found in self._answers(pictures, names, failed):
                margins[row] = found
            if self.grey is not None:
                rows_left = [row for row in pictures if row not in failed]
                self._correct(self.grey, rows_left, names, margins, failed)
        return margins, failed

    def _read(
        self, rows: Sequence[int], images: Sequence[ImageSource], failed: dict[int, str]
    ) -> dict[int, Image]:
        from negrefine.encoders.images import read_scored

        pictures: dict[int, Image] = {}
        for row in rows:
            try:
                pictures[row] = read_scored(self.encoder, images[row]).convert("RGB")
            except ImageError as error:  # noqa: PERF203 - one image costs one row
                failed[row] = str(error)
        return pictures

    def _answers(
        self,
        pictures: Mapping[int, Image],
        names: Sequence[Sequence[str]],
        failed: dict[int, str],
    ) -> Iterator[tuple[int, NDArray[np.float64]]]:
        """Yield the margins of images, and note those about which a question fails."""
        rows = list(pictures)
        while rows:
            asked = [names[row] for row in rows]
            try:
                given = self.judge.yes_margins([pictures[row] for row in rows], asked)
            except ImagesFailedError as error:
                lost = {rows[i]: why for i, why in error.reasons.items() if 0 <= i < len(rows)}
                if not lost:
                    raise
                failed.update(lost)
                # The answers about the others are stored, or else asked once more.
                rows = [row for row in rows if row not in lost]
                continue
            shape = (len(rows), len(asked[0]))
            yield from zip(rows, checked_margins(self.judge, given, shape), strict=True)
            return

    def _correct(
        self,
        grey: dict[str, float],
        rows: Sequence[int],
        names: Sequence[Sequence[str]],
        margins: list[NDArray[np.float64]],
        failed: dict[int, str],
    ) -> None:
        """Subtract the margins of the same names on a grey image, which are asked once.

        Images for which one is missing, because the questions failed, fail with it.
        """
        from PIL import Image

        why = ""
        if missing := list(dict.fromkeys(n for row in rows for n in names[row] if n not in grey)):
            picture = Image.new("RGB", (_GREY_SIDE, _GREY_SIDE), _GREY)
            try:
                given = self.judge.yes_margins([picture], [missing])
            except ImagesFailedError as error:
                why = f"On a grey image: {next(iter(error.reasons.values()), error)}"
            else:
                found = checked_margins(self.judge, given, (1, len(missing)))[0]
                grey.update(zip(missing, found.tolist(), strict=True))
        for row in rows:
            if grey.keys() >= set(names[row]):
                margins[row] = corrected_margins(margins[row], [grey[n] for n in names[row]])
            else:
                margins[row] = np.full(len(names[row]), np.nan)
                failed[row] = why
