"""How much memory decoding an image takes, and how much all images may take at the same time."""

from __future__ import annotations

import ctypes
import math
import os
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from PIL import Image

from negrefine.errors import ImageError, InputError

VARIABLE = "NEGREFINE_IMAGE_GB"
_DEFAULT_LIMIT = 10**9
_LARGE = 64 * 10**6

# Bytes that Pillow holds for a pixel; 4 in all other modes, RGB and LA too.
_PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
# Bytes that decoders hold for a pixel beside the image, as measured, and for those that are not
# here: most of these are written in Python and hold the whole image once more.
_DECODER_BYTES = {"PNG": 0, "BMP": 0, "DIB": 0, "TGA": 0, "PCX": 0, "WEBP": 13, "AVIF": 16}
_OTHER_DECODER_BYTES = 6
_FITS_GZIP_BYTES = 60
# Their files are read whole when they are opened.
WHOLE_FILE_FORMATS = frozenset({"WEBP", "AVIF", "HEIC"})

# Tags of TIFF.
_BITS, _COMPRESSION, _STRIP_ROWS, _TILE_WIDTH, _TILE_HEIGHT = 258, 259, 278, 322, 323
_TIFF_RAW = 1
# JPEG and WebP in TIFF: their decoders hold several times what they return.
_TIFF_NESTED = frozenset({6, 7, 34712, 50001})


def memory_limit() -> int:
    """Return how many bytes images may take while they are decoded: 1 GB, or $NEGREFINE_IMAGE_GB.

    Raises InputError if the variable is no number of more than 0.
    """
    given = os.environ.get(VARIABLE, "").strip()
    if not given:
        return _DEFAULT_LIMIT
    with suppress(ValueError, OverflowError):
        limit = float(given) * 1e9
        if limit > 0:
            return int(min(limit, 2**62))
    raise InputError(f"${VARIABLE} is {given!r}: make it a number of gigabytes, such as 2.")


def check_memory(n_bytes: int, name: str, image: str) -> None:
    """Raise ImageError if decoding `image`, words for it, takes more bytes than the limit."""
    limit = memory_limit()
    if n_bytes > limit:
        enough = math.ceil(n_bytes / 1e8) / 10
        raise ImageError(
            f"{name}: {image} takes about {n_bytes / 1e9:.2f} GB of memory to decode, more than the"
            f" limit of {limit / 1e9:g} GB; shrink the image, or set the environment variable"
            f" {VARIABLE}={enough:g} if you trust it."
        )


def decoding_bytes(image: Image.Image, stream: IO[bytes] | None, *, turned: bool) -> int:
    """Return about how many bytes it takes to decode an open image and make it RGB.

    Args:
        image: Not loaded yet.
        stream: The file that it was opened from, or None if that is not known.
        turned: The image will be turned upright.
    """
    n = image.width * image.height
    stored = n * _PIXEL_BYTES.get(image.mode, 4)
    # Some decoders go on reading where they are.
    position = 0 if stream is None else stream.tell()
    try:
        decoding = stored + _decoder_bytes(image, stream, n, stored)
    finally:
        if stream is not None:
            stream.seek(position)
    return max(decoding, converting_bytes(image, turned=turned))


def converting_bytes(image: Image.Image, *, turned: bool = False) -> int:
    """Return about how many bytes an image and its conversion to RGB take."""
    n = image.width * image.height
    stored = n * _PIXEL_BYTES.get(image.mode, 4)
    transparent = image.has_transparency_data
    if image.mode == "RGB" and not transparent:
        converting = stored
    elif (image.mode in {"I", "F"} or image.mode.startswith("I;16")) and not transparent:
        # To 8 bits of grey first.
        converting = max(stored + n, 5 * n)
    elif image.mode.startswith("I"):
        converting = stored + 5 * n
    else:
        converting = stored + 4 * n
    return max(converting, 8 * n if turned else 0)


class _Budget:
    """The bytes that images of all threads take while they are decoded."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all reservations."""
        self._changed = threading.Condition()
        self._taken = 0

    @contextmanager
    def reserve(self, n_bytes: int) -> Iterator[None]:
        """Wait until so many bytes are free, or all; a thread must not reserve twice."""
        limit = memory_limit()
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + n_bytes <= limit)
            self._taken += n_bytes
        try:
            yield
        finally:
            with self._changed:
                self._taken -= n_bytes
                self._changed.notify_all()


_budget = _Budget()
# The threads of the parent that hold memory or the lock do not exist in a forked child.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_budget.reset)


