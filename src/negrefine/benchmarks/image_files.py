"""The image files of a data set below a data root, with their true classes."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

from negrefine.benchmarks.bundled import demo_images
from negrefine.benchmarks.catalogue import Dataset, Layout, class_list, wordnet_ids
from negrefine.encoders.image_files import images_below
from negrefine.errors import InputError
from negrefine.labels.text_files import read_text
from negrefine.similar_names import plain_name

# Class numbers of images without a known class, and of those that do not belong to a data set.
_UNKNOWN, _NOT_IN_SET = -1, -2
# Layouts whose list says by path which images belong to the set.
_CHOSEN = frozenset({"paths", "selection"})
# For `read_text`: what errors call a file of true classes, and what should be there.
_LABELS, _AUTHORS = "label file", "the file of the data set's authors"


@dataclass(frozen=True, slots=True)
class FoundImages:
    """The images of a data set, sorted, and how they are arranged.

    `labels` are indices into the class list, -1 unknown; None if no image has a known class.
    `groups` has for each image the name of its first folder below `folder`, "" for none. `listed`
    is how many images the list of the layout names, None without one that chooses them.
    """

    folder: Path
    layout: Layout
    paths: list[Path]
    labels: list[int] | None
    groups: list[str]
    listed: int | None = None


@dataclass(frozen=True, slots=True)
class NotFound:
    """Folders where a data set could be, and those that exist but hold none of its images."""

    tried: list[Path]
    existing: list[Path]


def find_set(
    dataset: Dataset, root: Path | None, folder: Path | None = None
) -> FoundImages | NotFound:
    """Look for a data set in its known layouts, without opening an image.

    It is below `root` unless it is bundled or `folder` is its own. There a layout is recognised as
    below the root, and any other is taken as images without true classes. InputError if a folder
    cannot be listed, or a file with labels cannot be read.
    """
    if dataset.bundled is not None:
        return _bundled(dataset, dataset.bundled)
    candidates = list(_candidates(dataset, root or Path(), folder))
    images: dict[Path, list[Path]] = {}
    for base, layout in candidates:
        place = base / layout.path
        if not place.is_dir() or (layout.list and not (base / layout.list).is_file()):
            continue
        if place not in images:
            images[place] = images_below(place)
        found = _read_layout(dataset, layout, base, images[place])
        if found is not None:
            return found
    tried = list(dict.fromkeys(base / layout.path for base, layout in candidates))
    return NotFound(tried, [place for place in tried if place.is_dir()])


def _candidates(dataset: Dataset, root: Path, folder: Path | None) -> Iterator[tuple[Path, Layout]]:
    # Which images belong to some sets, only a list says: their folder holds the list, too.
    if folder is None or all(layout.labels in _CHOSEN for layout in dataset.layouts):
        yield from ((folder or root, layout) for layout in dataset.layouts)
        return
    for labels in dict.fromkeys(layout.labels for layout in dataset.layouts):
        if labels == "metadata":
            yield folder, Layout(".", labels, list="metadata.csv")
        elif labels != "list" and labels not in _CHOSEN:
            yield folder, Layout(".", labels)
    # Of a selection of ImageNet's classes, images without labels would be the wrong ones.
    if dataset.classes is None or not dataset.classes.startswith("imagenet-1"):
        yield folder, Layout(".", "none")


def _read_layout(
    dataset: Dataset, layout: Layout, base: Path, files: list[Path]
) -> FoundImages | None:
    """Return the data set's images, or None if the files are not arranged in this layout."""
    place = base / layout.path
    # Of 50,000 paths, `relative_to` takes half a second.
    inside = [file.parts[len(place.parts) :] for file in files]
    chosen = None
    if layout.labels in _CHOSEN:
        chosen = _read_paths(base / str(layout.list), place.name, dataset.classes)
    labels = _labels(dataset.classes or "", layout, base, inside, chosen)
    kept = [i for i, label in enumerate(labels) if label != _NOT_IN_SET]
    has_classes = any(label >= 0 for label in labels)
    if not kept or not (has_classes or layout.labels in {"none", "selection"}):
        return None
    return FoundImages(
        folder=place,
        layout=layout,
        paths=[files[i] for i in kept],
        labels=[labels[i] for i in kept] if has_classes else None,
        groups=[inside[i][0] if len(inside[i]) > 1 else "" for i in kept],
        listed=None if chosen is None else len(chosen),
    )


