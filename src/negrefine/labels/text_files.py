"""Text files that users give, with one sentence for each way in which reading them fails."""

from __future__ import annotations

import codecs
import gzip
import os
import re
import zlib
from pathlib import Path

from negrefine.errors import InputError
from negrefine.files.reading import read_unpacked, reason
from negrefine.files.regular import NotRegularError

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def read_text(path: str | os.PathLike[str], kind: str, wanted: str) -> str:
    """Return the text of a file in UTF-8, or UTF-16 with a byte-order mark.

    It is unpacked if its name ends in ".gz".

    `kind` is what errors call the file, `wanted` what to give instead of a missing one.

    Raises:
        InputError: The file is missing, unreadable, no regular file, not UTF-8, not a complete gzip
            file, or has more than `reading.TEXT_BYTES`.
    """
    shown = os.fspath(path)
    if _URL.match(shown):
        raise InputError(f"The {kind} {shown!r} is a URL, and URLs are not fetched: download it.")
    file = Path(path)
    try:
        content = read_unpacked(file)
        # Windows programs write UTF-16, always with a byte-order mark.
        is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        problem = f"cannot be read: {reason(error)}"
        if isinstance(error, FileNotFoundError):
            problem = f"does not exist: give {wanted}"
        elif isinstance(error, NotRegularError):
            problem = f"is {error.what}, not a regular file: give {wanted}"
        elif isinstance(error, UnicodeDecodeError):
            problem = "is not UTF-8 text: save it as UTF-8"
            if b"\0" in content:
                problem = f"is not text: give {wanted}"
        elif isinstance(error, (gzip.BadGzipFile, EOFError, zlib.error)):
            problem = "is not a complete gzip file: compress it again"
        raise InputError(f"The {kind} {str(file)!r} {problem}.") from error
    if "\0" in text:
        raise InputError(
            f"The {kind} {str(file)!r} is not text, or UTF-16 without a mark: save it as UTF-8."
        )
    return text
