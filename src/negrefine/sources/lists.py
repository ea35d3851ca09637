"""Lists of images: files with a path or URL on each line, and standard input."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from negrefine.errors import ImageError, InputError
from negrefine.files.reading import TEXT_BYTES, reason
from negrefine.sources import table, tar, zip_archive
from negrefine.sources.base import NamedImage, Shard
from negrefine.sources.bounded import read_bounded
from negrefine.sources.files import files_shards
from negrefine.sources.locations import open_location
from negrefine.sources.table import TableShard
from negrefine.sources.tar import TarShard
from negrefine.sources.urls import is_elsewhere, is_url, mask_error, path_of, shown
from negrefine.sources.web_images import urls_shards
from negrefine.sources.zip_archive import ZipShard

# No path is longer.
_LINE_BYTES = 1 << 16
_BOM = b"\xef\xbb\xbf"


def open_list(location: str, image_column: str | None) -> list[Shard]:
    """Return the shards of what a list names: each line one image, archive or table.

    Nothing that is named is looked at, so a missing image costs one row. A list that is elsewhere
    can name no file of this machine.

    Raises:
        InputError: The list cannot be read, is not UTF-8, or is empty.
    """
    name = shown(location) if is_url(location) else location
    try:
        with open_location(location) as stream:
            content = read_bounded(stream, name, limit=TEXT_BYTES)
    except InputError:
        raise
    # Servers and their libraries raise whatever they like.
    except Exception as error:
        why = mask_error(location, error) if is_url(location) else reason(error)
        raise InputError(f"{name}: the list cannot be read ({why}); check it.") from error
    if b"\0" in content:
        raise InputError(
            f"{name}: is no list of names in UTF-8 (UTF-16, or no text); save it as UTF-8."
        )
    lines = content.removeprefix(_BOM).split(b"\n")
    places = []
    for number, line in enumerate(lines, 1):
        if text := _entry(line):
            place = _place(text, location)
            if is_url(location) and not is_elsewhere(place):
                raise InputError(
                    f"{name}: line {number} names a file of this machine, and the list comes from "
                    "elsewhere: copy the list here if you trust it."
                )
            places.append(place)
    if not places:
        raise InputError(f"{name}: the list names no image; check it.")
    return _shards(places, image_column)


@dataclass(frozen=True)
class StdinShard:
    """What the lines of standard input name, read as they come, once, and in this process only."""

    image_column: str | None = None

    @property
    def name(self) -> str:
        """Always the same."""
        return "standard input"

    def identity(self) -> str:
        """Return "": only files that are named have stamps."""
        return ""

    def __iter__(self) -> Iterator[NamedImage]:
        """Name each image, and read archives and tables, as soon as the line is there."""
        stream, number = sys.stdin.buffer, 0
        while line := stream.readline(_LINE_BYTES):
            number += 1
            if len(line) == _LINE_BYTES and not line.endswith(b"\n"):
                while not line.endswith(b"\n") and (line := stream.readline(_LINE_BYTES)):
                    pass
                name = f"{self.name}, line {number}"
                yield NamedImage(name, ImageError(f"{name}: is no path or URL, it is too long."))
                continue
            # Some programs on Windows begin what they print with it.
            if text := _entry(line.removeprefix(_BOM)):
                for shard in _shards([text], self.image_column):
                    yield from shard


def _entry(line: bytes) -> str:
    """Return what a line names, "" for nothing; names of files may be any bytes."""
    text = os.fsdecode(line.strip(b"\r\n\t "))
    return "" if text.startswith("#") else text


def _place(text: str, location: str) -> str:
    """Return a path or URL from a list as one that can be opened."""
    if is_url(text):
        return text
    if is_url(location):
        folder = path_of(location).rpartition("/")[0]
        return f"file://{text}" if Path(text).is_absolute() else f"{folder}/{text}"
    return os.path.join(os.path.dirname(location), os.path.expanduser(text))  # noqa: PTH111, PTH118, PTH120


def _shards(places: Sequence[str], image_column: str | None) -> list[Shard]:
    shards: list[Shard] = []
    for kind, group in groupby(places, _kind):
        same = list(group)
        if kind == "archive":
            shards += map(TarShard, same)
        elif kind == "zip":
            shards += map(ZipShard, same)
        elif kind == "table":
            shards += [TableShard(each, image_column) for each in same]
        elif kind == "url":
            shards += urls_shards([(each, "") for each in same])
        else:
            shards += files_shards([Path(each) for each in same])
    return shards


def _kind(place: str) -> str:
    path = (path_of(place) if is_url(place) else place).lower()
    if path.endswith(tar.SUFFIXES):
        return "archive"
    if path.endswith(zip_archive.SUFFIX):
        return "zip"
    if path.endswith(table.SUFFIXES):
        return "table"
    return "url" if is_url(place) else "file"
