"""The catalogue of benchmarks, their image sets and class names, as data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from negrefine.benchmarks.bundled import demo_class_names
from negrefine.constraints import OneOf
from negrefine.errors import InputError
from negrefine.labels.prompts import CSP_SKETCH_PROMPTS
from negrefine.similar_names import hint, plain_name

Names = Literal["correct", "official"]


@dataclass(frozen=True, slots=True)
class Layout:
    """One known way in which the files of a data set are arranged, in folder `path` of a data root.

    `labels` says where true classes come from: "wnid" (sub-folders named by WordNet id), "index"
    (sub-folders named by class number), "names" (sub-folders named by class), "prefix" (file names
    that begin with the class name), "list" (lines "file number" of the text file `list`; images
    that it does not list are left out), "paths" (the same with paths), "selection" (such lines, of
    which only the paths count), "metadata" (columns img_filename and y of the CSV file `list`) or
    "none". `images` is the number of images if it differs from that of the data set.
    """

    path: str
    labels: str
    list: str | None = None
    images: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A data set of images.

    Attributes:
        name: Key in the catalogue; `title` is its name in papers.
        classes: Name of its class list if it can be in-distribution.
        images: Number of images, None if it is not known.
        other_counts: Other numbers of images that are correct too; `notes` say why.
        source: Where to download it; `get` says how to arrange the files.
        license: Licence or terms, "unknown" if the sources used do not say.
        notes: What a reader of results must know.
        layouts: Known arrangements of the files, tried in this order.
        contamination: How many images show an in-distribution class of ImageNet-1K, None if no
            source reports any. `contaminated_percent` is the share if it is known.
        groups: Number of sub-folders over which the authors average.
        bundled: Folder of the package's own drawings that holds the data set.
        unverified: What is said here, or left unsaid, without a source that could be checked.
    """

    name: str
    title: str
    classes: str | None = None
    images: int | None
    other_counts: tuple[int, ...] = ()
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
    unverified: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Benchmark:
    """An in-distribution set and the out-of-distribution (OOD) sets it is compared with.

    `notes` are what a reader of results must know; `sketches` decides `parameters`. `further_id`
    are more in-distribution sets, whose images are added to those of `id_set` (full-spectrum
    detection); their classes are among those of `id_set`.
    """

    name: str
    title: str
    id_set: Dataset
    ood_sets: tuple[Dataset, ...]
    notes: tuple[str, ...]
    sketches: bool = False
    further_id: tuple[Dataset, ...] = ()

    @property
    def sets(self) -> tuple[Dataset, ...]:
        """All data sets, the in-distribution ones first."""
        return (*self.id_sets, *self.ood_sets)

    @property
    def id_sets(self) -> tuple[Dataset, ...]:
        """The in-distribution sets."""
        return (self.id_set, *self.further_id)

    def with_ood(self, names: Sequence[str]) -> Benchmark:
        """Return the benchmark with other OOD sets.

        Raises InputError without names, or if one is unknown or that of the in-distribution set.
        """
        chosen = tuple(load_set(name) for name in dict.fromkeys(names))
        if not chosen:
            raise InputError("A benchmark needs at least one OOD set.")
        inside = [each.name for each in self.id_sets if each in chosen]
        if inside:
            raise InputError(f"{inside[0]!r} is in-distribution here: leave it out.")
        return replace(self, ood_sets=chosen)

    def parameters(self, method: str) -> dict[str, Any]:
        """Return the parameters with which a method was published for this benchmark.

        They differ from the detector's defaults for sketches only, where CSP and NegRefine use ten
        prompts for sketches.
        """
        if self.sketches and method in {"csp", "negrefine"}:
            return {"prompts": CSP_SKETCH_PROMPTS}
        return {}


def list_benchmarks() -> list[str]:
    """Return the names of all benchmarks."""
    return list(read_data("benchmarks.json"))


def list_sets() -> list[str]:
    """Return the names of all data sets."""
    return list(read_data("sets.json"))