def _labels(
    classes: str,
    layout: Layout,
    base: Path,
    inside: list[tuple[str, ...]],
    chosen: dict[str, int] | None,
) -> list[int]:
    """Return the class number of each path; `inside` has its parts below the layout's folder."""
    if chosen is not None:
        return [chosen.get("/".join(parts), _NOT_IN_SET) for parts in inside]
    if layout.labels == "none":
        return [_UNKNOWN] * len(inside)
    names = class_list(classes)
    keys = (parts[0] for parts in inside)
    if layout.labels == "wnid":
        numbers = _numbers(wordnet_ids(classes) or [])
    elif layout.labels == "index":
        numbers = _numbers(map(str, range(len(names))))
    elif layout.labels == "names":
        numbers = _numbers(map(_plain, names))
        keys = (_plain(parts[-2]) if len(parts) > 1 else "" for parts in inside)
    elif layout.labels == "prefix":
        numbers = _numbers(map(_plain, names))
        keys = (_plain(PurePath(parts[-1]).stem.rpartition("_")[0]) for parts in inside)
    elif layout.labels == "list":
        numbers = _read_list(base / str(layout.list), len(names))
        keys = (parts[-1] for parts in inside)
    else:
        numbers = _read_metadata(base / str(layout.list), len(names))
        keys = ("/".join(parts) for parts in inside)
    missing = _NOT_IN_SET if layout.labels in {"wnid", "index", "list"} else _UNKNOWN
    return [numbers.get(key, missing) for key in keys]


def _numbers(names: Iterable[str]) -> dict[str, int]:
    return {name: i for i, name in enumerate(names)}


def _plain(name: str) -> str:
    """Return `plain_name` without a number and a dot at the start, as CUB's folders have them."""
    number, dot, rest = name.partition(".")
    return plain_name(rest if dot and number.isdigit() else name)


def _read_list(path: Path, n_classes: int) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for number, line in enumerate(read_text(path, _LABELS, _AUTHORS).splitlines(), 1):
        name, _, label = line.strip().rpartition(" ")
        if not line.strip():
            continue
        if not label.isdigit() or int(label) >= n_classes:
            raise InputError(
                f"{path}, line {number}: expected a file name and a class number below "
                f"{n_classes}, got {line.strip()!r}."
            )
        numbers[PurePath(name).name] = int(label)
    return numbers


def _read_paths(path: Path, folder: str, classes: str | None) -> dict[str, int]:
    """Return path below `folder`, as which lists call it, to class number, -1 without classes."""
    n_classes = 0 if classes is None else len(class_list(classes))
    numbers: dict[str, int] = {}
    for number, line in enumerate(read_text(path, _LABELS, _AUTHORS).splitlines(), 1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        first, _, rest = name.partition("/")
        known = label.isdigit() and int(label) < n_classes
        if not name or (classes is not None and not known):
            wanted = "a class number" if classes is None else f"a class number below {n_classes}"
            raise InputError(
                f"{path}, line {number}: expected a path and {wanted}, got {line.strip()!r}."
            )
        numbers[rest if first == folder else name] = _UNKNOWN if classes is None else int(label)
    return numbers


def _read_metadata(path: Path, n_classes: int) -> dict[str, int]:
    rows = csv.DictReader(read_text(path, _LABELS, _AUTHORS).splitlines())
    if not {"img_filename", "y"} <= set(rows.fieldnames or ()):
        raise InputError(f"{path}: expected the columns img_filename and y.")
    numbers: dict[str, int] = {}
    for row in rows:
        if row["y"] not in map(str, range(n_classes)):
            raise InputError(f"{path}, line {rows.line_num}: {row['y']!r} is not a class number.")
        numbers[row["img_filename"]] = int(row["y"])
    return numbers


def _bundled(dataset: Dataset, folder: str) -> FoundImages:
    images = [image for image in demo_images() if image.set_name == folder]
    labels = None
    if dataset.classes is not None:
        numbers = _numbers(class_list(dataset.classes))
        labels = [_UNKNOWN if i.class_name is None else numbers[i.class_name] for i in images]
    paths = [image.path for image in images]
    return FoundImages(paths[0].parent, dataset.layouts[0], paths, labels, [""] * len(paths))
