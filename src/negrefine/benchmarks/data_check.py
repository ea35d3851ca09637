"""What is missing of a benchmark's images, and how to get it; no image is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from negrefine.benchmarks.catalogue import Benchmark, Dataset, class_list, load_set, wordnet_ids
from negrefine.benchmarks.image_files import FoundImages, NotFound, find_set
from negrefine.errors import InputError
from negrefine.evaluation.images import ImageSet

Folders = Mapping[str, Path]
# What each kind of `Layout.labels` needs below the folder.
_STRUCTURE = {
    "wnid": "images in folders named by WordNet id, such as n01440764",
    "index": "images in folders named 0, 1, 2 ...",
    "names": "images in folders named like the classes",
    "prefix": "images named like the classes, such as Abyssinian_1.jpg",
    "list": "the file that lists images and class numbers",
    "paths": "the images that the list of the set names",
    "selection": "the images that the list of the set names",
    "metadata": "metadata.csv",
    "none": "images",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one data set.

    `status` is "ok", "missing" (no folder), "layout" (a folder, but no image where one should be)
    or "incomplete" (another number of images, classes or groups than published). `images` is None
    if it was not found, `expected` if the number of its images is not known. `problem` and
    `remedy`, which says what to do, are "" if all is well.
    """

    set_name: str
    status: Literal["ok", "missing", "layout", "incomplete"]
    images: FoundImages | None
    expected: int | None
    problem: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether the data set is there as published."""
        return self.status == "ok"

    @property
    def found(self) -> int:
        """Number of images found."""
        return 0 if self.images is None else len(self.images.paths)

    @property
    def folder(self) -> Path | None:
        """Where the images were found, None if they were not."""
        return None if self.images is None else self.images.folder

    def as_dict(self) -> dict[str, Any]:
        """Return the state as plain JSON, without the paths of the images."""
        names = ("set_name", "status", "folder", "found", "expected", "problem", "remedy")
        values = {name: getattr(self, name) for name in names}
        return values | {"folder": None if self.folder is None else str(self.folder)}


def check(
    benchmark: Benchmark, root: Path | None = None, folders: Folders | None = None
) -> list[Finding]:
    """Report for each data set whether it is there, the in-distribution one first.

    `root` holds the data sets, and `folders` gives by name the folders of those that are elsewhere;
    bundled ones need neither. InputError if a folder or label file cannot be read.
    """
    given = {load_set(name).name: Path(path) for name, path in (folders or {}).items()}
    _check_folders(benchmark, root, given)
    return [_finding(dataset, root, given.get(dataset.name)) for dataset in benchmark.sets]


def locate(
    benchmark: Benchmark, root: Path | None = None, folders: Folders | None = None
) -> tuple[ImageSet, list[ImageSet]]:
    """Return the images of a benchmark: the in-distribution ones with labels, and the OOD sets.

    Data sets are taken as they are, complete or not; `check`, which takes the same arguments and
    raises the same errors, reports what is missing. InputError if one is not there at all.
    """
    return image_sets(benchmark, check(benchmark, root, folders))


def image_sets(
    benchmark: Benchmark, findings: Sequence[Finding]
) -> tuple[ImageSet, list[ImageSet]]:
    """Return the images of the data sets of a benchmark; InputError if one was not found.

    The images of further in-distribution sets follow those of the first one; their group is the
    title of their set.
    """
    by_name = {finding.set_name: finding for finding in findings}
    located = []
    for dataset in benchmark.sets:
        found = by_name[dataset.name].images
        if found is None:
            raise InputError(f"{by_name[dataset.name].problem} {by_name[dataset.name].remedy}")
        labels = found.labels if dataset in benchmark.id_sets else None
        located.append(ImageSet(dataset.title, found.paths, labels, found.groups))
    n_inside = len(benchmark.id_sets)
    return _joined(benchmark, located[:n_inside]), located[n_inside:]


def _joined(benchmark: Benchmark, inside: Sequence[ImageSet]) -> ImageSet:
    """Return the in-distribution sets as one, with class numbers of the first one's classes."""
    if len(inside) == 1:
        return inside[0]
    ids = wordnet_ids(str(benchmark.id_set.classes)) or []
    numbers = {wnid: i for i, wnid in enumerate(ids)}
    labels = []
    for dataset, images in zip(benchmark.id_sets, inside, strict=True):
        own = wordnet_ids(str(dataset.classes)) or []
        known = images.labels or [-1] * len(images.paths)
        labels += [numbers[own[label]] if label >= 0 else -1 for label in known]
    return ImageSet(
        benchmark.title,
        [path for images in inside for path in images.paths],
        labels if max(labels) >= 0 else None,
        [images.name for images in inside for _ in images.paths],
    )


