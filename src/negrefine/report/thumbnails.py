"""Small pictures inside a page, as data URIs: of one image, or of many files."""

from __future__ import annotations

import base64
import io
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from PIL import Image, features

from negrefine.encoders.images import use_scored
from negrefine.errors import ImageError

THUMBNAIL_SIZE = 160
"""Longest side in pixels."""

# A data URI, and width and height in pixels.
Thumbnail: TypeAlias = tuple[str, tuple[int, int]]

_FORMATS: Sequence[tuple[str, dict[str, Any]]] = (
    ("jpeg", {"quality": 82}),
    ("png", {"optimize": True}),
)
_JPEG: dict[str, Any] = {"quality": 75}
# Two thirds of the size of JPEG; better methods take twice the time for 5 % less.
_WEBP: dict[str, Any] = {"quality": 75, "method": 2}
# Files that are read ahead of the page, for each thread.
_AHEAD = 4


def thumbnail_of(
    image: Image.Image, formats: Sequence[tuple[str, dict[str, Any]]] = _FORMATS
) -> Thumbnail:
    """Return the picture at thumbnail size in the smallest of the formats; `image` is changed."""
    image.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.LANCZOS)
    contents = []
    for kind, options in formats:
        buffer = io.BytesIO()
        image.save(buffer, format=kind, **options)
        contents.append((kind, buffer.getvalue()))
    kind, content = min(contents, key=lambda pair: len(pair[1]))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}", image.size


def iter_thumbnails(encoder: object, paths: Iterable[Path | None]) -> Iterator[Thumbnail | None]:
    """Yield a thumbnail for each file, as `encoder` sees it, or None for one that cannot be read.

    Files are read in threads a little ahead, so neither images nor thumbnails pile up. A path of
    None gives None.
    """

    def read(path: Path | None) -> Thumbnail | None:
        if path is None:
            return None
        try:
            return use_scored(encoder, path, _small, _bytes_to_shrink)
        except ImageError:
            return None

    n_threads = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(n_threads) as pool:
        waiting: deque[Future[Thumbnail | None]] = deque()
        try:
            for path in paths:
                waiting.append(pool.submit(read, path))
                if len(waiting) > _AHEAD * n_threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _small(image: Image.Image) -> Thumbnail:
    return thumbnail_of(image, [("webp", _WEBP)] if _writes_webp() else [("jpeg", _JPEG)])


def _bytes_to_shrink(size: tuple[int, int]) -> int:
    """Return what Pillow takes at most: the image at half its size, and then of the new width."""
    width, height = size
    return width * height + 4 * THUMBNAIL_SIZE * height


@cache
def _writes_webp() -> bool:
    return bool(features.check("webp"))
