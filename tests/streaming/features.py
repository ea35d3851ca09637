"""Synthetic unit features: classes, negative labels, and images near either, in stream order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def unit(rows: NDArray[np.float64]) -> Floats:
    scaled: Floats = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return scaled


@dataclass(frozen=True)
class World:
    """Features with d = 16; `is_id` says on which side an image was drawn."""

    classes: Floats
    negatives: Floats
    noise: Floats
    images: Floats
    is_id: NDArray[np.bool_]
    scale: float = 20.0

    def batches(self, size: int) -> list[Floats]:
        return [self.images[i : i + size] for i in range(0, len(self.images), size)]


def world(seed: int, n_classes: int = 6, n_negatives: int = 23, n_images: int = 90) -> World:
    rng = np.random.default_rng(seed)

    def near(rows: Floats, n: int) -> NDArray[Any]:
        return rows[rng.integers(0, len(rows), n)] + 0.28 * rng.normal(size=(n, 16))

    classes = unit(rng.normal(size=(n_classes, 16)))
    negatives = unit(rng.normal(size=(n_negatives, 16)))
    images = np.concatenate([near(classes, n_images // 2), near(negatives[:7], n_images // 2)])
    order = rng.permutation(len(images))
    noise = unit(rng.normal(size=(15, 16)))
    return World(classes, negatives, noise, unit(images[order]), order < n_images // 2)
