"""Sets of image files, with true classes where they are known."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from negrefine.encoders.base import Encoder, FloatArray
from negrefine.encoders.batches import iter_encoded_images
from negrefine.encoders.image_files import find_grouped_images
from negrefine.errors import ImageError, InputError
from negrefine.progress import progress_bar
from negrefine.sources.base import Shard
from negrefine.sources.opening import Source, is_local, open_sources
from negrefine.sources.table import TableShard
from negrefine.sources.tar import TarShard
from negrefine.sources.urls import path_of


@dataclass(frozen=True)
class ImageSet:
    """One set of n image files; in tables the in-distribution set is called "ID", not `name`.

    `labels` are indices of true class names, -1 unknown; None: all unknown. `groups` name the part
    of the set that each image belongs to; None: no parts.
    """

    name: str
    paths: list[Path]
    labels: list[int] | None = None
    groups: list[str] | None = None

    def __post_init__(self) -> None:
        # Paths may be given as text.
        object.__setattr__(self, "paths", [Path(path) for path in self.paths])

    def check(self, n_classes: int) -> None:
        """Raise InputError for a set that cannot be evaluated with this number of classes."""
        if not self.paths:
            raise InputError(f"{self.name} has no images: give at least one.")
        for what, values in (("labels", self.labels), ("groups", self.groups)):
            if values is not None and len(values) != len(self.paths):
                raise InputError(
                    f"{self.name} has {len(self.paths)} images and {len(values)} {what}: give one "
                    "for each image."
                )
        if self.labels and not all(-1 <= label < n_classes for label in self.labels):
            raise InputError(f"A label of {self.name} is not in -1 to {n_classes - 1}.")


def find_image_set(
    name: str,
    root: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    class_names: Sequence[str] | None = None,
) -> ImageSet:
    """Find images in a folder, by a pattern, or among several of them; see `find_images`.

    An image's group is the folder just below the one that is named, "" for none; for a pattern,
    the folder below its part without `*`, `?` and `[`, or else the folder that the image is in, as
    for a file that is named. An image in a folder with one of the class names, up to case and "_"
    for spaces, gets its label. InputError if a path is missing or holds no image.
    """
    paths, groups = find_grouped_images(root)
    if class_names is None:
        return ImageSet(name, paths, None, groups)
    # Of equal names the first counts, as an argmax over classes takes it.
    number = {_simplified(n): i for i, n in reversed(list(enumerate(class_names)))}
    return ImageSet(name, paths, [number.get(_simplified(g), -1) for g in groups], groups)


@dataclass(frozen=True)
class SourceSet:
    """One set of images that are read once, from any sources; their names come with them.

    An image of an archive belongs to the group of the first folder in its name there, others to
    that of the folder they are in. Groups that are named like a class, up to case and "_" for
    spaces, give labels.
    """

    name: str
    shards: list[Shard]
    class_names: Sequence[str] = ()

    def check(self, n_classes: int) -> None:
        """Raise InputError for a set without shards, whatever the number of classes."""
        del n_classes
        if not self.shards:
            raise InputError(f"{self.name} has no images: give at least one.")

    def groups_and_labels(self, names: Sequence[str]) -> tuple[list[str], list[int]]:
        """Return the group and label of each image, -1 for none."""
        archives = tuple(
            f"{shard.name}/" for shard in self.shards if isinstance(shard, (TarShard, TableShard))
        )
        groups = [_group_of(name, archives) for name in names]
        number = {_simplified(n): i for i, n in reversed(list(enumerate(self.class_names)))}
        return groups, [number.get(_simplified(group), -1) for group in groups]


def find_source_set(
    name: str,
    sources: Source | Sequence[Source],
    class_names: Sequence[str] = (),
    *,
    image_column: str | None = None,
) -> ImageSet | SourceSet:
    """Return the set of images of any sources, as `find_image_set` where all are local files."""
    given = [sources] if isinstance(sources, (str, os.PathLike)) else list(sources)
    if all(is_local(os.fspath(each)) for each in given):
        return find_image_set(name, given, class_names)
    return SourceSet(name, open_sources(given, image_column=image_column), class_names)


def encode_readable(
    encoder: Encoder,
    paths: Sequence[Path],
    *,
    description: str = "Encoding images",
    batch_size: int = 64,
    progress: bool = False,
) -> tuple[FloatArray, list[ImageError]]:
    """Encode the image files that can be read, under a progress bar with this description.

    Returns float32 (n_readable, d) in order, and the errors of the others. InputError if there are
    no images, or none that can be read.
    """
    features, errors = encode_or_fail(
        encoder, paths, description=description, batch_size=batch_size, progress=progress
    )
    return features, [error for error in errors if error is not None]


def encode_or_fail(
    encoder: Encoder,
    paths: Sequence[Path],
    *,
    description: str = "Encoding images",
    batch_size: int = 64,
    progress: bool = False,
) -> tuple[FloatArray, list[ImageError | None]]:
    """Do what `encode_readable` does, with an error for each image, None of readable ones."""
    if not paths:
        raise InputError("There are no images to encode: give at least one.")
    features: list[FloatArray] = []
    errors: list[ImageError | None] = []
    with progress_bar(description, len(paths), enabled=progress) as advance:
        for batch in iter_encoded_images(encoder, paths, batch_size):
            features.append(batch.features)
            errors += batch.errors
            advance(len(batch.errors))
    if None not in errors:
        raise InputError(f"None of the {len(paths)} images can be read; the first: {errors[0]}")
    return np.concatenate(features), errors


def _simplified(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()


def _group_of(name: str, archives: tuple[str, ...]) -> str:
    for archive in archives:
        if name.startswith(archive):
            inside = PurePosixPath(name.removeprefix(archive)).parts
            return inside[0] if len(inside) > 1 else ""
    return PurePosixPath(path_of(name)).parent.name
