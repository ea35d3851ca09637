"""TANL's noise images, which stand for outliers until the stream brings some."""

from __future__ import annotations

import numpy as np
from PIL import Image

_OF_EACH, _SIZE = 3, 224


def noise_images(seed: int = 0) -> list[Image.Image]:
    """Return 15 images of 224 x 224: Gaussian, uniform, Poisson, Gamma, salt-and-pepper, 3 each.

    The Gaussian, Poisson(5) and Gamma(2) values are scaled to 0..1 over the three images of a kind,
    as published. The released code gives the model these values as they are; here they are pictures
    of 8 bits and go through the encoder's own preprocessing, mean and deviation included.
    """
    rng = np.random.default_rng(seed)
    shape = (_OF_EACH, _SIZE, _SIZE, 3)
    kinds = (
        _scaled(rng.normal(size=shape)),
        rng.random(shape),
        _scaled(rng.poisson(5, shape).astype(np.float64)),
        _scaled(rng.gamma(2, size=shape)),
        (rng.random(shape) > 0.5).astype(np.float64),
    )
    return [
        Image.fromarray(np.round(255 * values).astype(np.uint8))
        for kind in kinds
        for values in kind
    ]


def _scaled(
    values: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    low, high = values.min(), values.max()
    scaled: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = (values - low) / (high - low)
    return scaled