@contextmanager
def memory_for(n_bytes: int) -> Iterator[None]:
    """Wait until the images of all threads, with `n_bytes` more, are within the limit."""
    with _budget.reserve(n_bytes):
        try:
            yield
        finally:
            if n_bytes >= _LARGE:
                _return_free_memory()


def _return_free_memory() -> None:
    """Give the system what was freed: glibc keeps it for each thread, images of hundreds of MB."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _decoder_bytes(image: Any, stream: IO[bytes] | None, n: int, stored: int) -> int:
    """Return what the decoder of an image holds beside the n pixels."""
    kind = image.format
    if kind in {"JPEG", "MPO"}:
        return 0 if _has_one_scan(image, stream) else _coefficient_bytes(image, n)
    if kind == "JPEG2000":
        # 32 bits for each sample of a tile, the samples as they are returned, and coefficients.
        return int(6 * len(image.getbands()) * min(n, _tile_pixels(stream) or n))
    if kind == "TIFF":
        return _tiff_bytes(image, stream, n)
    if kind == "GIF" or (kind == "PNG" and getattr(image, "is_animated", False)):
        # What the first frame leaves behind.
        return 2 * stored
    if kind == "FITS" and image.tile and image.tile[0][0] != "raw":
        return _FITS_GZIP_BYTES * n
    held: int = _DECODER_BYTES.get(kind, _OTHER_DECODER_BYTES) * n
    return held + (2 * _size(stream) if kind in WHOLE_FILE_FORMATS else 0)


def _has_one_scan(image: Any, stream: IO[bytes] | None) -> bool:
    """Return whether a JPEG is decoded row by row, not held as coefficients of all its scans."""
    if stream is None or image.format != "JPEG" or "progressive" in image.info:
        return False
    # Pillow has just read the header of the first scan: its length, and the number of components.
    components = len(image.layer)
    length = 6 + 2 * components
    with suppress(OSError, ValueError):
        stream.seek(-length, os.SEEK_CUR)
        return bytes(stream.read(length)[:3]) == struct.pack(">HB", length, components)
    return False


def _coefficient_bytes(image: Any, n: int) -> int:
    sampling = [(h, v) for _, h, v, _ in image.layer] or [(1, 1)]
    largest = max(h for h, _ in sampling) * max(v for _, v in sampling)
    return int(2 * n * sum(h * v for h, v in sampling) / max(largest, 1))


def _tile_pixels(stream: IO[bytes] | None) -> int | None:
    """Return the pixels of a tile of a JPEG 2000 file, None if they are not found."""
    if stream is None:
        return None
    with suppress(OSError, ValueError, struct.error):
        stream.seek(0)
        if stream.read(4) != b"\xff\x4f\xff\x51":
            position, kind = 0, b""
            while kind != b"jp2c":
                stream.seek(position)
                length, kind = struct.unpack(">I4s", stream.read(8))
                if kind == b"jp2c":
                    stream.seek(position + (16 if length == 1 else 8) + 4)
                elif length == 1:
                    (length,) = struct.unpack(">Q", stream.read(8))
                if length < 8 and kind != b"jp2c":
                    return None
                position += length
        # The lengths and offsets of the image come first.
        width, height = struct.unpack(">20xII", stream.read(28))
        return int(width * height)
    return None


def _tiff_bytes(image: Any, stream: IO[bytes] | None, n: int) -> int:
    """Return what libtiff holds: the compressed data, and a strip or tile of any size."""
    tags = image.tag_v2
    if tags.get(_COMPRESSION, _TIFF_RAW) == _TIFF_RAW:
        return 0
    bits = tags.get(_BITS, (1,))
    sample_bytes = max(4.0, sum(bits if isinstance(bits, tuple) else (bits,)) / 8)
    if _TILE_WIDTH in tags:
        pixels = tags[_TILE_WIDTH] * tags.get(_TILE_HEIGHT, image.height)
    else:
        pixels = image.width * min(tags.get(_STRIP_ROWS, image.height), image.height)
    nested = 4 if tags[_COMPRESSION] in _TIFF_NESTED else 1
    # The file may hold more images than the one that is read.
    compressed = min(_size(stream), int(1.5 * sample_bytes * n))
    return int(nested * sample_bytes * pixels) + compressed


def _size(stream: IO[bytes] | None) -> int:
    if stream is None:
        return 0
    with suppress(OSError, ValueError):
        return stream.seek(0, os.SEEK_END)
    return 0
