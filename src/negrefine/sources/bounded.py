"""The bytes of one image of a source, in memory and within bounds."""

from __future__ import annotations

import hashlib
import io
from contextlib import suppress
from pathlib import Path
from typing import IO

from negrefine.encoders.image_memory import VARIABLE, memory_limit
from negrefine.encoders.image_sources import ImageSource
from negrefine.errors import ImageError
from negrefine.files.identity import file_digest

_BLOCK = 1 << 20


class NamedBytes(io.BytesIO):
    """The bytes of an image file, which errors call `name`."""

    def __init__(self, content: bytes = b"", name: str = "") -> None:
        super().__init__(content)
        self.name = name


def read_bounded(
    stream: IO[bytes], name: str, size: int | None = None, *, limit: int | None = None
) -> bytes:
    """Return the rest of a stream, which is said to hold `size` bytes.

    Raises ImageError if it is more than `limit`, without reading more; the default is what images
    may take in memory.
    """
    if size is not None:
        check_size(size, name, limit)
    most = memory_limit() if limit is None else limit
    parts: list[bytes] = []
    n = 0
    # Streams of servers return what has come so far.
    while part := stream.read(min(_BLOCK, most + 1 - n)):
        parts.append(part)
        n += len(part)
        check_size(n, name, limit)
    return b"".join(parts)


def check_size(n_bytes: int, name: str, limit: int | None = None) -> None:
    """Raise ImageError for more bytes than `limit`, or than images may take in memory."""
    if limit is not None and n_bytes > limit:
        raise ImageError(f"{name}: is larger than {limit >> 20} MiB; split it.")
    if limit is None and n_bytes > memory_limit():
        raise ImageError(
            f"{name}: holds more bytes than the {memory_limit() / 1e9:g} GB that images may take; "
            f"leave it out, or raise the environment variable {VARIABLE} if you trust it."
        )


def content_digest(image: ImageSource) -> bytes:
    """Return the SHA-256 sum of the bytes or file of an image of a source, b"" if unreadable."""
    if isinstance(image, NamedBytes):
        return hashlib.sha256(image.getbuffer()).digest()
    if isinstance(image, Path):
        with suppress(OSError, ValueError):
            return file_digest(image)
    return b""
