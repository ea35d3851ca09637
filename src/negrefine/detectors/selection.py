"""Images that something about a detector was chosen on, so that none of them calibrates it.

A threshold is valid for images that are exchangeable with the calibration images. Images on which
parameters were chosen are not: the score was made to suit them. They are known again by marks, the
first eight bytes of a SHA-256 sum of their content, or of their features.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.encoders.images import ImageSource

Marks = NDArray[np.uint64]
_BYTES = 8


def marks_of_digests(digests: Iterable[bytes]) -> Marks:
    """Return the marks of SHA-256 sums, uint64 (n,), sorted and distinct; b"" has none."""
    numbers = {int.from_bytes(each[:_BYTES], "big") for each in digests if each}
    return np.array(sorted(numbers), dtype=np.uint64)


def marks_of_images(images: Iterable[ImageSource]) -> Marks:
    """Return the marks of images: files by their bytes, pictures and arrays by their pixels.

    A file that cannot be read has none, and so has an open one in which one cannot go back. The
    same picture in another form, such as the pixels of a file, has another mark.
    """
    return marks_of_digests(map(_digest, images))


def marks_of_features(features: FloatArray) -> Marks:
    """Return the marks of float32 features (n, d)."""
    rows = np.ascontiguousarray(features, dtype=np.float32)
    return marks_of_digests(hashlib.sha256(row.tobytes()).digest() for row in rows)


def check_apart_from(marks: Marks | None, others: Marks, what: str, purpose: str) -> None:
    """Raise InputError if images with some marks are among others, which serve `purpose`.

    `what` says what the images of `marks` were for: "the alphas of this detector were chosen on".
    """
    both = 0 if marks is None else len(np.intersect1d(marks, others))
    if both:
        raise InputError(
            f"{both} of the {len(others)} different images to {purpose} are images that {what}: "
            f"{purpose} with others, which the choice has not seen."
        )


def check_marks(name: str, value: Any) -> None:
    """Raise InputError for what are not uint64 (n,), ascending."""
    if value.dtype != np.uint64 or value.ndim != 1:
        raise InputError(f"{name} must be uint64 in one dimension.")
    if (value[1:] <= value[:-1]).any():
        raise InputError(f"{name} must ascend.")


def _digest(image: object) -> bytes:
    from PIL import Image

    from negrefine.files.identity import file_digest

    if isinstance(image, (str, os.PathLike)):
        from pathlib import Path

        try:
            return file_digest(Path(image))
        except (OSError, ValueError):
            return b""
    if isinstance(image, Image.Image):
        return _of_pixels(image.mode, image.size, image.tobytes())
    if isinstance(image, np.ndarray):
        return _of_pixels(str(image.dtype), image.shape, image.tobytes())
    if isinstance(image, (bytes, bytearray)):
        return hashlib.sha256(image).digest()
    return _of_stream(image)


def _of_stream(stream: Any) -> bytes:
    """Return the sum of an open file, which is left where it was."""
    try:
        place = stream.tell()
        stream.seek(0)
        content = stream.read()
        stream.seek(place)
    except (AttributeError, OSError, ValueError):
        return b""
    return hashlib.sha256(content).digest() if isinstance(content, bytes) else b""


def _of_pixels(kind: str, shape: Any, content: bytes) -> bytes:
    head = f"{kind}{tuple(shape)}".encode()
    return hashlib.sha256(head + content).digest()
