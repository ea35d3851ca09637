"""Files of this machine as shards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from negrefine.files.identity import file_stamp
from negrefine.sources.base import NamedImage

MOST_FILES = 1000
"""Files in a shard."""


@dataclass(frozen=True)
class FilesShard:
    """Image files of this machine, at most `MOST_FILES`; they are read when they are used."""

    paths: tuple[str, ...]

    @property
    def name(self) -> str:
        """The first file."""
        return self.paths[0]

    def identity(self) -> str:
        """Return a digest of the files' paths, sizes and times."""
        stamps = [file_stamp(Path(path)) for path in self.paths]
        return digest(*stamps)

    def __iter__(self) -> Iterator[NamedImage]:
        """Name the files; a missing one is an error when it is read."""
        for path in self.paths:
            yield NamedImage(path, Path(path), file_stamp(Path(path)))


def files_shards(paths: Sequence[Path]) -> list[FilesShard]:
    """Return shards of image files, in order."""
    return [
        FilesShard(tuple(map(str, paths[start : start + MOST_FILES])))
        for start in range(0, len(paths), MOST_FILES)
    ]


def local_paths(shards: Iterable[object]) -> list[Path] | None:
    """Return the image files of shards, None if not all are files of this machine."""
    paths: list[Path] = []
    for shard in shards:
        if not isinstance(shard, FilesShard):
            return None
        paths += map(Path, shard.paths)
    return paths


def digest(*texts: str) -> str:
    """Return the SHA-256 (hex) of texts."""
    whole = hashlib.sha256()
    for text in texts:
        # Names of files may hold any byte, but no NUL.
        whole.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return whole.hexdigest()
