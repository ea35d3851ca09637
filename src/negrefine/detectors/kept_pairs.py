"""The pairs that a detector keeps with their embeddings, so that they are encoded nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from negrefine.constraints import Constraint
from negrefine.detectors.saved_form import UnitRows, checked
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError

MOST_KEPT = 4096
"""Pairs that a detector keeps at most: 8 MB at d = 512."""


@dataclass(frozen=True)
class KeptPairs:
    """n pairs of class names and kept negative labels, most asked first.

    Attributes:
        class_index: int64 (n,), indices in the detector's `class_names_`.
        negative_index: int64 (n,), indices in its `negatives_.texts`.
        asked: int64 (n,), for how many images each was among their k x k pairs.
        features: float32 (n, d), rows of length one.
    """

    class_index: NDArray[np.int64]
    negative_index: NDArray[np.int64]
    asked: NDArray[np.int64]
    features: FloatArray

    def __len__(self) -> int:
        """Return n."""
        return len(self.class_index)

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """Return what `from_arrays` takes, nothing if there are no pairs."""
        if not len(self):
            return {}
        return {
            "pair_features": self.features,
            "pair_members": np.stack([self.class_index, self.negative_index], axis=1),
            "pair_asked": self.asked,
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], n_classes: int, n_negatives: int, dim: int
    ) -> Self | None:
        """Return the pairs among the saved arrays of a detector, None if it keeps none.

        Raises InputError for arrays that do not fit to each other or to the detector.
        """
        if "pair_features" not in arrays:
            return None
        members = checked(arrays, "pair_members", _members(n_classes, n_negatives))
        n = len(members)
        asked = checked(arrays, "pair_asked", _counts(n))
        features = checked(arrays, "pair_features", UnitRows(n, "pairs", dim))
        return cls(members[:, 0], members[:, 1], asked, features)


def _members(n_classes: int, n_negatives: int) -> Constraint:
    def check(name: str, value: NDArray[Any]) -> None:
        if value.dtype != np.int64 or value.ndim != 2 or value.shape[1] != 2:
            raise InputError(f"{name} must be int64 of shape (n, 2).")
        if (value < 0).any() or (value >= (n_classes, n_negatives)).any():
            raise InputError(
                f"{name} must be indices of {n_classes} class names and {n_negatives} labels."
            )
        if len(np.unique(value, axis=0)) != len(value):
            raise InputError(f"{name} has a pair twice.")

    return check


def _counts(n: int) -> Constraint:
    def check(name: str, value: NDArray[Any]) -> None:
        if value.dtype != np.int64 or value.shape != (n,) or (value < 0).any():
            raise InputError(f"{name} must be int64, a count for each of {n} pairs.")

    return check