def _check_folders(benchmark: Benchmark, root: Path | None, given: Folders) -> None:
    unknown = sorted(set(given) - {dataset.name for dataset in benchmark.sets})
    if unknown:
        raise InputError(f"{unknown[0]!r} is not a set of {benchmark.name}: leave it out.")
    bundled = [s.name for s in benchmark.sets if s.bundled is not None and s.name in given]
    if bundled:
        raise InputError(
            f"The images of {bundled[0]!r} come with negrefine, and no folder replaces them: leave "
            "it out."
        )
    for path in [*given.values(), *([] if root is None else [root])]:
        if not path.is_dir():
            raise InputError(f"The data folder {str(path)!r} does not exist: check the path.")
    elsewhere = [s.name for s in benchmark.sets if s.bundled is None and s.name not in given]
    if root is not None and not elsewhere:
        raise InputError(
            f"The data folder {str(root)!r} has no effect, as all image sets of {benchmark.name} "
            "are elsewhere: leave it out."
        )
    if root is None and elsewhere:
        raise InputError(
            f"{benchmark.name} needs images: give the folder that holds the data sets "
            f"(--data ROOT), or that of {elsewhere[0]!r}."
        )


def _finding(dataset: Dataset, root: Path | None, folder: Path | None) -> Finding:
    result = find_set(dataset, root, folder)
    remedy = f"{dataset.get} Source: {dataset.source}. Licence: {dataset.license}."
    if root is not None:
        remedy = remedy.replace("ROOT", str(root))
    if isinstance(result, NotFound):
        status: Literal["layout", "missing"] = "layout" if result.existing else "missing"
        problem = _absence(dataset, result, elsewhere=folder is not None)
        return Finding(dataset.name, status, None, dataset.images, problem, remedy)
    expected = result.listed or result.layout.images or dataset.images
    problems = _shortcomings(dataset, result, expected)
    if not problems:
        return Finding(dataset.name, "ok", result, expected)
    problem = f"{dataset.title} in {result.folder} {', and '.join(problems)}."
    return Finding(dataset.name, "incomplete", result, expected, problem, remedy)


def _absence(dataset: Dataset, result: NotFound, *, elsewhere: bool) -> str:
    """Return a sentence that says where the images should be, or what is wrong there."""
    if not result.existing:
        shown = " or ".join(map(str, result.tried[:3]))
        more = len(result.tried) - 3
        others = f" (nor any of {more} other known places)" if more > 0 else ""
        return f"{dataset.title} is missing: there is no {shown}{others}."
    kinds = dict.fromkeys(layout.labels for layout in dataset.layouts)
    wanted = (_STRUCTURE[kind] for kind in kinds if not elsewhere or kind != "list")
    places = " and ".join(map(str, result.existing))
    verb = "is" if len(result.existing) == 1 else "are"
    return f"{dataset.title}: {places} {verb} there, but without {' or '.join(wanted)}."


def _shortcomings(dataset: Dataset, images: FoundImages, expected: int | None) -> list[str]:
    problems = []
    n = len(images.paths)
    if expected is not None and n not in (expected, *dataset.other_counts):
        problems.append(f"has {n:,} images instead of {expected:,}")
    n_groups = len(set(images.groups))
    if dataset.groups is not None and n_groups != dataset.groups:
        problems.append(f"has {n_groups} class folders instead of {dataset.groups}")
    if dataset.classes is not None and images.layout.labels in {"wnid", "index"}:
        present = Counter(images.labels or [])
        folders = wordnet_ids(dataset.classes)
        if images.layout.labels == "index" or folders is None:
            folders = [str(i) for i in range(len(class_list(dataset.classes)))]
        lost = [name for i, name in enumerate(folders) if not present[i]]
        if lost:
            problems.append(
                f"lacks {len(lost)} of {len(folders)} class folders ({', '.join(lost[:3])}"
                f"{' ...' if len(lost) > 3 else ''})"
            )
    return problems
