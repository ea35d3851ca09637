"""Images that are in-distribution and out-of-distribution at once, by mistake."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from negrefine.encoders.copies import first_copies
from negrefine.errors import InputError
from negrefine.shown_text import visible


def check_apart(
    images: Sequence[Path],
    ood_images: Mapping[str, Sequence[Path]],
    kind: str = "in-distribution",
) -> None:
    """Check that no image of an OOD set, by name, is one of some others too, by content.

    `kind` is how sentences call the others. A few such images give a warning. Raises InputError if
    more than half of a set are.
    """
    given = dict.fromkeys(images)
    for name, paths in ood_images.items():
        first = first_copies([*given, *paths])[len(given) :]
        both = [str(path) for path, i in zip(paths, first, strict=True) if i < len(given)]
        _complain(name, both, len(paths), kind)


def check_contents_apart(
    id_contents: Collection[bytes],
    ood_images: Mapping[str, tuple[Sequence[str], Sequence[bytes]]],
) -> None:
    """Do what `check_apart` does, with names and digests of images that were read before."""
    given = set(id_contents)
    for name, (names, contents) in ood_images.items():
        both = [each for each, content in zip(names, contents, strict=True) if content in given]
        _complain(name, both, len(contents), "in-distribution")


def _complain(name: str, both: Sequence[str], n: int, kind: str) -> None:
    if not both:
        return
    found = (
        f"{len(both)} of {n} images of the OOD set {name!r} are {kind} images too, the "
        f"first: {visible(both[0])}"
    )
    if 2 * len(both) > n:
        raise InputError(f"{found}: name another folder.")
    warnings.warn(f"{found}: leave them out of one of the sets.", stacklevel=4)
