"""Text files that users give, with one sentence for each way in which reading them fails."""

from __future__ import annotations

import codecs
import gzip
import os
import zlib

from negrefine.errors import InputError
from negrefine.files.reading import read_unpacked
from negrefine.files.regular import NotRegularError

TEXT_BYTES = 64 << 20
"""More than any list of names or words has."""


def read_text(path: str | os.PathLike[str], kind: str, wanted: str, limit: int = TEXT_BYTES) -> str:
    """Return the text of a file in UTF-8, or UTF-16 with a byte-order mark.

    It is unpacked if its name ends in ".gz", and may then have `limit` bytes.

    `kind` is what errors call the file, `wanted` what to give instead of a missing one.

    Raises:
        InputError: The file is missing, unreadable, no regular file, too large, not UTF-8 or not a
            complete gzip file.
    """
    file = os.fspath(path)
    try:
        content = read_unpacked(file, limit)
        # Windows programs write UTF-16, always with a byte-order mark.
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        problem = f"cannot be read: {getattr(error, 'strerror', error)}"
        if isinstance(error, FileNotFoundError):
            problem = f"does not exist: give {wanted}"
        elif isinstance(error, NotRegularError):
            problem = f"is {error.what}, not a regular file: give {wanted}"
        elif isinstance(error, UnicodeDecodeError):
            problem = "is not UTF-8 text: save it as UTF-8"
        elif isinstance(error, (gzip.BadGzipFile, EOFError, zlib.error)):
            problem = "is not a complete gzip file: compress it again"
        raise InputError(f"The {kind} {file!r} {problem}.") from error
    if "\0" in text:
        raise InputError(
            f"The {kind} {file!r} is not text, or UTF-16 without a mark: save it as UTF-8."
        )
    return text
