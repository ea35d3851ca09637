"""The last L activations of candidate labels, in a ring: TANL averages them and nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from negrefine.encoders.base import FloatArray


class LabelQueue:
    """float32 (L, N) that is allocated once: 84 MB for 300 x 70,000.

    Attributes:
        rows: The ring; the first `count` rows are in use.
        count: Rows in use.
        place: Where the next row goes.
    """

    def __init__(self, length: int, n_candidates: int) -> None:
        self.rows: FloatArray = np.zeros((length, n_candidates), dtype=np.float32)
        self.count = self.place = 0
        self._mean: NDArray[np.float64] | None = None

    def clear(self) -> None:
        """Forget all rows; the memory stays."""
        self.count = self.place = 0
        self._mean = None

    def append(self, rows: FloatArray) -> None:
        """Append rows (m, N), of which the last L stay."""
        length = len(self.rows)
        for row in rows[-length:]:
            self.rows[self.place] = row
            self.place = (self.place + 1) % length
            self.count = min(self.count + 1, length)
        if len(rows):
            self._mean = None

    def mean(self) -> NDArray[np.float64]:
        """Return the mean of the rows, float64 (N,)."""
        if self._mean is None:
            self._mean = self.rows[: self.count].mean(axis=0, dtype=np.float64)
        return self._mean

    @property
    def in_order(self) -> FloatArray:
        """The rows from the oldest to the newest, float32 (count, N)."""
        first = self.place if self.count == len(self.rows) else 0
        return np.roll(self.rows[: self.count], -first, axis=0)
