"""What an evaluation over streams measures, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Spread:
    """A metric over stream seeds, a fraction.

    Attributes:
        mean: Over the seeds.
        std: Standard deviation (n - 1); None with one seed.
        worst: The worst of the seeds: the lowest AUROC, the highest rate.
    """

    mean: float
    std: float | None
    worst: float

    @classmethod
    def of(cls, values: Sequence[float], *, larger_is_better: bool = False) -> Spread | None:
        """Return the spread of one value for each seed, None without values."""
        if not len(values):
            return None
        array = np.asarray(values, dtype=np.float64)
        std = float(array.std(ddof=1)) if len(array) > 1 else None
        worst = array.min() if larger_is_better else array.max()
        return cls(float(array.mean()), std, float(worst))


@dataclass(frozen=True, slots=True)
class StreamRow:
    """One method in streams of one kind, against one OOD set or "mean" over them.

    Attributes:
        method: Row of the table.
        learns: Whether its score depends on the stream; if not, only the images drawn vary.
        order: "shuffled", "mixed" or "bursts".
        ratio: "natural", "none", or ID to OOD as in "100:1".
        batch_size: Images in a batch.
        ood_set: Name of the set, "mean" of all, or "" for streams without OOD images.
        n_id: ID images in the stream.
        n_ood: OOD images of this set in the stream; of all sets for "mean" of mixed streams.
        auroc: In-distribution positive; None without OOD images.
        fpr95: The papers' definition; None without OOD images.
        false_alarms: Fraction of the ID images that are flagged by a threshold that was calibrated
            at the start of the stream; None with too few ID images. See `streams`.
    """

    method: str
    learns: bool
    order: str
    ratio: str
    batch_size: int
    ood_set: str
    n_id: int
    n_ood: int
    auroc: Spread | None
    fpr95: Spread | None
    false_alarms: Spread | None