def list_class_lists() -> list[str]:
    """Return the names of all class lists."""
    return list(read_data("class_lists.json"))


def load_benchmark(name: str) -> Benchmark:
    """Return a benchmark, ignoring case, spaces, "-" and "_" in names; InputError if unknown."""
    key, entry = _find("benchmarks.json", name, "benchmark")
    return Benchmark(
        name=key,
        title=entry["title"],
        id_set=load_set(entry["id"]),
        ood_sets=tuple(load_set(other) for other in entry["ood"]),
        notes=tuple(entry["notes"]),
        sketches=entry.get("sketches", False),
        further_id=tuple(load_set(other) for other in entry.get("further_id", ())),
    )


def load_set(name: str) -> Dataset:
    """Return a data set, ignoring case, spaces, "-" and "_" in names; InputError if unknown."""
    key, entry = _find("sets.json", name, "image set")
    tuples = {
        "other_counts": tuple(entry.get("other_counts", ())),
        "notes": tuple(entry["notes"]),
        "layouts": tuple(Layout(**layout) for layout in entry["layouts"]),
        "unverified": tuple(entry.get("unverified", ())),
    }
    return Dataset(name=key, **(entry | tuples))


def class_list(name: str, names: Names = "correct") -> list[str]:
    """Return class names in the order of the data set's class numbers.

    ImageNet-1K's names are OpenAI's, the same in the repositories of all six methods. They contain
    "missile" and "sunglasses" twice, and each copy counts in the scores. In `name`, such as
    "imagenet-1k", case, spaces, "-" and "_" do not matter. With names="official" the list is that
    of the CSP and NegRefine repositories, so that published numbers can be reproduced: CUB-200-2011
    with underscores. InputError if it cannot be rebuilt exactly, or for an unknown list.
    """
    OneOf(("correct", "official"))("names", names)
    _, entry = _find("class_lists.json", name, "class list")
    if names == "official" and "official" not in entry:
        raise InputError(
            f"{entry['official_missing']}: use names='correct', or give the list itself in a text "
            "file (--classes FILE)."
        )
    if entry.get("bundled"):
        return demo_class_names()
    ids = wordnet_ids(name)
    if ids is not None:
        return [_imagenet()[wnid] for wnid in ids]
    lines = _lines(entry["file"])
    if entry.get("underscores") and names == "correct":
        return [line.replace("_", " ") for line in lines]
    return list(lines)


def wordnet_ids(name: str) -> list[str] | None:
    """Return the WordNet id of each class of a list, None for lists that are not of ImageNet."""
    _, entry = _find("class_lists.json", name, "class list")
    if "of" in entry:
        return list(_lines(entry["file"]))
    if entry.get("file", "").endswith(".tsv"):
        return list(_imagenet())
    return None


def data_directory() -> Path:
    """Return the directory of the catalogue's files."""
    return Path(str(files("negrefine.benchmarks") / "data"))


@cache
def read_data(file: str) -> dict[str, Any]:
    """Return the content of one of the catalogue's JSON files."""
    content: dict[str, Any] = json.loads((data_directory() / file).read_text(encoding="utf-8"))
    return content


def _find(file: str, name: str, kind: str) -> tuple[str, dict[str, Any]]:
    """Return the key and the entry that a name means, or raise InputError with similar names."""
    if not isinstance(name, str):
        raise InputError(f"The name of a {kind} must be a string, not {type(name).__name__}.")
    entries = read_data(file)
    keys = {plain_name(key): key for key in entries}
    plain = plain_name(name)
    if plain in keys:
        return keys[plain], entries[keys[plain]]
    raise InputError(f"There is no {kind} {name!r}: {hint(name, entries)}")


@cache
def _lines(file: str) -> tuple[str, ...]:
    text = (data_directory() / "classes" / file).read_text(encoding="utf-8")
    return tuple(text.splitlines())


@cache
def _imagenet() -> dict[str, str]:
    """Return WordNet id to class name, in the order of the class numbers."""
    return dict(line.split("\t") for line in _lines("imagenet-1k.tsv"))
