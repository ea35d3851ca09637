"""Images that are given more than once, found by their content."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from negrefine.encoders.images import ImageSource
from negrefine.files.identity import file_digest
from negrefine.files.regular import open_regular

_HEAD = 4096


def first_copies(images: Sequence[ImageSource]) -> list[int]:
    """Return for each image the position of the first one with the same content, often its own.

    Files are compared by their bytes, Pillow images and arrays by their pixels. A file that cannot
    be read equals only itself.
    """
    paths = {i: os.fspath(p) for i, p in enumerate(images) if isinstance(p, (str, os.PathLike))}
    files = _file_contents(paths.values())
    first: dict[Hashable, int] = {}
    return [
        first.setdefault(files[paths[i]] if i in paths else _pixels(each), i)
        for i, each in enumerate(images)
    ]


def _pixels(image: object) -> Hashable:
    if isinstance(image, Image.Image):
        return image.mode, image.size, hashlib.sha256(image.tobytes()).digest()
    if isinstance(image, np.ndarray):
        return str(image.dtype), image.shape, hashlib.sha256(image.tobytes()).digest()
    return bytes(image) if isinstance(image, (bytes, bytearray)) else id(image)


def _file_contents(paths: Iterable[str]) -> dict[str, Hashable]:
    """Return a key for each path, equal for files with the same bytes."""
    keys: dict[str, tuple[Hashable, ...]] = dict.fromkeys(paths, ())
    # Nearly all files differ in size or in their first bytes, so few are read in full.
    for measure in (_size, _head, _whole):
        alike = defaultdict(list)
        for path, key in keys.items():
            alike[key].append(path)
        for key, group in alike.items():
            for path in group if len(group) > 1 else ():
                # A file that cannot be read equals only itself.
                keys[path] = (*keys[path], path)
                with suppress(OSError, ValueError):
                    keys[path] = (*key, measure(Path(path)))
    return dict(keys)


def _size(path: Path) -> Hashable:
    return path.stat().st_size


def _head(path: Path) -> Hashable:
    with open_regular(path) as stream:
        return stream.read(_HEAD)


def _whole(path: Path) -> Hashable:
    return file_digest(path)
