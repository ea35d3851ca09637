"""Calibration images that are copies of others, which are no independent draws."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors.conformal import images_needed, threshold_rank, too_few
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.encoders.images import ImageSource


def check_distinct(images: Sequence[ImageSource], fpr: float, delta: float | None) -> list[int]:
    """Return the `first_copies` of calibration images, and warn if some are copies of others.

    Raises InputError if the images that differ are too few for the guarantee.
    """
    from negrefine.encoders.copies import first_copies

    firsts = first_copies(images)
    n = len(set(firsts))
    n_copies = len(images) - n
    if not n_copies:
        return firsts
    copies = f"{n_copies} of the {len(images)} calibration images are copies of others"
    if threshold_rank(n, fpr, delta) == 0:
        raise InputError(f"{copies}. {too_few(n, fpr, delta)}")
    warnings.warn(
        f"{copies}: the guarantee assumes images that were drawn independently; leave copies out.",
        stacklevel=3,
    )
    return firsts


def check_distinct_by_class(
    firsts: Sequence[int],
    classes: NDArray[np.intp],
    class_names: Sequence[str],
    fpr: float,
    delta: float | None,
) -> None:
    """Warn about predicted classes (n,) with enough calibration images only because of copies.

    `firsts` are the `first_copies` of the images.
    """
    needed = images_needed(fpr, delta)
    with_copies = np.bincount(classes, minlength=len(class_names))
    without = np.bincount(classes[np.unique(firsts)], minlength=len(class_names))
    (lacking,) = np.nonzero((with_copies >= needed) & (without < needed))
    if not len(lacking):
        return
    names = ", ".join(
        f"{class_names[k]!r} ({without[k]} of {with_copies[k]} differ)" for k in lacking[:5]
    )
    warnings.warn(
        f"Without copies, {len(lacking)} of the classes would have too few images for a threshold "
        f"of their own, which needs {needed}: {names}{', ...' if len(lacking) > 5 else ''}.",
        stacklevel=3,
    )
