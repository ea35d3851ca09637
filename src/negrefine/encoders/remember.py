"""An encoder that encodes no text twice, for experiments that fit many detectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from negrefine.encoders.base import Encoder, FloatArray
from negrefine.encoders.embedding_cache import ModelCache
from negrefine.encoders.images import ImageSource


class RememberedTexts:
    """Wraps an encoder and keeps the features of every text it has encoded.

    Memory grows with the texts: mining WordNet with eight templates at d = 512 takes about 1 GB.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[str, FloatArray] = {}

    def __sklearn_clone__(self) -> RememberedTexts:
        """Share the memory between clones of a detector."""
        return self

    @property
    def name(self) -> str:
        """As the wrapped encoder's."""
        return self._encoder.name

    @property
    def options(self) -> dict[str, Any]:
        """As the wrapped encoder's."""
        return self._encoder.options

    @property
    def fingerprint(self) -> str:
        """As the wrapped encoder's: the features are the same."""
        return self._encoder.fingerprint

    @property
    def text_cache(self) -> ModelCache | None:
        """As the wrapped encoder's, which remembers more than this."""
        return getattr(self._encoder, "text_cache", None)

    @property
    def logit_scale(self) -> float:
        """As the wrapped encoder's."""
        return self._encoder.logit_scale

    def encode_images(self, images: Sequence[ImageSource], batch_size: int = 64) -> FloatArray:
        """Encode images; nothing is remembered."""
        return self._encoder.encode_images(images, batch_size)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 1024) -> FloatArray:
        """Return float32 (m, d), encoding only texts that are new."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new or not texts:
            features = self._encoder.encode_texts(new, batch_size)
            if not texts:
                return features
            self._known.update(zip(new, features, strict=True))
        return np.stack([self._known[text] for text in texts])
