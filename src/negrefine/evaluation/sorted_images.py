"""Image files sorted into a folder for each class, by links or copies: `sort_images`.

A mark in the directory lists each folder, link and copy before it is made. What is sorted anew
replaces exactly that, as far as it is still what was made; a killed run is completed by the next.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from negrefine.errors import InputError
from negrefine.evaluation.scored_image import ScoredImage
from negrefine.evaluation.sorted_mark import MARK, Mark, Placed, is_marked
from negrefine.files.lock import lock_directory
from negrefine.files.regular import open_regular
from negrefine.files.safe_names import FreeNames, safe_name
from negrefine.files.scratch_folder import scratch_folder
from negrefine.files.writing import check_target, naming, write_rows
from negrefine.progress import progress_bar
from negrefine.shown_text import restored

NONE, UNREADABLE, TABLE = "none", "unreadable", "sorted.csv"
_COLUMNS = {"source": "string", "place": "string", "verdict": "string", "class": "string"}
_OURS = ".negrefine-"
_BLOCK = 1 << 20

By = Literal["link", "copy"]


@dataclass(frozen=True, slots=True)
class SortReport:
    """How many images are in each folder, and how many could not be placed, with the first reason.

    `n_kept` counts what an earlier run had placed and was changed since, which is left alone.
    """

    counts: Counter[str]
    n_failed: int
    reason: str
    n_kept: int


def sort_images(
    rows: Sequence[ScoredImage],
    directory: Path,
    class_names: Sequence[str],
    *,
    by: By = "link",
    progress: bool = False,
) -> SortReport:
    """Place each image in the folder of its class, flagged ones in none/, others in unreadable/.

    `sorted.csv` lists source, place, verdict and nearest class of each row; it is written last. The
    images themselves are never changed. Links are symbolic and hold absolute paths, so they survive
    that the directory is moved. A class has the same folder whichever images there are.

    Args:
        rows: From `score_files`, of a detector with a threshold.
        directory: New, empty, or sorted into before: then what was placed there is replaced, except
            what was changed since, with a warning. Files of others in it are left alone.
        class_names: All of the detector.
        by: "link" or "copy".
        progress: Show a progress bar.

    Raises:
        InputError: The directory holds other files or is used by another process, nothing can be
            written there, it holds one of the images, or a row has neither verdict nor error.
    """
    check_directory(directory)
    check_sources(directory, [Path(restored(row.path)) for row in rows])
    scored = [row for row in rows if row.error is None]
    strange = {row.nearest_class for row in scored} - {*class_names}
    if strange:
        raise InputError(f"There are images of {min(map(str, strange))!r}, which is no class name.")
    if any(row.verdict is None for row in scored):
        raise InputError(
            "Images are sorted by verdict, and the detector has no threshold: call "
            "calibrate(id_images, fpr=0.05) before they are scored."
        )
    claim_directory(directory, by)
    with naming(directory), _locked(directory):
        mark = Mark(directory)
        n_kept = mark.remove_placed()
        if n_kept:
            warnings.warn(
                f"{n_kept} of the files that were placed in {str(directory)!r} before have changed "
                "since; they are left there.",
                stacklevel=2,
            )
        (directory / TABLE).unlink(missing_ok=True)
        with mark.adding(), scratch_folder(directory / MARK) as scratch:
            place = _Placing(directory, mark, scratch, by)
            folders = folder_names(class_names)
            table = []
            with progress_bar("Sorting images", len(rows), enabled=progress) as advance:
                for row in rows:
                    where = place(Path(restored(row.path)), _folder_of(row, folders))
                    kind = {"verdict": row.verdict, "class": row.nearest_class}
                    table.append({"source": row.path, "place": where, **kind})
                    advance(1)
        write_rows(directory / TABLE, table, _COLUMNS)
    if place.n_failed:
        warnings.warn(
            f"{place.n_failed} of {len(rows)} images could not be placed in {str(directory)!r}; "
            f"the first: {place.reason}.",
            stacklevel=2,
        )
    return SortReport(place.counts, place.n_failed, place.reason, n_kept)


def folder_names(class_names: Sequence[str]) -> dict[str, str]:
    """Return a folder name for each class, all different on any file system.

    Names that are safe as they are come first, so that no other class takes them.
    """
    special = FreeNames((NONE, UNREADABLE, TABLE))
    free = FreeNames((NONE, UNREADABLE, TABLE))
    names = {
        name: free.take(name)
        for name in class_names
        if safe_name(name) == name and name not in free
    }
    for name in class_names:
        if name not in names:
            base = safe_name(name)
            base = f"{base} (class)" if base in special else base
            names[name] = free.take(base, is_file=False)
    return names


def check_directory(directory: Path) -> None:
    """Raise InputError unless a directory is new, empty, or was sorted into before."""
    with naming(directory):
        try:
            names = sorted(os.listdir(directory))  # noqa: PTH208 - names are enough
        except FileNotFoundError:
            return
        others = [name for name in names if not name.startswith(_OURS)]
        if others and not is_marked(directory):
            raise InputError(
                f"{str(directory)!r} holds other files, such as {others[0]!r}: name a new or empty "
                "folder to sort images into, or one that was sorted into before."
            )
    check_target(directory / TABLE, _COLUMNS)


def check_sources(directory: Path, paths: Sequence[Path]) -> None:
    """Raise InputError if an image lies in the directory whose files are replaced."""
    root = Path(os.path.realpath(directory))
    for folder in {path.parent for path in paths}:
        real = Path(os.path.realpath(folder))
        if real == root or root in real.parents:
            inside = next(path for path in paths if path.parent == folder)
            raise InputError(
                f"{str(inside)!r} lies in {str(directory)!r}, where sorting replaces files: name "
                "the image where it came from, or another folder to sort into."
            )


def claim_directory(directory: Path, by: By) -> None:
    """Make and mark a directory that `check_directory` allows, or raise InputError."""
    if by not in {"link", "copy"}:
        raise InputError(f"Images are sorted by 'link' or 'copy', not by {by!r}.")
    with naming(directory):
        directory.mkdir(parents=True, exist_ok=True)
        # Another process may be about to mark it, and to list what it places.
        with _locked(directory):
            Mark(directory).begin()
        if by == "link":
            with scratch_folder(directory / MARK) as scratch:
                try:
                    (scratch / "link").symlink_to("nowhere")
                except (OSError, NotImplementedError) as error:
                    raise InputError(
                        f"Links cannot be made in {str(directory)!r} ({error}): copy the images "
                        "instead (--sort-by copy)."
                    ) from error


def _folder_of(row: ScoredImage, folders: dict[str, str]) -> str:
    if row.nearest_class is None:
        return UNREADABLE
    return NONE if row.verdict == "OOD" else folders[row.nearest_class]


class _Placing:
    """Places images, and counts them by folder."""

    def __init__(self, directory: Path, mark: Mark, scratch: Path, by: By) -> None:
        self._directory, self._mark, self._scratch, self._by = directory, mark, scratch, by
        self._names: dict[str, FreeNames] = {}
        self.counts: Counter[str] = Counter()
        self.n_failed, self.reason = 0, ""

    def __call__(self, source: Path, folder: str) -> str | None:
        """Place an image; return where, below the directory, or None if it cannot be read."""
        try:
            if self._by == "link":
                with _of_source():
                    source.lstat()
            else:
                self._copy(source)
        except _SourceError as error:
            self.n_failed += 1
            self.reason = self.reason or f"{source}: {error}"
            return None
        if folder not in self._names:
            self._names[folder] = FreeNames(self._mark.make_folder(folder))
        while True:
            name = self._names[folder].take(safe_name(source.name))
            # The name may have been taken a moment ago.
            with suppress(FileExistsError):
                self._put(source, folder, name)
                break
        self.counts[folder] += 1
        return f"{folder}/{name}"

    def _copy(self, source: Path) -> None:
        with _of_source():
            stream = open_regular(source)
        copy = self._scratch / "copy"
        with stream, copy.open("wb") as written:
            status = os.fstat(stream.fileno())
            while block := _read_block(stream):
                written.write(block)
        os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _put(self, source: Path, folder: str, name: str) -> None:
        target = self._directory / folder / name
        if self._by == "link":
            link = _absolute(source)
            self._mark.add(Placed(f"{folder}/{name}", link=link))
            target.symlink_to(link)
            return
        copy = self._scratch / "copy"
        status = copy.stat()
        self._mark.add(Placed(f"{folder}/{name}", size=status.st_size, mtime=status.st_mtime_ns))
        try:
            # Unlike a renaming, this replaces nothing.
            os.link(copy, target)
            copy.unlink()
        except FileExistsError:
            raise
        except OSError:
            if os.path.lexists(target):
                raise FileExistsError(target) from None
            copy.rename(target)


class _SourceError(Exception):
    """An image cannot be read, as opposed to its copy that cannot be written."""


@contextmanager
def _of_source() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _SourceError(error.strerror or str(error)) from error


def _read_block(stream: IO[bytes]) -> bytes:
    with _of_source():
        return stream.read(_BLOCK)


def _absolute(source: Path) -> str:
    """Return the absolute path of an image, without ".." unless it leads through a link."""
    path = os.path.abspath(source)  # noqa: PTH100 - resolve() follows links
    with suppress(OSError):
        if os.path.samefile(os.path.dirname(path), source.parent):  # noqa: PTH120, PTH121
            return path
    return str(Path.cwd() / source)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    try:
        with lock_directory(directory, wait=0):
            yield
    except TimeoutError as error:
        raise InputError(
            f"Another process sorts images into {str(directory)!r}: wait for it, or name another "
            "folder."
        ) from error
