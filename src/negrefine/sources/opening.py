"""From what a user names to shards: `open_sources`."""

from __future__ import annotations

import glob
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from negrefine.encoders.image_files import (
    expanded,
    find_images_of_each,
    has_image_extension,
    kinds_text,
)
from negrefine.errors import InputError
from negrefine.shown_text import visible
from negrefine.sources import remote, table, tar, zip_archive
from negrefine.sources.base import Shard
from negrefine.sources.files import FilesShard, files_shards
from negrefine.sources.lists import StdinShard, open_list
from negrefine.sources.table import TableShard, saved_dataset_files
from negrefine.sources.tar import TarShard
from negrefine.sources.urls import expand_braces, is_url, mask_error, path_of, shown
from negrefine.sources.web_images import UrlsShard, urls_shards
from negrefine.sources.zip_archive import ZipShard

_SHARDS = (*tar.SUFFIXES, *table.SUFFIXES, zip_archive.SUFFIX)

Source = str | os.PathLike[str]


def open_sources(
    sources: Source | Sequence[Source], *, image_column: str | None = None
) -> list[Shard]:
    """Return the shards of everything that is named, in the order given.

    Args:
        sources: One of these or several:

            - image files, folders and patterns of this machine, as for `find_images`;
            - URLs that fsspec reads ("s3://", "https://", "hf://", "zip://MEMBER::ARCHIVE"): an
              image, a folder, or a pattern with `*`;
            - tar archives (.tar, .tar.gz, .tgz), such as shards of WebDataset, zip archives (.zip)
              and tables (.parquet, .arrow), as paths, URLs or patterns of these;
            - the folder of a Hugging Face dataset that was saved to disk;
            - "@list.txt", a file with an image, archive or table on each line, by path (relative to
              the list's folder) or URL; empty lines and those that begin with "#" are skipped;
            - "-", standard input with such lines, which are read while images are scored.

            "{000..012}" stands for the numbers from 000 to 012 where nothing has just this name.
        image_column: The column with the images of tables; None: the only one that can be it.

    Nothing but folders, patterns, lists and the columns of tables is looked at before the shards
    are read. Files that are found and are no images are left out, with one warning.

    Raises:
        InputError: Nothing is named, something is missing or cannot be listed, a folder or pattern
            gives no image, or a table has no such column or several that could be it.
    """
    given = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    if not given:
        raise InputError("No image is named; give image files, folders or patterns.")
    remote.forget_archives()
    found: list[list[Shard] | str] = []
    left_out: Counter[str] = Counter()
    for each in given:
        if not isinstance(each, (str, os.PathLike)):
            raise InputError(
                f"Images are found by paths, URLs or patterns, not by {type(each).__name__}; give "
                "their names."
            )
        found += [_open(text, image_column, left_out) for text in _names(os.fspath(each))]
    check_stdin_once(given)
    # Together, so that a file that is named twice counts once and one warning counts the others.
    names = [item for item in found if isinstance(item, str)]
    local = iter(find_images_of_each(names) if names else ())
    shards: list[Shard] = []
    for item in found:
        shards += files_shards(next(local)) if isinstance(item, str) else item
    if image_column is not None and not any(
        isinstance(shard, (TableShard, StdinShard)) for shard in shards
    ):
        warnings.warn(
            f"{_shown(given)}: no table is there, so the column {image_column!r} has no effect.",
            stacklevel=2,
        )
    if n := left_out.total():
        were = "file was" if n == 1 else "files were"
        warnings.warn(
            f"{n} other {were} left out elsewhere ({kinds_text(left_out.elements())}).",
            stacklevel=2,
        )
    return _merged(shards)


def check_stdin_once(*named: Sequence[Source]) -> None:
    """Raise InputError if standard input is named more than once in one or several sources."""
    if sum(list(each).count("-") for each in named) > 1:
        raise InputError("Standard input ('-') is named twice, and it can be read once.")


def is_local(text: str) -> bool:
    """Return whether a name is that of image files, folders or patterns of this machine."""
    path = expanded(text)
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a parent is not readable
        return not any(Path(path, name).is_file() for name in ("state.json", "dataset_dict.json"))
    if path.lower().endswith(_SHARDS):
        return False
    is_other = text == "-" or text.startswith("@") or is_url(text) or expand_braces(text) != [text]
    return os.path.lexists(path) or not is_other


