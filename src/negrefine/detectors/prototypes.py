"""AdaNeg's prototypes: the text of a label moved towards the images that chose it.

AdaNeg, NeurIPS 2024, arXiv 2410.20149. Only labels that have images are computed; the prototype of
any other label is its text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors.image_block import as_double
from negrefine.encoders.base import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

# Labels whose images are unpacked at a time: 512 x 10 x 512 x 8 bytes = 21 MB.
_LABELS = 512


def adapted_cosines(
    features: Tensor,
    cosines: Tensor,
    texts: FloatArray,
    owners: NDArray[np.int64],
    rows: FloatArray,
    beta: float | None,
) -> Tensor:
    """Return cosines with prototypes in place of texts, float64 (n, K).

    With t the text of a label and x_1, ..., x_r its images, the prototype is t + sum_i x_i ("task")
    or, for an image x, the sum of e^(-beta (1 - x.y)) y over y = t, x_1, ..., x_r ("sample"), each
    divided by its length.

    Args:
        features: float64 (n, d), rows of length one.
        cosines: float64 (n, K), of the features with the texts.
        texts: float32 (K, d), rows of length one.
        owners: int64 (R,), ascending, the label of each stored image.
        rows: float32 (R, d), the stored images, rows of length one.
        beta: Sharpness of the weights in sample mode; None for task mode.
    """
    result = cosines.clone()
    for labels, slots in _slots(texts, owners, rows):
        if beta is None:
            prototypes = slots.sum(dim=1)
            lengths = prototypes.norm(dim=-1, keepdim=True).clamp_min(_TINY)
            result[:, labels] = features @ (prototypes / lengths).T
        else:
            result[:, labels] = _sample_cosines(features, slots, beta)
    return result


_TINY = float(np.finfo(np.float32).tiny)


def _slots(
    texts: FloatArray, owners: NDArray[np.int64], rows: FloatArray
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Yield labels (f,) and their text and images, float64 (f, s, d); zero rows fill up."""
    labels, starts, counts = np.unique(owners, return_index=True, return_counts=True)
    for first in range(0, len(labels), _LABELS):
        chosen = slice(first, first + _LABELS)
        shape = (len(labels[chosen]), 1 + int(counts[chosen].max()), texts.shape[1])
        slots = np.zeros(shape, dtype=np.float32)
        slots[:, 0] = texts[labels[chosen]]
        begin = int(starts[chosen][0])
        end = begin + int(counts[chosen].sum())
        label_of = np.repeat(np.arange(shape[0]), counts[chosen])
        place = np.arange(begin, end) - starts[chosen][label_of]
        slots[label_of, 1 + place] = rows[begin:end]
        yield labels[chosen], as_double(slots)


def _sample_cosines(features: Tensor, slots: Tensor, beta: float) -> Tensor:
    """Return the cosines (n, f) with each image's own prototypes."""
    n_labels, n_slots, dim = slots.shape
    cosines = (features @ slots.reshape(-1, dim).T).reshape(-1, n_labels, n_slots)
    # Rows that fill up are zeros, whose weights change nothing below.
    weights = (beta * (cosines - 1)).exp()
    # |sum_s w_s y_s|^2 = w' Y Y' w, so no image needs prototypes of d numbers.
    by_label = weights.transpose(0, 1)
    gram = slots @ slots.transpose(1, 2)
    squared = ((by_label @ gram) * by_label).sum(dim=-1).T
    result: Tensor = (weights * cosines).sum(dim=-1) / squared.clamp_min(_TINY).sqrt()
    return result
