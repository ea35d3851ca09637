"""Reading files that anybody may have written: never waited for, never more than a bound.

What goes wrong is an `OSError` or a `ValueError` whose text is a clause, such as "it is nested more
than 64 levels deep", that the sentences of callers end with.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any, NoReturn

from negrefine.files.regular import open_regular

JSON_BYTES = 64 << 20
"""More than any JSON file that negrefine reads has; objects take some twenty times the room."""
TEXT_BYTES = 256 << 20
"""More than any word list or log has, as a file and unpacked."""
MAX_DEPTH = 64
# Any such number fits in a float.
_MAX_DIGITS = 300


def read_bytes(path: str | os.PathLike[str], limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes; links are followed.

    Raises:
        OSError: It is missing, unreadable, or (`NotRegularError`) a pipe, device, socket or folder.
        ValueError: It is larger.
    """
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
        # A file may grow.
        content = b"" if size > limit else stream.read(limit + 1)
    if size > limit or len(content) > limit:
        raise ValueError(f"it is larger than {_size(limit)}")
    return content


def read_unpacked(path: str | os.PathLike[str], limit: int = TEXT_BYTES) -> bytes:
    """Return what `read_bytes` does, unpacked, to `limit` bytes too, if the name ends in ".gz".

    Raises:
        OSError: As `read_bytes`; gzip.BadGzipFile for what is not packed.
        EOFError, zlib.error: The packed content is cut off or damaged.
        ValueError: It is larger, packed or unpacked.
    """
    content = read_bytes(path, limit)
    if Path(path).suffix != ".gz":
        return content
    with gzip.open(io.BytesIO(content)) as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it is larger than {_size(limit)} when it is unpacked")
    return content


def read_json(path: str | os.PathLike[str], limit: int = JSON_BYTES) -> Any:
    """Return what a JSON file in UTF-8 holds; a byte-order mark is skipped.

    Raises:
        OSError: As `read_bytes`.
        ValueError: It is larger, not UTF-8, or JSON that `parse_json` refuses.
    """
    return parse_json(read_bytes(path, limit))


def parse_json(text: str | bytes, *, allow_nan: bool = False) -> Any:
    """Return what JSON holds: finite numbers, each key once, no more than `MAX_DEPTH` levels.

    Raises:
        ValueError: It is something else, or not UTF-8.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ValueError(f"it is not UTF-8 text (byte {error.start})") from error
    try:
        if text.startswith("\ufeff"):
            raise json.JSONDecodeError("Unexpected UTF-8 BOM (decode using utf-8-sig)", text, 0)
        value = _DECODERS[allow_nan].decode(text)
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    # Most texts have too few brackets for more than a few levels.
    brackets = text.count("[") + text.count("{")
    if isinstance(value, (list, dict)) and brackets > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        raise ValueError(_too_deep())
    if "\\u" in text:
        _check_characters(value)
    return value


def reason(error: Exception) -> str:
    """Return what an error of these functions says, without number and path."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _size(limit: int) -> str:
    return f"{limit >> 30} GiB" if limit >= 1 << 30 else f"{limit >> 20} MiB"


def _too_deep() -> str:
    return f"it is nested more than {MAX_DEPTH} levels deep"


def _deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are inside each other on more than some levels."""
    layer = [value]
    for _ in range(levels):
        layer = [
            child
            for each in layer
            for child in (each.values() if isinstance(each, dict) else each)
            if isinstance(child, (list, dict))
        ]
    return bool(layer)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"it holds the key {twice[:80]!r} twice")
    return content


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"it holds {text}, which is no number")


def _whole(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError(f"it holds a number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"it holds the number {digits[:40]}, which is too large")
    return number


def _check_characters(value: Any) -> None:
    """Raise ValueError for halves of surrogate pairs, which no output can hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("it holds half of a character (a lone \\ud800 to \\udfff)") from error


# Made once: a table of a saved detector has thousands of lines.
_DECODERS = {
    allow_nan: json.JSONDecoder(
        object_pairs_hook=_unique,
        parse_constant=float if allow_nan else _not_finite,
        parse_int=_whole,
        parse_float=_finite,
    )
    for allow_nan in (False, True)
}
