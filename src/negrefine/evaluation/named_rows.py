"""Rows of results for the named images of a source, as they are read."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from negrefine.detectors import Detector
from negrefine.encoders.batches import iter_encoded_images
from negrefine.errors import ImageError
from negrefine.evaluation.scored_image import ScoredImage, score_rows
from negrefine.shown_text import storable
from negrefine.sources.base import NamedImage


def score_named(
    detector: Detector, images: Iterable[NamedImage], batch_size: int = 64
) -> Iterator[ScoredImage]:
    """Yield one row for each image, in order; those that cannot be read have an error.

    Images are read ahead by two batches at most, so memory does not grow with their number.
    """
    names: deque[str] = deque()

    def sources() -> Iterator[Any]:
        for named in images:
            names.append(storable(named.name))
            image = named.image
            yield _Unreadable(image) if isinstance(image, ImageError) else image

    # Encoders take what is read as it comes, too.
    stream: Any = sources()
    encoded = iter_encoded_images(
        detector.encoder, stream, batch_size, patches=detector.uses_patches
    )
    for batch in encoded:
        scored = iter(score_rows(detector, batch.features, batch.patches))
        for error in batch.errors:
            name = names.popleft()
            if error is None:
                yield replace(next(scored), path=name)
            else:
                yield ScoredImage(name, None, error=str(error))


class _Unreadable(io.RawIOBase):
    """An image of which only the reason is known why there is none."""

    def __init__(self, error: ImageError) -> None:
        self._error = error

    def read(self, size: int = -1) -> bytes:
        """Raise the reason."""
        del size
        raise self._error
