"""Files: rows of results as CSV, JSON lines or Parquet, and text, written atomically."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from negrefine.errors import InputError

Rows = Sequence[Mapping[str, Any]]


def write_rows(path: str | os.PathLike[str], rows: Rows, schema: Mapping[str, str]) -> None:
    """Write rows to a .csv, .jsonl or .parquet file, atomically.

    Args:
        path: The suffix decides the format.
        rows: One mapping each; None marks a missing value.
        schema: Column name to "string", "double" or "int64", in column order.

    Raises:
        InputError: Unknown suffix, or the file cannot be written.
    """
    target = Path(path)
    writer = row_writer(target)
    write_atomically(target, lambda temporary: writer(temporary, rows, schema))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8, atomically.

    Raises:
        InputError: The file cannot be written.
    """

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8", newline="\n")

    write_atomically(Path(path), write)


def write_atomically(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `target` and put it in its place.

    Raises:
        InputError: The file cannot be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            write(temporary)
            # mkstemp makes files that only their owner may read.
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(target, error) from error


def check_target(path: str | os.PathLike[str]) -> None:
    """Make the folder of a results file, or raise InputError where it cannot be written."""
    target = Path(path)
    row_writer(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(target.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise _unwritable(target, error) from error


def row_writer(target: Path) -> Callable[[Path, Rows, Mapping[str, str]], None]:
    """Return the writer for a suffix; InputError if there is none."""
    writer = _WRITERS.get(target.suffix.lower())
    if writer is None:
        raise InputError(
            f"The format of {str(target)!r} is unknown: end the name in .parquet, .csv or .jsonl."
        )
    return writer


def _unwritable(target: Path, error: OSError) -> InputError:
    return InputError(
        f"The results cannot be written to {str(target)!r}: {error.strerror or error}."
    )


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _table(rows: Rows, schema: Mapping[str, str]) -> pa.Table:
    columns = {name: [row.get(name) for row in rows] for name in schema}
    types = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in schema.items()])
    return pa.table(columns, schema=types)


def _write_csv(path: Path, rows: Rows, schema: Mapping[str, str]) -> None:
    pyarrow.csv.write_csv(_table(rows, schema), path)


def _write_parquet(path: Path, rows: Rows, schema: Mapping[str, str]) -> None:
    pyarrow.parquet.write_table(_table(rows, schema), path)


def _write_jsonl(path: Path, rows: Rows, schema: Mapping[str, str]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        for row in rows:
            stream.write(json.dumps({name: row.get(name) for name in schema}) + "\n")


_WRITERS: dict[str, Callable[[Path, Rows, Mapping[str, str]], None]] = {
    ".csv": _write_csv,
    ".parquet": _write_parquet,
    ".jsonl": _write_jsonl,
}


def storable(text: str) -> str:
    """Return text that UTF-8 can hold: file names on Linux may be any bytes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def file_stamp(path: Path) -> str:
    """Return a text that changes when a file does: its path, size and time of modification."""
    try:
        info = path.stat()
    except OSError:
        return f"{path}|missing"
    return f"{path}|{info.st_size}|{info.st_mtime_ns}"
