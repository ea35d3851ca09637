"""A block of images as the scores see it: features and their cosines with names and labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import Self

from negrefine.encoders.base import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    from negrefine.labels.negatives import Negatives


@dataclass(eq=False, repr=False)
class ImageBlock:
    """Features of n images; cosines are computed when they are first asked for.

    Attributes:
        features: float64 (n, d), rows of length one.
        patches: float32 (n, p, d), not normalised, or None.
        class_features: float32 (K, d), rows of length one.
    """

    features: Tensor
    patches: FloatArray | None
    class_features: FloatArray
    _negatives: Negatives | None

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def classes(self) -> Tensor:
        """Cosines with the class names, float64 (n, K)."""
        return self.cosines(self.class_features)

    @cached_property
    def negatives(self) -> Tensor:
        """Cosines with the kept negative labels, float64 (n, M)."""
        if self._negatives is None:
            raise AttributeError("this detector has no negative labels")
        return self.features @ self._negatives.matrix

    def cosines(self, features: FloatArray) -> Tensor:
        """Return the cosines with float32 (m, d) features of length one, float64 (n, m)."""
        return self.features @ as_double(features).T

    def take(self, rows: Any) -> ImageBlock:
        """Return the block of some images, by an index array or slice; known cosines are kept."""
        patches = None if self.patches is None else self.patches[rows]
        block = ImageBlock(self.features[rows], patches, self.class_features, self._negatives)
        known = {n: self.__dict__[n][rows] for n in ("classes", "negatives") if n in self.__dict__}
        return block.with_cosines(**known)

    def with_cosines(self, **known: Tensor) -> Self:
        """Take up the cosines `classes`, `negatives` or both, which then are not computed again."""
        self.__dict__.update(known)
        return self


def as_double(features: FloatArray) -> Tensor:
    """Return a float64 tensor, so that sums over thousands of labels add no rounding noise."""
    import torch

    return torch.from_numpy(features).double()


def unit_rows(features: FloatArray) -> Tensor:
    """Return features (..., d) as float64 with rows of length one; a zero row stays zero."""
    return of_length_one(as_double(np.ascontiguousarray(features)))


def of_length_one(rows: Tensor) -> Tensor:
    """Return rows (..., d) divided by their lengths; a zero row stays zero."""
    tiny = float(np.finfo(np.float32).tiny)
    lengths: Tensor = rows.norm(dim=-1, keepdim=True).clamp_min(tiny)
    return rows / lengths


def largest(similarity: Tensor, top: int) -> Iterator[tuple[int, float]]:
    """Yield (index, cosine) of the `top` largest of m cosines, best first, ties in order."""
    values = similarity.numpy()
    for i in np.argsort(-values, kind="stable")[:top]:
        yield int(i), float(values[i])
