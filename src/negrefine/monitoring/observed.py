"""What is given to a monitor, checked before anything is counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negrefine.errors import InputError
from negrefine.monitoring.calibration import MonitoredCalibration
from negrefine.real_arrays import as_real


class ObservedError(InputError):
    """One of the given images is not what this detector makes.

    Attributes:
        position: Its position among the given ones.
        problem: What is wrong, as a sentence.
    """

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(f"Image {position} of those given: {problem}")
        self.position, self.problem = position, problem


def checked_cells(
    p_values: ArrayLike,
    groups: NDArray[np.intp] | None,
    sizes: Sequence[tuple[int, int]],
    flagged: ArrayLike | None,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the cells k of p-values (m,), int64 in 1..n+1, and whether each is flagged.

    `groups` is the group of each and `sizes` the n and rank of each group. Raises InputError.
    """
    values = as_real(p_values, "p_values").astype(np.float64)
    if values.ndim != 1:
        raise InputError(f"p_values must be in one dimension, not {values.ndim}.")
    if groups is None and len(sizes) > 1:
        raise InputError(
            "classes must be given: the thresholds of this detector depend on the nearest class."
        )
    own = np.array(sizes, dtype=np.int64)[
        np.zeros(len(values), np.intp) if groups is None else groups
    ]
    whole = own[:, 0] + 1.0
    with np.errstate(invalid="ignore"):
        scaled = values * whole
        nearest = np.rint(scaled)
        # float32 keeps seven digits.
        fits = (abs(scaled - nearest) <= np.minimum(1e-6 * whole, 0.25)) & (nearest >= 1)
        fits &= nearest <= whole
    if not fits.all():
        i = int(np.argmin(fits))
        raise ObservedError(
            i,
            f"no image has the p-value {values[i]:g}; this detector's are multiples of "
            f"1/{int(whole[i])} up to 1, so it is of another detector or calibration.",
        )
    cells = nearest.astype(np.int64)
    flags = cells <= own[:, 1]
    if flagged is not None:
        _check_flags(flagged, flags, values)
    return cells, flags


def _check_flags(flagged: ArrayLike, flags: NDArray[np.bool_], values: NDArray[np.float64]) -> None:
    given = np.asarray(flagged)
    if given.dtype != np.bool_ or given.shape != flags.shape:
        raise InputError(f"flagged must be bool ({len(flags)},), one for each p-value.")
    if (given != flags).any():
        i = int(np.argmax(given != flags))
        raise ObservedError(
            i,
            f"it was {'flagged' if given[i] else 'not flagged'}, and by its p-value "
            f"{values[i]:g} it is {'flagged' if flags[i] else 'not flagged'}; it was judged with "
            "another threshold.",
        )


def checked_classes(
    calibration: MonitoredCalibration, classes: ArrayLike | Sequence[str] | None, n: int
) -> NDArray[np.intp] | None:
    """Return the indices (n,) of classes that are given as names or indices; InputError."""
    if classes is None:
        return None
    array = np.asarray(classes)
    if array.shape != (n,):
        raise InputError(f"classes must be the nearest class of each of the {n} images, ({n},).")
    if not n:
        return np.zeros(0, np.intp)
    n_classes = len(calibration.class_names)
    if array.dtype.kind in "iu":
        if array.min() < 0 or array.max() >= n_classes:
            raise InputError(
                f"classes must be indices of class names, 0 to {n_classes - 1}, not "
                f"{array.min()} to {array.max()}."
            )
        return array.astype(np.intp)
    if array.dtype.kind not in "UO":
        raise InputError("classes must be names or indices of the nearest classes.")
    indices = [_index_of(i, name, calibration) for i, name in enumerate(array.tolist())]
    return np.array(indices, np.intp)


def _index_of(position: int, name: Any, calibration: MonitoredCalibration) -> int:
    if not isinstance(name, str) or name not in calibration.index_of_name:
        raise ObservedError(position, f"{name!r} is no class name of this detector.")
    if name in calibration.ambiguous_names:
        raise ObservedError(
            position,
            f"the class name {name!r} occurs more than once, with different thresholds; give "
            "indices.",
        )
    return calibration.index_of_name[name]
