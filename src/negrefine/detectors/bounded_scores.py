"""NegRefine's scores where only the side of a threshold was asked for.

S_MM is in [0, 1], so an image whose S_NegLabel and S_NegLabel + alpha are on one side of the
threshold needs no pair embedding. S_MM is the best of all pairs, so another image is done as soon
as the pairs of one of its class names, the most similar first, carry it over the threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.scores import negrefine_score
from negrefine.errors import InputError
from negrefine.real_arrays import as_real

# Images whose pairs are sought together: more have more pairs in common.
_MATCH_ROWS = 256


@dataclass(frozen=True, eq=False)
class BoundedScores:
    """Scores of n images, some of them only bounds that decide the verdict.

    Attributes:
        values: float64 (n,): the score where `exact`, otherwise a lower bound of it at or above the
            threshold, or an upper bound below the threshold.
        exact: bool (n,).
        threshold: What decided which scores were worth computing, one for all or one for each,
            float64 (n,).
    """

    values: NDArray[np.float64]
    exact: NDArray[np.bool_]
    threshold: float | NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def verdicts(self) -> NDArray[np.int64]:
        """+1 for in-distribution and -1 for out-of-distribution, int64 (n,), the same as exact."""
        return np.where(self.values >= self.threshold, 1, -1)

    @classmethod
    def concatenate(cls, blocks: Sequence[BoundedScores]) -> BoundedScores:
        """Join blocks, one or more, with the same threshold for all images."""
        return cls(
            np.concatenate([block.values for block in blocks]),
            np.concatenate([block.exact for block in blocks]),
            blocks[0].threshold,
        )


def bounded_scores(
    neglabel: NDArray[np.float64],
    alpha: float | NDArray[np.float64],
    threshold: float | NDArray[np.float64],
    *,
    n_ranks: int,
    block: Callable[[NDArray[np.intp]], ImageBlock],
    multi_match: Callable[[ImageBlock, int], NDArray[np.float64]],
) -> BoundedScores:
    """Return scores S_NegLabel + alpha S_MM of n images, or bounds that decide their verdict.

    `alpha` and `threshold` are one for all images or one for each, float64 (n,); InputError for
    another shape of the threshold.
    `multi_match` returns S_MM of a block's pairs with one of the `n_ranks` class names, by rank.
    """
    given = as_real(threshold, "threshold").astype(np.float64)
    if given.shape not in {(), neglabel.shape}:
        raise InputError(
            f"threshold must be one number, or one for each of the {len(neglabel)} images, not "
            f"an array of shape {given.shape}."
        )
    thresholds = np.broadcast_to(given, neglabel.shape)
    alphas = np.broadcast_to(np.asarray(alpha, dtype=np.float64), neglabel.shape)
    lowest, highest = neglabel + np.minimum(alphas, 0), neglabel + np.maximum(alphas, 0)
    values = np.where(lowest >= thresholds, lowest, highest)
    exact = lowest == highest
    (undecided,) = np.nonzero((lowest < thresholds) & (highest >= thresholds))
    for start in range(0, len(undecided), _MATCH_ROWS):
        rows = undecided[start : start + _MATCH_ROWS]
        images = block(rows)
        s_mm = np.zeros(len(rows))
        left = np.arange(len(rows))
        for rank in range(n_ranks):
            exact[rows[left]] = rank == n_ranks - 1
            s_mm[left] = np.maximum(s_mm[left], multi_match(images.take(left), rank))
            own = alphas[rows[left]]
            score = negrefine_score(neglabel[rows[left]], s_mm[left], own)
            below = score < thresholds[rows[left]]
            left = left[np.where(own > 0, below, ~below)]
            if not len(left):
                break
        values[rows] = negrefine_score(neglabel[rows], s_mm, alphas[rows])
    return BoundedScores(values, exact, given if given.ndim else float(given))
