"""Where texts belong: the sentence encoder's embeddings, centred, of length one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from device import fast_arithmetic
from numpy.typing import NDArray
from photo_teacher import PROMPT
from teacher import embed

GLOSS_WEIGHT = 0.5


@lru_cache(maxsize=1)
def centre_and_targets(work: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the mean embedding (384,) and the targets of all texts (n, 384)."""
    plain, photo, gloss = (
        np.load(work / f"{name}.npy").astype(np.float32) for name in ("plain", "photo", "gloss")
    )
    joined = _unit(plain + photo + GLOSS_WEIGHT * gloss)
    centre = joined.mean(axis=0)
    return centre, _unit(joined - centre)


def embed_new(work: Path, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the targets of other texts, which have no definition."""
    with fast_arithmetic():
        plain = embed(work, texts)
        photo = embed(work, [PROMPT.format(text) for text in texts])
    return _unit(_unit((1 + GLOSS_WEIGHT) * plain + photo) - centre_and_targets(work)[0])


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True), np.float32)
