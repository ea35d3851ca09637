"""What tells one file, or one state of a file, from another."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from negrefine.files.regular import open_regular


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file; errors are those of `open_regular`."""
    digest = hashlib.sha256()
    with open_regular(path) as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.digest()


def file_stamp(path: Path) -> str:
    """Return a text that changes when a file does: its absolute path, size and times.

    The time of the last change of its status tells a file that was replaced by another one of the
    same size with its time of modification set back, which copying programs do.
    """
    absolute = os.path.abspath(path)  # noqa: PTH100 - resolve() follows links
    try:
        info = path.stat()
    # Of a name that no file can have, too, such as one with a NUL.
    except (OSError, ValueError):
        return f"{absolute}|missing"
    return f"{absolute}|{info.st_size}|{info.st_mtime_ns}|{info.st_ctime_ns}"
