"""What the parts of a saved detector may be, declared once and checked when it is read.

A checksum says that a file is what was written, not that what was written makes sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negrefine.constraints import Constraint, Fields, Number, Text
from negrefine.detectors.thresholds import check_by
from negrefine.errors import InputError
from negrefine.labels.class_names import usable_class_names
from negrefine.labels.prompts import Prompts

# Single precision is a thousand times better.
_LENGTH_TOLERANCE = 1e-3


def _check_class_names(name: str, value: Any) -> None:
    if not isinstance(value, list):
        raise InputError(f"{name} must be a list, not {value!r}.")
    usable_class_names(value)


def _check_prompts(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise InputError(f"{name} must be an object, not {value!r}.")
    Prompts(**value)


FACTS = Fields(
    {
        "method": Text(),
        "parameters": Fields({}),
        "prompts": _check_prompts,
        "encoder": Fields(
            {
                "name": Text(),
                "options": Fields({}),
                "fingerprint": Text(),
                "logit_scale": Number("be a positive number", low=0),
            }
        ),
        "class_names": _check_class_names,
        "offset": Number("be a finite number or null", optional=True),
    }
)
"""The fields of detector.json that say what the detector is."""

CALIBRATION = Fields(
    {
        "fpr": Number("lie in (0, 1)", low=0, high=1),
        "delta": Number("lie in (0, 1) or be null", low=0, high=1, optional=True),
        "by": lambda _, value: check_by(value),
    }
)
"""The field "calibration" of detector.json, which detectors without a calibration do not have."""


@dataclass(frozen=True, slots=True)
class UnitRows:
    """float32 (n, d), rows of length one.

    Attributes:
        n: Number of rows.
        of: What they belong to, one each.
        dim: d, any if None.
    """

    n: int
    of: str
    dim: int | None = None

    def __call__(self, name: str, value: NDArray[Any]) -> None:
        """Raise `InputError` for anything else."""
        if value.dtype != np.float32 or value.ndim != 2:
            raise InputError(
                f"{name} must be float32 in two dimensions, not {value.dtype} in {value.ndim}."
            )
        if len(value) != self.n:
            raise InputError(
                f"{name} has {len(value)} rows for {self.n} {self.of}: they differ in number."
            )
        if value.shape[1] != (self.dim or value.shape[1]) or not value.shape[1]:
            raise InputError(f"{name} has rows of {value.shape[1]} numbers, not {self.dim}.")
        # False for NaN, too.
        if not (np.abs(np.linalg.norm(value, axis=1) - 1) < _LENGTH_TOLERANCE).all():
            raise InputError(f"{name} has rows that are not of length one.")


def check_sorted_scores(name: str, value: NDArray[Any]) -> None:
    """Raise InputError for what is not float64 (n,), finite and sorted, n at least one."""
    if value.dtype != np.float64 or value.ndim != 1 or not len(value):
        raise InputError(f"{name} must be float64 in one dimension, and not empty.")
    if not np.isfinite(value).all():
        raise InputError(f"{name} must be finite.")
    if (np.diff(value) < 0).any():
        raise InputError(f"{name} are not sorted.")


def saved_scores(
    arrays: Mapping[str, NDArray[Any]], n_classes: int
) -> tuple[NDArray[np.float64] | None, NDArray[np.intp] | None]:
    """Return the saved calibration scores and the predicted classes of their images, if any.

    Raises InputError for scores that `check_sorted_scores` refuses, and for classes that are not
    int64 (n,), one for each score, each the index of a class name.
    """
    scores, classes = arrays.get("calibration_scores"), arrays.get("calibration_classes")
    if scores is not None:
        check_sorted_scores("calibration_scores", scores)
    if classes is None:
        return scores, None
    n = 0 if scores is None else len(scores)
    if classes.dtype != np.int64 or classes.shape != (n,) or not n:
        raise InputError(f"calibration_classes must be int64, one for each of {n} scores.")
    if not (classes.min() >= 0 and classes.max() < n_classes):
        raise InputError(f"calibration_classes must be from 0 to {n_classes - 1}.")
    return scores, classes.astype(np.intp)


def checked(arrays: Mapping[str, NDArray[Any]], name: str, constraint: Constraint) -> Any:
    """Return one of the saved arrays.

    Raises:
        InputError: It is missing, or its constraint refuses it.
    """
    if name not in arrays:
        raise InputError(f"{name} is missing.")
    constraint(name, arrays[name])
    return arrays[name]
