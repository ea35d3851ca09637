"""What is missing of a benchmark's images, and how to get it; nothing is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from negrefine.benchmarks.catalogue import Benchmark, ImageSet, load_set
from negrefine.benchmarks.class_lists import class_list, wordnet_ids
from negrefine.benchmarks.image_files import FoundImages, NotFound, find_set
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.evaluation.images import ImageSet as LocatedSet

Folders = Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Finding:
    """The state of one set.

    Attributes:
        set_name: Its name in the catalogue.
        status: "ok", "missing" (no folder), "layout" (a folder, but no image where one should be)
            or "incomplete" (another number of images, classes or groups than published).
        folder: Where it was found, None if it was not.
        found: Number of images.
        expected: Number of images, None where it is not known.
        problem: One sentence, "" if all is well.
        remedy: What to do, "" if all is well.
    """

    set_name: str
    status: Literal["ok", "missing", "layout", "incomplete"]
    folder: Path | None
    found: int
    expected: int | None
    problem: str = ""
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """Whether the set is there as published."""
        return self.status == "ok"


def check(
    benchmark: Benchmark, root: Path | None = None, folders: Folders | None = None
) -> list[Finding]:
    """Say for each set whether it is there, in-distribution first.

    Args:
        benchmark: From `load_benchmark`.
        root: Folder that holds the data sets; not needed if all are in `folders` or bundled.
        folders: Set name to its folder, for sets that lie elsewhere.

    Raises:
        InputError: The root is not a folder, or a folder or label file cannot be read.
    """
    places = _places(benchmark, root, folders)
    findings = [_finding(s, places[s.name], _find(s, root, places[s.name])) for s in benchmark.sets]
    if root is None:
        return findings
    return [replace(f, remedy=f.remedy.replace("ROOT", str(root))) for f in findings]


def locate(
    benchmark: Benchmark, root: Path | None = None, folders: Folders | None = None
) -> tuple[LocatedSet, list[LocatedSet]]:
    """Return the images of a benchmark: the in-distribution ones with labels, and the others.

    Sets are taken as they are, complete or not: `check` tells.

    Args:
        benchmark: From `load_benchmark`.
        root: As for `check`.
        folders: As for `check`.

    Raises:
        InputError: As for `check`, or a set is not there.
    """
    from negrefine.evaluation.images import ImageSet as LocatedSet

    places = _places(benchmark, root, folders)
    located = []
    for image_set in benchmark.sets:
        found = _find(image_set, root, places[image_set.name])
        if isinstance(found, NotFound):
            finding = _finding(image_set, places[image_set.name], found)
            raise InputError(f"{finding.problem} {finding.remedy}")
        in_distribution = image_set is benchmark.id_set
        located.append(
            LocatedSet(
                name=image_set.title,
                paths=found.paths,
                labels=found.labels if in_distribution else None,
                groups=found.groups,
            )
        )
    return located[0], located[1:]


def _places(
    benchmark: Benchmark, root: Path | None, folders: Folders | None
) -> dict[str, Path | None]:
    given = {load_set(name).name: Path(path) for name, path in (folders or {}).items()}
    strange = sorted(set(given) - {image_set.name for image_set in benchmark.sets})
    if strange:
        raise InputError(f"{strange[0]!r} is not a set of {benchmark.name}: leave it out.")
    for path in [*given.values(), *([root] if root is not None else [])]:
        if not Path(path).is_dir():
            raise InputError(f"The data folder {str(path)!r} does not exist: check the path.")
    if root is None:
        homeless = [s.name for s in benchmark.sets if s.bundled is None and s.name not in given]
        if homeless:
            raise InputError(
                f"{benchmark.name} needs images: give the folder that holds the data sets "
                f"(--data ROOT), or that of {homeless[0]!r}."
            )
    return {image_set.name: given.get(image_set.name) for image_set in benchmark.sets}


def _find(image_set: ImageSet, root: Path | None, folder: Path | None) -> FoundImages | NotFound:
    return find_set(image_set, root or Path(), folder)


def _finding(image_set: ImageSet, folder: Path | None, found: FoundImages | NotFound) -> Finding:
    if isinstance(found, NotFound):
        return _not_found(image_set, folder, found)
    problems = _shortcomings(image_set, found)
    expected = found.layout.images or image_set.images
    if not problems:
        return Finding(image_set.name, "ok", found.folder, len(found.paths), expected)
    return Finding(
        image_set.name,
        "incomplete",
        found.folder,
        len(found.paths),
        expected,
        f"{image_set.title} in {found.folder} {', and '.join(problems)}.",
        _remedy(image_set),
    )


def _not_found(image_set: ImageSet, folder: Path | None, found: NotFound) -> Finding:
    if found.there:
        status: Literal["layout", "missing"] = "layout"
        kinds = dict.fromkeys(layout.labels for layout in image_set.layouts)
        wanted = " or ".join(_STRUCTURE[kind] for kind in kinds if folder is None or kind != "list")
        problem = (
            f"{image_set.title}: {' and '.join(map(str, found.there))} "
            f"{'is' if len(found.there) == 1 else 'are'} there, but without {wanted}."
        )
    else:
        status = "missing"
        shown = [str(path) for path in found.tried[:3]]
        more = len(found.tried) - len(shown)
        problem = f"{image_set.title} is missing: there is no {' or '.join(shown)}" + (
            f" (nor {more} other known places)." if more else "."
        )
    return Finding(image_set.name, status, None, 0, image_set.images, problem, _remedy(image_set))


_STRUCTURE = {
    "wnid": "images in folders named by WordNet id, such as n01440764",
    "index": "images in folders named 0, 1, 2 ...",
    "names": "images in folders named like the classes",
    "prefix": "images named like the classes, such as Abyssinian_1.jpg",
    "list": "the file that lists images and class numbers",
    "metadata": "metadata.csv",
    "none": "images",
}


def _shortcomings(image_set: ImageSet, found: FoundImages) -> list[str]:
    problems = []
    n = len(found.paths)
    expected = found.layout.images or image_set.images
    if expected is not None and n not in (expected, *image_set.other_counts):
        problems.append(f"has {n:,} images instead of {expected:,}")
    if image_set.groups is not None:
        n_groups = len(set(found.groups))
        if n_groups != image_set.groups:
            problems.append(f"has {n_groups} class folders instead of {image_set.groups}")
    if image_set.classes is not None and found.layout.labels in {"wnid", "index"}:
        present = Counter(found.labels or [])
        ids = wordnet_ids(image_set.classes)
        if found.layout.labels == "index" or ids is None:
            ids = [str(i) for i in range(len(class_list(image_set.classes)))]
        lost = [name for i, name in enumerate(ids) if not present[i]]
        if lost:
            problems.append(
                f"lacks {len(lost)} of {len(ids)} class folders ({', '.join(lost[:3])}"
                f"{' ...' if len(lost) > 3 else ''})"
            )
    return problems


def _remedy(image_set: ImageSet) -> str:
    return f"{image_set.get} Source: {image_set.source}. Licence: {image_set.license}."
