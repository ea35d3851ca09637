"""Benchmarks as data: which images are in-distribution, which are not, where they come from."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from negrefine.errors import InputError


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which the files of a set are known to lie below a data root.

    Attributes:
        path: Folder of the images, relative to the root.
        labels: Where true classes come from: "wnid" (sub-folders named by WordNet id), "index"
            (by class number), "names" (by class name), "prefix" (file names that begin with the
            class name), "list" (lines "file number" in a text file; images it does not name are
            left out), "metadata" (columns img_filename and y of a CSV file) or "none".
        list: The text or CSV file, relative to the root.
        images: Number of images in this layout if it is not the set's.
    """

    path: str
    labels: str
    list: str | None = None
    images: int | None = None


@dataclass(frozen=True, slots=True)
class ImageSet:
    """A set of images.

    Attributes:
        name: Key in the catalogue.
        title: Its name in papers.
        classes: Name of its class list if it can be in-distribution.
        images: Number of images, None where it is not known.
        other_counts: Numbers that are right as well; `notes` say why.
        paper: Where it was published.
        source: Where it is to be had.
        get: What to do with what one gets there.
        license: Licence or terms, "unknown" where the sources used do not say.
        notes: What a reader of results must know.
        layouts: Tried in this order.
        contamination: How many images show an in-distribution class of ImageNet-1K, None if
            nobody says so.
        contaminated_percent: The same as a number, None where the share is not known.
        groups: Number of sub-folders over which the authors average.
        bundled: Folder of the package's own drawings that holds the set.
    """

    name: str
    title: str
    classes: str | None
    images: int | None
    other_counts: tuple[int, ...]
    paper: str
    source: str
    get: str
    license: str
    notes: tuple[str, ...]
    layouts: tuple[Layout, ...]
    contamination: str | None = None
    contaminated_percent: float | None = None
    groups: int | None = None
    bundled: str | None = None


@dataclass(frozen=True, slots=True)
class Benchmark:
    """An in-distribution set and the sets to tell it from.

    Attributes:
        name: Key in the catalogue.
        title: One line for people.
        id_set: The in-distribution images.
        ood_sets: The others, in table order.
        notes: What a reader of results must know.
        sketches: CSP and NegRefine were published with prompts for sketches.
    """

    name: str
    title: str
    id_set: ImageSet
    ood_sets: tuple[ImageSet, ...]
    notes: tuple[str, ...]
    sketches: bool = False

    @property
    def sets(self) -> tuple[ImageSet, ...]:
        """All sets, the in-distribution one first."""
        return (self.id_set, *self.ood_sets)

    def with_ood(self, names: Sequence[str]) -> Benchmark:
        """Return the benchmark with other OOD sets.

        Raises:
            InputError: No names, an unknown one, or the in-distribution set itself.
        """
        chosen = tuple(load_set(name) for name in dict.fromkeys(names))
        if not chosen:
            raise InputError("A benchmark needs at least one OOD set.")
        if self.id_set in chosen:
            raise InputError(f"{self.id_set.name!r} is in-distribution here: leave it out.")
        return replace(self, ood_sets=chosen)


def list_benchmarks() -> list[str]:
    """Return the names of all benchmarks."""
    return list(_read("benchmarks.json"))


def list_sets() -> list[str]:
    """Return the names of all image sets."""
    return list(_read("sets.json"))


def load_benchmark(name: str) -> Benchmark:
    """Return a benchmark; case, spaces, "-" and "_" in its name do not matter.

    Raises:
        InputError: There is none of that name.
    """
    entries = _read("benchmarks.json")
    key = find_name(name, entries, "benchmark")
    entry = entries[key]
    return Benchmark(
        name=key,
        title=entry["title"],
        id_set=load_set(entry["id"]),
        ood_sets=tuple(load_set(other) for other in entry["ood"]),
        notes=tuple(entry["notes"]),
        sketches=entry.get("sketches", False),
    )


def load_set(name: str) -> ImageSet:
    """Return an image set; case, spaces, "-" and "_" in its name do not matter.

    Raises:
        InputError: There is none of that name.
    """
    entries = _read("sets.json")
    key = find_name(name, entries, "image set")
    entry = entries[key]
    return ImageSet(
        name=key,
        title=entry["title"],
        classes=entry.get("classes"),
        images=entry["images"],
        other_counts=tuple(entry.get("other_counts", ())),
        paper=entry["paper"],
        source=entry["source"],
        get=entry["get"],
        license=entry["license"],
        notes=tuple(entry["notes"]),
        layouts=tuple(Layout(**layout) for layout in entry["layouts"]),
        contamination=entry.get("contamination"),
        contaminated_percent=entry.get("contaminated_percent"),
        groups=entry.get("groups"),
        bundled=entry.get("bundled"),
    )


def data_directory() -> Path:
    """Return the directory of the catalogue's files."""
    return Path(str(files("negrefine.benchmarks") / "data"))


def find_name(name: str, known: Iterable[str], what: str) -> str:
    """Return the known name that is meant.

    Raises:
        InputError: None is; the sentence lists near ones.
    """
    keys = {_plain(key): key for key in known}
    if not isinstance(name, str):
        raise InputError(f"The name of a {what} must be a string, not {type(name).__name__}.")
    found = keys.get(_plain(name))
    if found is not None:
        return found
    near = [keys[key] for key in difflib.get_close_matches(_plain(name), keys, n=5, cutoff=0.5)]
    hint = (
        f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(keys.values())}."
    )
    raise InputError(f"There is no {what} {name!r}: {hint}")


def _plain(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())


@cache
def _read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((data_directory() / name).read_text(encoding="utf-8"))
    return content
