"""The mark of a directory that images were sorted into: what was placed there, line by line."""

from __future__ import annotations

import json
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TextIO

from negrefine.errors import InputError
from negrefine.files.regular import open_regular
from negrefine.files.writing import write_text

MARK = ".negrefine-sorted"
_HEADER = '{"negrefine": "images sorted by negrefine score", "version": 1}\n'


@dataclass(frozen=True, slots=True)
class Placed:
    """A folder, link or copy that was made, or was about to be made.

    Attributes:
        place: Path below the directory, with "/".
        link: What a symbolic link holds; None for folders and copies.
        size: Of a copy, in bytes; None for folders and links.
        mtime: Of a copy, its time of modification in nanoseconds.
    """

    place: str
    link: str | None = None
    size: int | None = None
    mtime: int | None = None

    @property
    def is_folder(self) -> bool:
        """Whether it is neither link nor copy."""
        return self.link is None and self.size is None

    def is_unchanged(self, path: Path) -> bool:
        """Return whether `path` still is the link or copy that was made."""
        status = path.lstat()
        if self.link is not None:
            return stat.S_ISLNK(status.st_mode) and os.readlink(path) == self.link  # noqa: PTH115
        same = (status.st_size, status.st_mtime_ns) == (self.size, self.mtime)
        return stat.S_ISREG(status.st_mode) and same


def is_marked(directory: Path) -> bool:
    """Return whether images were sorted into a directory before."""
    try:
        with open_regular(directory / MARK) as stream:
            return stream.read(len(_HEADER)) == _HEADER.encode()
    except OSError:
        return False


class Mark:
    """The mark of a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stream: TextIO | None = None

    def begin(self) -> None:
        """Mark a directory; one that is marked stays as it is."""
        if not is_marked(self._directory):
            write_text(self._directory / MARK, _HEADER)

    def add(self, placed: Placed) -> None:
        """Note what will be made next, so that it is known if the process is killed."""
        assert self._stream is not None  # noqa: S101 - within `adding`
        self._stream.write(_line(placed))
        self._stream.flush()

    @contextmanager
    def adding(self) -> Iterator[None]:
        """Within this context, `add` and `make_folder` work."""
        with (self._directory / MARK).open("a", encoding="utf-8") as self._stream:
            yield

    def make_folder(self, name: str) -> list[str]:
        """Make a folder unless it is there, and return the names in it.

        Raises InputError for something else of this name, or a link to a folder, in which nothing
        is written or removed.
        """
        folder = self._directory / name
        if not os.path.lexists(folder):
            self.add(Placed(name))
            folder.mkdir()
            return []
        if not _is_real_folder(folder):
            raise InputError(f"{str(folder)!r} is no folder: move it away, or name another place.")
        return os.listdir(folder)  # noqa: PTH208 - names are enough

    def remove_placed(self) -> int:
        """Remove what was placed and is unchanged; return the number of files that have changed.

        Folders that hold other files stay.
        """
        entries = self._read()
        n_kept = 0
        places: dict[str, list[Placed]] = {}
        for each in entries:
            if not each.is_folder:
                places.setdefault(each.place, []).append(each)
        for place, files in places.items():
            path = self._directory / place
            if not _is_real_folder(path.parent) or not os.path.lexists(path):
                continue
            if any(each.is_unchanged(path) for each in files):
                path.unlink()
            else:
                n_kept += 1
        folders = {each.place: each for each in entries if each.is_folder}
        for name in folders:
            if _is_real_folder(self._directory / name):
                # It holds files of others.
                with suppress(OSError):
                    (self._directory / name).rmdir()
        left = [each for name, each in folders.items() if _is_real_folder(self._directory / name)]
        write_text(self._directory / MARK, "".join([_HEADER, *map(_line, left)]))
        return n_kept

    def _read(self) -> list[Placed]:
        with open_regular(self._directory / MARK) as stream:
            _, *lines = stream.read().split(b"\n")
        # A killed process leaves at most one unfinished line, of what it has not made yet.
        *lines, _ = lines or [b""]
        entries = [_entry(line) for line in lines]
        if n_bad := entries.count(None):
            warnings.warn(
                f"Lines of {str(self._directory / MARK)!r} that name nothing that was placed: "
                f"{n_bad}; if they stood for files, these are left there.",
                stacklevel=4,
            )
        return [each for each in entries if each is not None]


def _line(placed: Placed) -> str:
    content = {name: value for name, value in asdict(placed).items() if value is not None}
    return json.dumps(content) + "\n"


def _entry(line: bytes) -> Placed | None:
    """Return what a line names, None for one that is damaged or names what was never placed."""
    with suppress(ValueError, RecursionError, TypeError):
        placed = Placed(**json.loads(line))
        kinds = [(placed.place, str), (placed.link, str), (placed.size, int), (placed.mtime, int)]
        if not all(isinstance(value, kind) or value is None for value, kind in kinds):
            return None
        parts = PurePosixPath(placed.place).parts
        depth = 1 if placed.is_folder else 2
        strange = ".." in parts or set(placed.place) & set("\0\\:")
        if len(parts) == depth and parts[0] != "/" and not strange:
            return placed
    return None


def _is_real_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except OSError:
        return False
