"""A two-sample test on each window of W unflagged images against the calibration images."""

from __future__ import annotations

from typing import Any

import numpy as np

from negrefine.monitoring.two_sample import smirnov_tail, spent
from negrefine.monitoring.urn import Cells

MOST_COMPARED = 2000
"""More calibration scores are thinned to a random choice of this many, which costs little power."""


class Windows:
    """Smirnov's exact two-sample test on windows that do not overlap.

    The scores of a window are exchangeable with the n - m calibration scores above the threshold,
    so the p-value of each window is exact, whatever the windows have in common. Where scores tie
    the statistic is compared between ties only, which makes the p-value larger.

    Attributes:
        window: W.
        counts: int64 (C,), images of the unfinished window in each joined cell.
        last: Statistic n W D of the last window, None before.
    """

    def __init__(self, cells: Cells, window: int, seed: int) -> None:
        self.window = window
        n_above = cells.n - cells.low_weight
        compared = np.arange(cells.low_weight + 1, cells.n + 1)
        if n_above > MOST_COMPARED:
            chosen = np.random.default_rng([seed, cells.n]).permutation(n_above)[:MOST_COMPARED]
            compared = compared[np.sort(chosen)]
        self.n = len(compared)
        # Scores that part two cells: images in the joined cells up to `cell` are below them.
        numbers = np.arange(1, self.n + 1)
        parting = np.isin(compared, cells.boundaries)
        self._number = numbers[parting]
        self._cell = cells.joined[compared[parting]]
        self.counts = np.zeros(len(cells.weights), dtype=np.int64)
        self._filled = 0
        self.last: int | None = None
        self._harmless = (0, 1.0)

    @property
    def usable(self) -> bool:
        """Whether there is anything to compare with."""
        return len(self._number) > 0

    def add(self, joined: int) -> bool:
        """Count an unflagged image; return whether a window has been finished."""
        self.counts[joined] += 1
        self._filled += 1
        if self._filled < self.window:
            return False
        below = np.cumsum(self.counts)[self._cell] * self.n
        above = below - self._number * self.window
        # The calibration score itself is <= x at x, and not just below.
        d = max(int(np.abs(above).max()), int(np.abs(above + self.window).max()))
        self.last = d
        self.counts[:] = 0
        self._filled = 0
        return True

    def exceeds(self, alpha: float, j: int) -> bool:
        """Whether the last window, the j-th of all groups, has a p-value within its share."""
        d, level = self.last or 0, spent(alpha, j)
        # p-values fall with d, so that few windows need theirs.
        if d <= self._harmless[0] and self._harmless[1] > level:
            return False
        p = smirnov_tail(d, self.n, self.window)
        if p <= level:
            return True
        self._harmless = max(self._harmless, (d, p))
        return False

    def p_value(self) -> float | None:
        """Return the exact p-value of the last window."""
        return None if self.last is None else smirnov_tail(self.last, self.n, self.window)

    def distance(self) -> float | None:
        """Return Smirnov's D of the last window, 0 to 1."""
        return None if self.last is None else self.last / (self.n * self.window)

    def as_dict(self) -> dict[str, Any]:
        """Return the state as JSON data."""
        used = np.flatnonzero(self.counts)
        return {
            "counts": [[int(cell), int(self.counts[cell])] for cell in used],
            "last": self.last,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Take up what `as_dict` returned; ValueError if it does not fit."""
        counts = np.zeros_like(self.counts)
        for cell, count in content["counts"]:
            if not 0 <= cell < len(counts) or count < 1:
                raise ValueError("the counts of a window do not fit")
            counts[cell] = count
        if counts.sum() >= self.window:
            raise ValueError("a window holds too many images")
        self.counts, self._filled = counts, int(counts.sum())
        self.last = content["last"]
