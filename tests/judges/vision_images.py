"""Small random pictures of several shapes, and names to ask about."""

from __future__ import annotations

import numpy as np
from PIL import Image

NAMES = ["dog", "tabby cat", "a name that is much longer than all the others", "x"]
_SHAPES = [(40, 60), (60, 40), (32, 32), (40, 60), (100, 50), (33, 47)]


def pictures(n: int = 12) -> list[Image.Image]:
    """Return n different pictures, always the same."""
    rng = np.random.default_rng(3)
    shapes = [_SHAPES[i % len(_SHAPES)] for i in range(n)]
    return [Image.fromarray(rng.integers(0, 256, (*s, 3), dtype=np.uint8)) for s in shapes]
