"""A judge of images whose answers are a function of picture and name, for tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from negrefine.judges.vision import ImagesFailedError, image_key


class ScriptedVision:
    """Counts what it is asked; questions about some pictures fail, or are undecided."""

    name = "scripted"

    def __init__(self, fails: Sequence[str] = (), undecided: Sequence[str] = ()) -> None:
        self.fails, self.undecided = set(fails), set(undecided)
        self.asked: Counter[tuple[str, str]] = Counter()

    def yes_margins(
        self, images: Sequence[Image.Image], names: Sequence[Sequence[str]]
    ) -> NDArray[np.float64]:
        keys = [image_key(image) for image in images]
        failed = {i: "too odd" for i, key in enumerate(keys) if key in self.fails}
        if failed:
            raise ImagesFailedError("some questions failed", failed)
        pairs = list(zip(keys, names, strict=True))
        self.asked.update((key, name) for key, row in pairs for name in row)
        return np.array([[self.margin(key, name) for name in row] for key, row in pairs])

    def margin(self, key: str, name: str) -> float:
        """Return log P(yes) - log P(no)."""
        if key in self.undecided:
            return np.nan
        seed = [int(key[:12], 16), *name.encode()]
        return float(np.random.default_rng(seed).normal(0, 3))
