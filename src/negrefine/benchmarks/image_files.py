"""Find the images of a set below a data root, with their true classes."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from PIL import Image

from negrefine.benchmarks.bundled import demo_images
from negrefine.benchmarks.catalogue import ImageSet, Layout
from negrefine.benchmarks.class_lists import class_list, wordnet_ids
from negrefine.errors import InputError


@dataclass(frozen=True, slots=True)
class FoundImages:
    """The images of a set.

    Attributes:
        folder: Where they lie.
        layout: How.
        paths: n files, sorted.
        labels: Index of each image's class in the set's class list, -1 unknown; None if no image
            has a known class.
        groups: For each image the first folder it lies in below `folder`, "" at its root.
    """

    folder: Path
    layout: Layout
    paths: list[Path]
    labels: list[int] | None
    groups: list[str]


@dataclass(frozen=True, slots=True)
class NotFound:
    """Why a set was not found.

    Attributes:
        tried: Folders it could lie in.
        there: Those of them that exist but hold no image in a known structure.
    """

    tried: list[Path]
    there: list[Path]


def find_set(image_set: ImageSet, root: Path, folder: Path | None = None) -> FoundImages | NotFound:
    """Look for a set in its known layouts, without opening an image.

    Args:
        image_set: From the catalogue.
        root: Folder that holds the data sets.
        folder: Folder of this set if it lies elsewhere; its structure is recognised as below the
            root, and any other is taken as images without true classes.

    Raises:
        InputError: A folder cannot be listed, or a file with labels cannot be read.
    """
    if image_set.bundled is not None:
        return _bundled(image_set)
    tried: list[Path] = []
    there: list[Path] = []
    seen: dict[Path, list[PurePath]] = {}
    for base, layout in _candidates(image_set, root, folder):
        place = base / layout.path
        if place not in tried:
            tried.append(place)
        if not place.is_dir():
            continue
        if place not in there:
            there.append(place)
        if layout.list is not None and not (base / layout.list).is_file():
            continue
        if place not in seen:
            seen[place] = list(_images_below(place))
        labels = _labels(image_set, layout, base, seen[place])
        if labels is None:
            continue
        kept = [
            (file, label) for file, label in zip(seen[place], labels, strict=True) if label > -2
        ]
        known = any(label >= 0 for _, label in kept)
        return FoundImages(
            folder=place,
            layout=layout,
            paths=[place / file for file, _ in kept],
            labels=[label for _, label in kept] if known else None,
            groups=[file.parts[0] if len(file.parts) > 1 else "" for file, _ in kept],
        )
    return NotFound(tried, there)


def _candidates(
    image_set: ImageSet, root: Path, folder: Path | None
) -> Iterator[tuple[Path, Layout]]:
    if folder is None:
        yield from ((root, layout) for layout in image_set.layouts)
        return
    for labels in dict.fromkeys(layout.labels for layout in image_set.layouts):
        if labels == "metadata":
            yield folder, Layout(".", labels, list="metadata.csv")
        elif labels != "list":
            yield folder, Layout(".", labels)
    if not _is_part(image_set):
        yield folder, Layout(".", "none")


def _is_part(image_set: ImageSet) -> bool:
    """Whether the set is a choice of classes, so that unlabelled images would be the wrong ones."""
    return image_set.classes is not None and image_set.classes.startswith("imagenet-1")


_UNLISTED = -2
"""Label of images that do not belong to the set."""


def _labels(
    image_set: ImageSet, layout: Layout, base: Path, files: list[PurePath]
) -> list[int] | None:
    """Return a label for each file, or None if the files are not laid out like this."""
    if not files:
        return None
    if layout.labels == "none":
        return [-1] * len(files)
    if image_set.classes is None:
        raise InputError(f"{image_set.name}: a set without classes has no labels.")
    label = _LABELLERS[layout.labels](image_set.classes, base, layout)
    labels = [label(file) for file in files]
    return labels if any(value >= 0 for value in labels) else None


def _by_wordnet_id(classes: str, base: Path, layout: Layout) -> Callable[[PurePath], int]:
    del base, layout
    numbers = {wnid: i for i, wnid in enumerate(wordnet_ids(classes) or [])}
    return lambda file: numbers.get(file.parts[0], _UNLISTED)


def _by_number(classes: str, base: Path, layout: Layout) -> Callable[[PurePath], int]:
    del base, layout
    numbers = {str(i): i for i in range(len(class_list(classes)))}
    return lambda file: numbers.get(file.parts[0], _UNLISTED)


def _by_name(classes: str, base: Path, layout: Layout) -> Callable[[PurePath], int]:
    del base, layout
    numbers = _numbers_by_name(classes)
    return lambda file: numbers.get(_plain(file.parent.name), -1)


def _by_prefix(classes: str, base: Path, layout: Layout) -> Callable[[PurePath], int]:
    del base, layout
    numbers = _numbers_by_name(classes)
    return lambda file: numbers.get(_plain(file.stem.rpartition("_")[0]), -1)


def _by_list(classes: str, base: Path, layout: Layout) -> Callable[[PurePath], int]:
    n_classes = len(class_list(classes))
    numbers: dict[str, int] = {}
    path = base / str(layout.list)
    for number, line in enumerate(_read(path).splitlines(), 1):
        name, _, label = line.strip().rpartition(" ")
        if not line.strip():
            continue
        if not label.isdigit() or int(label) >= n_classes:
            raise InputError(
                f"{path}, line {number}: expected a file name and a class number below "
                f"{n_classes}, got {line.strip()!r}."
            )
        numbers[PurePath(name).name] = int(label)
    return lambda file: numbers.get(file.name, _UNLISTED)


def _by_metadata(classes: str, base: Path, layout: Layout) -> Callable[[PurePath], int]:
    n_classes = len(class_list(classes))
    path = base / str(layout.list)
    rows = csv.DictReader(_read(path).splitlines())
    if not {"img_filename", "y"} <= set(rows.fieldnames or ()):
        raise InputError(f"{path}: expected the columns img_filename and y.")
    numbers: dict[str, int] = {}
    for row in rows:
        if row["y"] not in map(str, range(n_classes)):
            raise InputError(f"{path}, line {rows.line_num}: {row['y']!r} is not a class number.")
        numbers[row["img_filename"]] = int(row["y"])
    return lambda file: numbers.get(file.as_posix(), -1)


_LABELLERS: Mapping[str, Callable[[str, Path, Layout], Callable[[PurePath], int]]] = {
    "wnid": _by_wordnet_id,
    "index": _by_number,
    "names": _by_name,
    "prefix": _by_prefix,
    "list": _by_list,
    "metadata": _by_metadata,
}


def _numbers_by_name(classes: str) -> dict[str, int]:
    return {_plain(name): i for i, name in enumerate(class_list(classes))}


def _plain(name: str) -> str:
    """Return letters and digits in lower case, without a number and a dot before them."""
    number, dot, rest = name.partition(".")
    text = rest if dot and number.isdigit() else name
    return "".join(character for character in text.casefold() if character.isalnum())


def _images_below(folder: Path) -> Iterator[PurePath]:
    """Yield image files by extension, relative to the folder, sorted; links are followed once."""
    extensions = {
        name for name, kind in Image.registered_extensions().items() if kind in Image.OPEN
    }
    entered: set[tuple[int, int]] = set()

    def enter(here: str, below: tuple[str, ...]) -> Iterator[PurePath]:
        status = Path(here).stat()
        if (status.st_dev, status.st_ino) in entered:
            return
        entered.add((status.st_dev, status.st_ino))
        try:
            with os.scandir(here) as entries:
                visible = sorted(
                    (entry for entry in entries if not entry.name.startswith(".")),
                    key=lambda entry: entry.name,
                )
        except OSError as error:
            raise InputError(
                f"{here}: the folder cannot be listed ({error.strerror}); make it readable."
            ) from error
        for entry in visible:
            if entry.is_dir():
                yield from enter(entry.path, (*below, entry.name))
            elif os.path.splitext(entry.name)[1].lower() in extensions:  # noqa: PTH122 - speed
                yield PurePath(*below, entry.name)

    yield from enter(str(folder), ())


def _bundled(image_set: ImageSet) -> FoundImages:
    images = [image for image in demo_images() if image.set_name == image_set.bundled]
    labels = None
    if image_set.classes is not None:
        numbers = {name: i for i, name in enumerate(class_list(image_set.classes))}
        labels = [-1 if i.class_name is None else numbers[i.class_name] for i in images]
    return FoundImages(
        folder=images[0].path.parent,
        layout=replace(image_set.layouts[0]),
        paths=[image.path for image in images],
        labels=labels,
        groups=["" for _ in images],
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(f"{path}: the labels cannot be read ({said}).") from error
