"""Rows that `negrefine score` has written, one after another, from files and streams."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from negrefine.errors import InputError
from negrefine.files.reading import parse_json, reason
from negrefine.files.records import short_repr
from negrefine.files.regular import open_regular
from negrefine.shown_text import printed_cell, table_cell

SUFFIXES = (".jsonl", ".csv", ".parquet")
_LINE_BYTES = 1 << 20
_COLUMNS = ("path", "p_value", "verdict", "nearest_class", "error")
_VERDICTS = {"ID": False, "OOD": True}


@dataclass(frozen=True, slots=True)
class ResultRow:
    """What a monitor takes from a row of results.

    Attributes:
        path: The image.
        p_value: Its p-value, None if it could not be read.
        flagged: Whether its verdict is OOD; None if it could not be read.
        nearest_class: The name of its nearest class; None if it is not in the row.
        error: Why the image could not be read.
    """

    path: str | None
    p_value: float | None
    flagged: bool | None
    nearest_class: str | None
    error: str | None

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> ResultRow:
        """Take a row; ValueError whose text is a clause if it is none of `negrefine score`."""
        row: dict[str, Any] = {name: content.get(name) for name in _COLUMNS}
        for name in ("path", "verdict", "nearest_class", "error"):
            if row[name] is not None and not isinstance(row[name], str):
                raise ValueError(f"its {name} is {short_repr(row[name])}, not a text")
        path, name, error = row["path"], row["nearest_class"], row["error"]
        if error is not None:
            return cls(path, None, None, name, error)
        p, verdict = row["p_value"], row["verdict"]
        if p is None:
            raise ValueError(
                "it has neither a p_value nor an error: calibrate the detector, score the images "
                "again, and give what 'negrefine score' wrote"
            )
        if isinstance(p, bool) or not isinstance(p, (int, float)):
            raise ValueError(f"its p_value is {short_repr(p)}, not a number")
        if verdict not in _VERDICTS:
            raise ValueError(f"its verdict is {short_repr(verdict)}, not 'ID' or 'OOD'")
        return cls(path, float(p), _VERDICTS[verdict], name, None)

    def chained(self, digest: str) -> str:
        """Return a SHA-256 (hex) of this row and of a digest of all before it."""
        values = [digest, self.path, self.p_value, self.flagged, self.nearest_class, self.error]
        return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def check_results_path(path: str) -> None:
    """Raise InputError for a file of another kind than results of `negrefine score`."""
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(
            f"{path!r} is no file of results: give what 'negrefine score --out' wrote, with a name "
            "in .jsonl, .csv or .parquet, or '-' for JSON lines on standard input."
        )


def read_result_rows(
    path: str | os.PathLike[str], class_names: Iterable[str]
) -> Iterator[ResultRow]:
    """Yield the rows of a .jsonl, .csv or .parquet file, up to an unfinished last line.

    A CSV file has some class names in another spelling (docs/names.md), which `class_names` undo.

    Raises:
        InputError: The file cannot be read, or holds something else; it names file and row.
    """
    file = Path(path)
    read = {".jsonl": _json_rows, ".csv": _csv_rows, ".parquet": _parquet_rows}[file.suffix.lower()]
    number = 0
    try:
        with open_regular(file) as stream:
            for number, row in enumerate(read(stream, class_names), 1):  # noqa: B007
                yield row
    except (OSError, ValueError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{str(path)!r} cannot be read as results after row {number}: {reason(error)}."
        ) from error


def read_stream_rows(stream: IO[bytes]) -> Iterator[ResultRow]:
    """Yield the rows of JSON lines as they come.

    Raises:
        InputError: A line is no row.
    """
    number = 0
    try:
        for number, row in enumerate(_json_rows(stream, (), whole=True), 1):  # noqa: B007
            yield row
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"Standard input, after row {number}: {reason(error)}.") from error


def _lines(stream: IO[bytes], *, whole: bool = False) -> Iterator[bytes]:
    """Yield lines; a last one without its end is left for when it is finished, unless `whole`."""
    while line := stream.readline(_LINE_BYTES + 1):
        if len(line) > _LINE_BYTES:
            raise ValueError(f"a line is longer than {_LINE_BYTES >> 20} MiB")
        if whole or line.endswith(b"\n"):
            yield line
        else:
            _warn_unfinished()


def _warn_unfinished() -> None:
    warnings.warn(
        "The last line of a file of results is unfinished and was left for the next time.",
        stacklevel=2,
    )


def _json_rows(
    stream: IO[bytes], class_names: Iterable[str], *, whole: bool = False
) -> Iterator[ResultRow]:
    del class_names
    for line in _lines(stream, whole=whole):
        if line.strip():
            content = parse_json(line)
            if not isinstance(content, dict):
                raise ValueError(f"a row is {short_repr(content)}, not an object")
            yield ResultRow.of(content)


def _csv_rows(stream: IO[bytes], class_names: Iterable[str]) -> Iterator[ResultRow]:
    spelled = {
        spelling(name): name for spelling in (printed_cell, table_cell) for name in class_names
    }
    reader = csv.DictReader(_texts(stream), strict=True)
    if any("p_value" in name and name != "p_value" for name in reader.fieldnames or ()):
        raise ValueError("its columns are not separated by commas; save it with commas")
    if reader.fieldnames is not None and "p_value" not in reader.fieldnames:
        raise ValueError(
            "it has no column p_value: calibrate the detector, score the images again, and give "
            "what 'negrefine score' wrote"
        )
    try:
        for cells in reader:
            if None in cells or None in cells.values():
                raise ValueError("a row has more or fewer cells than there are columns")
            content: dict[str, Any] = {name: cells.get(name) or None for name in _COLUMNS}
            if content["p_value"] is not None:
                content["p_value"] = _number(content["p_value"])
            name = content["nearest_class"]
            content["nearest_class"] = spelled.get(name, name)
            yield ResultRow.of(content)
    except csv.Error as error:
        # The end of a cell that is still being written.
        if "unexpected end of data" not in str(error):
            raise
        _warn_unfinished()


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"its p_value is {short_repr(text)}, not a number") from None


def _texts(stream: IO[bytes]) -> Iterator[str]:
    for number, line in enumerate(_lines(stream)):
        yield line.decode("utf-8" if number else "utf-8-sig")


def _parquet_rows(stream: IO[bytes], class_names: Iterable[str]) -> Iterator[ResultRow]:
    del class_names
    import pyarrow as pa
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(stream)
        columns = [name for name in _COLUMNS if name in table.schema_arrow.names]
        for batch in table.iter_batches(1024, columns=columns):
            for content in batch.to_pylist():
                yield ResultRow.of(content)
    except pa.ArrowException as error:
        raise ValueError(f"it is no Parquet table ({str(error).splitlines()[0][:200]})") from error