def _shown(given: Sequence[Source]) -> str:
    """Return what is named for a sentence, without secrets."""
    texts = [os.fspath(each) for each in given]
    names = [shown(name) if is_url(name) else name for name in texts]
    return visible(names[0]) + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _merged(shards: Sequence[Shard]) -> list[Shard]:
    """Return as few shards as hold the same images, so that batches are full."""
    merged: list[Shard] = []
    for kind, group in groupby(shards, type):
        same: list[Any] = list(group)
        if kind is FilesShard:
            merged += files_shards([Path(path) for each in same for path in each.paths])
        elif kind is UrlsShard:
            merged += urls_shards([pair for each in same for pair in each.with_states()])
        else:
            merged += same
    return merged


def _names(text: str) -> list[str]:
    return [text] if os.path.lexists(expanded(text)) else expand_braces(text)


def _open(text: str, image_column: str | None, left_out: Counter[str]) -> list[Shard] | str:
    """Return the shards of one name, or the name itself if `find_images` is to look for it."""
    if text == "-":
        return [StdinShard(image_column)]
    path = expanded(text)
    if os.path.lexists(path):
        return _open_path(path, image_column)
    if text.startswith("@"):
        return open_list(expanded(text[1:]), image_column)
    if is_url(text):
        return _open_url(text, image_column, left_out)
    if glob.has_magic(path) and path.lower().endswith(_SHARDS):
        return _open_pattern(path, image_column)
    return path


def _open_pattern(pattern: str, image_column: str | None) -> list[Shard]:
    """Return the shards of a pattern of archives or tables of this machine."""
    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207 - Path.glob refuses absolute ones
    if not matches:
        raise InputError(f"{pattern}: the pattern matches no file; check it.")
    files = sorted(matches, key=lambda name: Path(name).parts)
    if pattern.lower().endswith(table.SUFFIXES):
        return _tables(files, image_column)
    return [shard for file in files for shard in _open_archive(file)]


def _open_path(path: str, image_column: str | None) -> list[Shard] | str:
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises where a parent is not readable
        files = saved_dataset_files(path)
        return path if files is None else _tables(files, image_column)
    if path.lower().endswith(table.SUFFIXES):
        return _tables([path], image_column)
    return _open_archive(path) or path


def _open_archive(path: str) -> list[Shard]:
    """Return the shards of a tar or zip archive of this machine, none for another file."""
    if path.lower().endswith(tar.SUFFIXES):
        return [TarShard(path)]
    return [ZipShard(path)] if path.lower().endswith(zip_archive.SUFFIX) else []


def _tables(locations: Sequence[str], image_column: str | None) -> list[Shard]:
    column = table.check_column(locations[0], image_column)
    return [TableShard(location, column) for location in locations]


def _open_url(url: str, image_column: str | None, left_out: Counter[str]) -> list[Shard]:
    remote.check_protocols(url)
    path = path_of(url).lower()
    try:
        if remote.has_magic(url):
            return _found(url, image_column, left_out, "the pattern matches no image; check it")
        if path.endswith(tar.SUFFIXES):
            return [TarShard(url)]
        if path.endswith(zip_archive.SUFFIX):
            return [ZipShard(url)]
        if path.endswith(table.SUFFIXES):
            return _tables([url], image_column)
        if not has_image_extension(path) and remote.is_folder(url):
            problem = "no image is listed there; check the address and the connection"
            return _found(url, image_column, left_out, problem)
    except InputError:
        raise
    # Servers and their libraries raise whatever they like.
    except Exception as error:
        raise InputError(
            f"{shown(url)}: cannot be listed ({mask_error(url, error)}); check the address and the "
            "connection."
        ) from error
    return list(urls_shards([(url, "")]))


def _found(url: str, image_column: str | None, left_out: Counter[str], problem: str) -> list[Shard]:
    """Return the images in a folder or matching a pattern; a pattern may also match shards."""
    pattern = path_of(url).lower()
    if pattern.endswith(_SHARDS):
        found = remote.find_urls(url, lambda name: name.lower().endswith(_SHARDS), left_out)
        if not found:
            raise InputError(f"{shown(url)}: the pattern matches no file; check it.")
        urls = [each for each, _ in found]
        if pattern.endswith(tar.SUFFIXES):
            return [TarShard(each) for each in urls]
        if pattern.endswith(zip_archive.SUFFIX):
            return [ZipShard(each) for each in urls]
        return _tables(urls, image_column)
    others: Counter[str] = Counter()
    found = remote.find_urls(url, has_image_extension, others)
    if not found:
        only = f" (only {kinds_text(others.elements())})" if others else ""
        raise InputError(f"{shown(url)}: {problem}{only}.")
    left_out.update(others)
    return list(urls_shards(found))
