"""Scores where only the side of a threshold was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class BoundedScores:
    """Scores of n images, some of them only bounds that decide the verdict.

    Attributes:
        values: float64 (n,): the score where `exact`, otherwise a lower bound of it at or above the
            threshold, or an upper bound below the threshold.
        exact: bool (n,).
        threshold: What decided which scores were worth computing.
    """

    values: NDArray[np.float64]
    exact: NDArray[np.bool_]
    threshold: float

    def __len__(self) -> int:
        return len(self.values)

    @property
    def verdicts(self) -> NDArray[np.int64]:
        """+1 for in-distribution and -1 for out-of-distribution, int64 (n,), the same as exact."""
        return np.where(self.values >= self.threshold, 1, -1)

    @classmethod
    def concatenate(cls, blocks: Sequence[BoundedScores]) -> BoundedScores:
        """Join blocks, one or more, with the same threshold."""
        return cls(
            np.concatenate([block.values for block in blocks]),
            np.concatenate([block.exact for block in blocks]),
            blocks[0].threshold,
        )
