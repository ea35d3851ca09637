"""The Pólya urn of conformal ranks: exactly uniform numbers from p-values of one calibration set.

n calibration scores cut the line into cells 1..n+1, and a p-value k / (n + 1) says that the score
of an image is in cell k. Given the calibration scores, successive images fall into the cells as
independent draws with probabilities that nobody knows. They are no equal probabilities, so the
p-values are no independent uniform numbers, and whoever takes them for such raises false alarms.

Over calibration set and stream together, if all images are exchangeable and no scores tie, the
cells follow a Pólya urn: P(cell t = k | earlier cells) = (1 + c_k) / (n + t), with c_k the number
of the t - 1 earlier images in cell k (the cell probabilities are Dirichlet(1, ..., 1)). Therefore

    u_t = (mass below k + U mass of k) / total mass,  U uniform on (0, 1),

are independent and exactly uniform: they are the smoothed p-values of online conformal prediction
(Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005, theorem 2.8 of chapter
2), with the order within a cell, which the cells do not tell, drawn at random. The urn is neutral:
given which images fall below a cell boundary, the others follow the urn of the cells above it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells between n calibration scores, joined where ties leave their law open.

    Calibration scores that tie are an atom of the distribution, which images may hit too, and a
    p-value does not say whether one did: b tied scores join the b + 1 cells around and between
    them. The joined cells are a cell of weight b + 1 in the urn of ranks with ties broken at
    random. As the scores say which cells are joined, that is not quite the law: with a share q of
    images in the atom, the first one is in its cell with a chance that is larger by up to
    q / (n + 1).

    Attributes:
        n: Number of calibration scores.
        joined: int64 (n + 2,), the index of the joined cell of each cell k = 1..n+1; entry 0 is
            unused.
        weights: int64 (C,), the number of cells that each was joined from, with sum n + 1.
        low: The joined cells 0..low-1 hold cells k <= `rank` only: their images are flagged.
        low_weight: The number of cells in these.
    """

    n: int
    joined: Counts
    weights: Counts
    low: int
    low_weight: int

    @classmethod
    def between(cls, scores: NDArray[np.float64], rank: int = 0) -> Cells:
        """Make the cells between sorted scores (n,); images in cells 1..rank are flagged."""
        n = len(scores)
        tied = np.diff(scores) == 0
        # Score j (from 1) parts the cells j and j + 1 unless it ties with a neighbour.
        parts = np.ones(n, dtype=bool)
        parts[1:] &= ~tied
        parts[:-1] &= ~tied
        joined = np.zeros(n + 2, dtype=np.int64)
        joined[2:] = np.cumsum(parts)
        weights = np.bincount(joined[1:])
        low = int(np.searchsorted(np.cumsum(weights), rank, side="right"))
        return cls(n, joined, weights, low, int(weights[:low].sum()))

    @property
    def boundaries(self) -> NDArray[np.intp]:
        """The scores, numbered from 1, that part two cells, intp (C - 1,)."""
        return np.flatnonzero(np.diff(self.joined[1:])) + 1


class Urn:
    """What has fallen into cells so far, and the next uniform number.

    Attributes:
        cells: The cells.
        counts: int64 (C,), images in each joined cell.
    """

    def __init__(self, cells: Cells, counts: Counts | None = None) -> None:
        self.cells = cells
        self.counts = np.zeros(len(cells.weights), dtype=np.int64) if counts is None else counts
        self._mass = cells.weights + self.counts
        self._low = int(self._mass[: cells.low].sum())
        self._total = int(self._mass.sum())

    @property
    def low_share(self) -> float:
        """P(the next image falls into a low cell | those so far)."""
        return self._low / self._total

    @property
    def n_low(self) -> int:
        """Number of images in low cells."""
        return self._low - self.cells.low_weight

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self._total - self.cells.n - 1

    def place(self, k: int, uniform: float) -> float:
        """Return the uniform number of an image in cell k = 1..n+1 and count the image.

        It is the number within all cells for an urn without low cells, and else within the low
        cells or the others, whichever k is in.
        """
        joined = int(self.cells.joined[k])
        low = self.cells.low
        is_low = joined < low
        start, total = (0, self._low) if is_low else (low, self._total - self._low)
        below = int(self._mass[start:joined].sum())
        here = int(self._mass[joined])
        self.counts[joined] += 1
        self._mass[joined] += 1
        self._total += 1
        self._low += is_low
        return (below + uniform * here) / total
