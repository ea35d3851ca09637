"""Images that are in-distribution and out-of-distribution at once, by mistake."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
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
        both = [path for path, i in zip(paths, first, strict=True) if i < len(given)]
        if not both:
            continue
        found = (
            f"{len(both)} of {len(paths)} images of the OOD set {name!r} are {kind} images too, "
            f"the first: {visible(str(both[0]))}"
        )
        if 2 * len(both) > len(paths):
            raise InputError(f"{found}: name another folder.")
        warnings.warn(f"{found}: leave them out of one of the sets.", stacklevel=3)
