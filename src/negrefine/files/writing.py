"""Rows of results as CSV, JSON lines or Parquet, and text, written atomically."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from negrefine.errors import InputError
from negrefine.files.reading import parse_json
from negrefine.files.regular import check_regular
from negrefine.files.scratch_folder import scratch_folder
from negrefine.shown_text import table_cell

if TYPE_CHECKING:
    import pyarrow as pa

# A row of a table is shorter, and another file may have no line breaks.
_LINE_CHARACTERS = 1 << 20
_QUOTED = re.compile(r'[,"\r\n]')


def write_rows(
    path: str | os.PathLike[str], rows: Sequence[Mapping[str, Any]], schema: Mapping[str, str]
) -> None:
    """Write rows to a .csv, .jsonl or .parquet file, atomically.

    In CSV, text that a spreadsheet would take for a formula has a "'" before it (`table_cell`).

    Args:
        path: The suffix decides the format.
        rows: One mapping each; None marks a missing value.
        schema: Column name to "string", "double" or "int64", in column order.

    Raises:
        InputError: Unknown suffix, or the file cannot be written.
    """
    import pyarrow as pa

    target = Path(path)
    write = _writer(target)
    table = pa.Table.from_pylist(rows, schema=pa.schema(schema.items()))

    def write_file(temporary: Path) -> None:
        # Arrow opens no file whose name is not UTF-8.
        with temporary.open("wb") as stream:
            write(table, stream)

    write_atomically(target, write_file)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file in UTF-8, atomically.

    Raises:
        InputError: The file cannot be written.
    """
    write_atomically(Path(path), lambda temporary: temporary.write_bytes(text.encode("utf-8")))


def write_atomically(target: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file in a new folder beside `target` and put it in its place.

    A process that is killed leaves the folder, which the next one that writes `target` removes.

    Raises:
        InputError: The file cannot be written, or what is there is a pipe, socket or device.
    """
    with naming(target):
        check_regular(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(target) as folder:
            temporary = folder / "file"
            write(temporary)
            temporary.replace(target)


@contextmanager
def naming(target: Path) -> Iterator[None]:
    """Raise `InputError` that names a file which cannot be written, for an error of the system."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"The results cannot be written to {str(target)!r}: {error.strerror or error}."
        ) from error


def check_target(
    path: str | os.PathLike[str], required: Collection[str], allowed: Collection[str] = ()
) -> None:
    """Make the folder of a results file, or raise InputError where it must not be written.

    A file that exists is replaced only if it is empty or a table that negrefine has written, that
    is, has all `required` columns and beside them only `allowed` ones.
    """
    target = Path(path)
    _writer(target)
    with naming(target):
        check_regular(target)
        columns = _columns(target)
    if columns is not None and not set(required) <= set(columns) <= {*required, *allowed}:
        raise InputError(
            f"{str(target)!r} exists and is not a table that negrefine has written: choose another "
            "name, or remove it."
        )
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not os.access(target.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def check_folder(folder: Path) -> None:
    """Make a folder for results, or raise `InputError` where none can be written to."""
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def check_replaceable(path: Path, *marks: str) -> None:
    """Raise `InputError` for a file that negrefine has not written: one without all its `marks`."""
    if not path.exists():
        return
    content = path.read_bytes() if path.is_file() else None
    if content is None or (content and not all(mark.encode() in content for mark in marks)):
        raise InputError(
            f"{str(path)!r} exists and is not what negrefine writes there: move it away, or choose "
            "another place."
        )


def _writer(target: Path) -> Callable[[pa.Table, BinaryIO], object]:
    """Return the function that writes a table in the format of a suffix."""
    writers: dict[str, Callable[[pa.Table, BinaryIO], object]] = {
        ".csv": _write_csv,
        ".parquet": _write_parquet,
        ".jsonl": _write_json_lines,
    }
    if target.suffix.lower() not in writers:
        raise InputError(
            f"The format of {str(target)!r} is unknown: end the name in .parquet, .csv or .jsonl."
        )
    return writers[target.suffix.lower()]


def _columns(target: Path) -> list[str] | None:
    """Return the columns of a table, none if it is another file, or None if there is no content."""
    try:
        if target.stat().st_size == 0 or target.is_dir():
            return None
        if target.suffix.lower() == ".parquet":
            return _parquet_columns(target)
        with target.open(encoding="utf-8", newline="") as lines:
            if target.suffix.lower() == ".csv":
                return next(csv.reader(lines), [])
            row = parse_json(lines.readline(_LINE_CHARACTERS))
            return list(row) if isinstance(row, dict) else []
    except FileNotFoundError:
        return None
    # csv.Error and text that is not UTF-8 or JSON: all other files.
    except (ValueError, csv.Error):
        return []


def _parquet_columns(target: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet

    with target.open("rb") as stream:
        try:
            return list(pyarrow.parquet.read_schema(stream).names)
        except pa.ArrowException as error:
            raise ValueError(str(error)) from error


def _write_parquet(table: pa.Table, stream: BinaryIO) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(table, stream)


def _write_csv(table: pa.Table, stream: BinaryIO) -> None:
    """Write what a command prints: quotes only where a cell needs them, Python's digits."""
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    for row in (table.column_names, *rows):
        stream.write(",".join(map(_csv_cell, row)).encode() + b"\n")


def _csv_cell(value: str | float | None) -> str:
    if not isinstance(value, str):
        return "" if value is None else repr(value)
    text = table_cell(value)
    # csv.writer leaves a "\r" without quotes before Python 3.13, and readers end the row there.
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text


def _write_json_lines(table: pa.Table, stream: BinaryIO) -> None:
    stream.writelines(f"{json.dumps(row)}\n".encode() for row in table.to_pylist())
