"""An encoder that encodes no text twice, for experiments that fit many detectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from negrefine.encoders.base import Encoder, FloatArray


class RememberedTexts:
    """An encoder with all its attributes that keeps the features of every text it has encoded.

    Memory grows with the texts: mining WordNet with eight templates at d = 512 takes about 1 GB.
    """

    name: str
    options: dict[str, Any]
    fingerprint: str
    logit_scale: float
    encode_images: Callable[..., FloatArray]

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[str, FloatArray] = {}

    def __sklearn_clone__(self) -> RememberedTexts:
        """Share the memory between clones of a detector."""
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._encoder, name)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 1024) -> FloatArray:
        """Return float32 (m, d), encoding only texts that are new."""
        if not texts:
            return self._encoder.encode_texts([], batch_size)
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._encoder.encode_texts(new, batch_size), strict=True))
        return np.stack([self._known[text] for text in texts])
