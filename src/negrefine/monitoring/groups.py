"""Images that share a threshold: their urn, their flags and their windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from negrefine.monitoring.calibration import MonitoredCalibration, MonitoredGroup
from negrefine.monitoring.classes import is_exact
from negrefine.monitoring.two_sample import beta_binomial_tails, two_sided
from negrefine.monitoring.urn import Cells, Urn
from negrefine.monitoring.windows import Windows


class Group:
    """What was seen of the images of one threshold.

    Attributes:
        kind: "all", "class" or "pooled".
        n: Number of calibration scores that images are ranked among.
        rank: An image is flagged if its cell is <= rank.
        exact: Whether the urn's law is exact; it is not for a pool of several classes.
        urn: The urn.
        windows: The windows of unflagged images.
        n_flagged: Flagged images.
    """

    def __init__(
        self, calibration: MonitoredCalibration, group: MonitoredGroup, window: int, seed: int
    ) -> None:
        self.kind = group.kind
        self.n, self.rank = len(group.members), group.rank
        self.exact = is_exact(group.kind, len(group.classes), len(calibration.class_names))
        ranks = np.array(calibration.ranks, dtype=np.float64)[list(group.members)]
        cells = Cells.between(ranks, group.rank)
        self.urn = Urn(cells)
        self.windows = Windows(cells, window, seed)
        self.n_flagged = 0

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self.urn.n_images

    @property
    def tests_flags(self) -> bool:
        """Whether the number of flagged images has a known law."""
        return self.exact and 0 < self.urn.cells.low < len(self.urn.cells.weights)

    @property
    def tests_windows(self) -> bool:
        """Whether windows of unflagged images have something to compare with."""
        return self.exact and self.windows.usable

    def flag_p_value(self) -> float | None:
        """Return the exact two-sided p-value of the number of flagged images, for one look."""
        if not self.tests_flags or not self.n_images:
            return None
        # Where calibration scores tie at the threshold, flags below the ties are counted.
        cells = self.urn.cells
        return two_sided(
            beta_binomial_tails(self.urn.n_low, self.n_images, cells.low_weight, self.n)
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the state as JSON data."""
        return {
            "counts": self.urn.counts.tolist(),
            "n_flagged": self.n_flagged,
            "windows": self.windows.as_dict(),
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Take up what `as_dict` returned; ValueError if it does not fit."""
        self.urn = restored_urn(self.urn, content["counts"])
        self.n_flagged = int(content["n_flagged"])
        self.windows.restore(content["windows"])


def restored_urn(urn: Urn, counts: Any) -> Urn:
    """Return an urn with other counts; ValueError if they do not fit."""
    array = np.array(counts, dtype=np.int64)
    if array.shape != urn.counts.shape or (array < 0).any():
        raise ValueError("the counts of cells do not fit")
    return Urn(urn.cells, array)
