"""Tables with a column of images as shards: Parquet, Arrow, and datasets saved by Hugging Face."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from negrefine.errors import ImageError, InputError, one_of
from negrefine.files.reading import read_json, reason
from negrefine.sources.base import NamedImage
from negrefine.sources.bounded import NamedBytes, check_size
from negrefine.sources.files import digest
from negrefine.sources.locations import identity_of, open_location, shard_error, shown_location
from negrefine.sources.urls import is_elsewhere, is_url, path_of
from negrefine.sources.web_images import RemoteImage

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".parquet", ".arrow")

_ROWS = 32
_ARROW_FILE = b"ARROW1"
_ARROW_END = b"\xff\xff\xff\xff\0\0\0\0"


@dataclass(frozen=True)
class TableShard:
    """The images in a column of a Parquet or Arrow file, of this machine or at a URL.

    A cell is the bytes of an image file, a path or URL, or a record of `bytes` and `path`, as
    Hugging Face stores images. Paths are relative to the folder of the table. Names are
    "table.parquet/17", with the number of the row from 0.
    """

    location: str = field(repr=False)
    column: str | None = None

    @property
    def name(self) -> str:
        """The path or URL of the table, without secrets."""
        return shown_location(self.location)

    def identity(self) -> str:
        """Return a digest of the location and state of the table, and of the column."""
        identity = identity_of(self.location)
        return digest(identity, self.column or "") if identity else ""

    def __iter__(self) -> Iterator[NamedImage]:
        """Read the images in order; the last item is an error if the table ends early."""
        row = 0
        try:
            with open_location(self.location, streamed=False) as stream:
                for cells in _column(self.location, stream, self.column):
                    for cell in cells:
                        yield self._named(cell.as_py(), row)
                        row += 1
            if not row:
                yield NamedImage(self.name, ImageError(f"{self.name}: holds no image; check it."))
        # Decompressors, servers and their libraries raise whatever they like.
        except Exception as error:
            failed = error if isinstance(error, InputError) else None
            yield NamedImage(
                self.name,
                ImageError(str(failed)) if failed else shard_error(self.location, error, row),
            )

    def _named(self, value: Any, row: int) -> NamedImage:
        name = f"{self.name}/{row}"
        if isinstance(value, dict):
            content = value.get("bytes")
            value = value.get("path") if content is None else content
        try:
            if isinstance(value, bytes):
                check_size(len(value), name)
                return NamedImage(name, NamedBytes(value, name))
            if isinstance(value, str) and value:
                return NamedImage(name, self._image_at(value, name))
        except ImageError as error:
            return NamedImage(name, error)
        return NamedImage(name, ImageError(f"{name}: the cell holds no image; fill it."))

    def _image_at(self, path: str, name: str) -> Any:
        """Return what a table names; a table from elsewhere can name no file of this machine."""
        if is_url(self.location):
            folder = path_of(self.location).rpartition("/")[0]
            url = path if is_url(path) or Path(path).is_absolute() else f"{folder}/{path}"
            if not is_elsewhere(url):
                raise ImageError(
                    f"{name}: names a file of this machine, and the table comes from elsewhere; "
                    "copy the table here if you trust it."
                )
            return RemoteImage(url)
        if is_url(path):
            return RemoteImage(path)
        return Path(self.location).parent / path


def check_column(location: str, column: str | None) -> str | None:
    """Return the column with the images of a table.

    Raises InputError if there is no such column, or none or several that could be it. A table that
    cannot be read gives `column` back: it has an error row.
    """
    try:
        with open_location(location, streamed=False) as stream:
            return _image_column(_schema(location, stream), column, shown_location(location))
    except InputError:
        raise
    # Reading the table will say why.
    except Exception:
        return column


def saved_dataset_files(folder: str) -> list[str] | None:
    """Return the tables of a dataset that Hugging Face saved in a folder, None if it is no such.

    Raises InputError for a dataset with several splits, and one that is damaged.
    """
    root = Path(folder)
    if (root / "dataset_dict.json").is_file():
        splits = _json_list(root / "dataset_dict.json", "splits")
        if len(splits) == 1:
            return saved_dataset_files(str(root / splits[0]))
        raise InputError(
            f"{folder}: is a dataset of {len(splits)} splits; name the folder of one of them: "
            f"{one_of([str(root / split) for split in splits[:8]])}."
        )
    if not ((root / "state.json").is_file() and (root / "dataset_info.json").is_file()):
        return None
    return [str(root / name) for name in _json_list(root / "state.json", "_data_files")]


def _json_list(file: Path, key: str) -> list[str]:
    """Return names in the folder of a file, from a list in it of texts or of objects."""
    try:
        items = read_json(file)[key]
        names = [each["filename"] if isinstance(each, dict) else each for each in items]
        # They name files of this folder, and no others.
        if names and all(name and name == Path(name).name for name in names):
            return list(map(str, names))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read ({reason(error)}); save it again.") from error
    except (KeyError, TypeError):
        pass
    raise InputError(f"{file}: is not what Hugging Face writes; save the dataset again.")


def _column(location: str, stream: IO[bytes], wanted: str | None) -> Iterator[Any]:
    """Yield the cells of a column in parts."""
    import pyarrow as pa
    import pyarrow.ipc
    import pyarrow.parquet

    name = shown_location(location)
    if _is_parquet(location):
        # Pages are read as they are needed, not whole row groups.
        file = pyarrow.parquet.ParquetFile(stream, pre_buffer=False, buffer_size=1 << 20)
        column = _image_column(file.schema_arrow, wanted, name)
        # One after the other, so that damage to one costs no rows of those before it.
        for group in range(file.num_row_groups):
            for batch in file.iter_batches(_ROWS, row_groups=[group], columns=[column]):
                yield batch.column(column)
        return
    reader = _arrow_reader(stream)
    column = _image_column(reader.schema, wanted, name)
    if isinstance(reader, pa.ipc.RecordBatchFileReader):
        batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
    else:
        batches = iter(reader)
    for batch in batches:
        batch.validate(full=True)
        yield batch.column(column)
    if isinstance(reader, pa.ipc.RecordBatchStreamReader):
        stream.seek(-len(_ARROW_END), os.SEEK_END)
        if stream.read() != _ARROW_END:
            raise ValueError("it has no mark of its end")


def _schema(location: str, stream: IO[bytes]) -> pa.Schema:
    import pyarrow.parquet

    if _is_parquet(location):
        schema: pa.Schema = pyarrow.parquet.read_schema(stream)
    else:
        schema = _arrow_reader(stream).schema
    return schema


def _arrow_reader(stream: IO[bytes]) -> Any:
    import pyarrow.ipc

    is_file = stream.read(len(_ARROW_FILE)) == _ARROW_FILE
    stream.seek(0)
    return pyarrow.ipc.open_file(stream) if is_file else pyarrow.ipc.open_stream(stream)


def _is_parquet(location: str) -> bool:
    return (path_of(location) if is_url(location) else location).lower().endswith(".parquet")


def _image_column(schema: pa.Schema, wanted: str | None, name: str) -> str:
    """Return the column that is wanted or, if none is, the only one that can hold images."""
    columns: dict[str, Any] = {each.name: each.type for each in schema}
    if wanted is not None:
        if wanted not in columns:
            raise InputError(
                f"{name}: has no column {wanted!r}, only {', '.join(map(repr, columns))[:500]}."
            )
        if not _may_hold_images(columns[wanted], paths=True):
            raise InputError(
                f"{name}: the column {wanted!r} holds {columns[wanted]}, and images are bytes, "
                "paths, or records of both; name another column."
            )
        return wanted
    declared = _declared(schema)
    fitting = [
        column
        for column, kind in columns.items()
        if column in declared or _may_hold_images(kind, paths=False)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        what = f"any of the columns {', '.join(map(repr, fitting))[:500]} may hold the images"
    else:
        what = f"none of the columns {', '.join(map(repr, columns))[:500]} holds bytes of images"
    raise InputError(f"{name}: {what}; name the one with the images (--image-column).")


def _declared(schema: pa.Schema) -> set[str]:
    """Return the columns that Hugging Face calls images."""
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        content = json.loads(schema.metadata[b"huggingface"])
        features = content["info"]["features"]
        return {str(column) for column, each in features.items() if each.get("_type") == "Image"}
    return set()


def _may_hold_images(kind: Any, *, paths: bool) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        names = {kind.field(i).name for i in range(kind.num_fields)}
        return bool(names) and names <= {"bytes", "path"}
    if types.is_binary(kind) or types.is_large_binary(kind):
        return True
    return paths and (types.is_string(kind) or types.is_large_string(kind))
