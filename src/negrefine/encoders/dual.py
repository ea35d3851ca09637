"""Models of `transformers` with two towers that are not CLIP's, as encoders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from negrefine.encoders.clip import CLIPEncoder
from negrefine.encoders.dual_model import (
    TwoTowers,
    encode_padded,
    image_and_patch_features,
    image_features,
    measure,
)
from negrefine.encoders.preprocessing import Preprocessing
from negrefine.encoders.tokenizer_reading import PaddedTokenizer

# Padded tokens of a batch: larger ones do not fit in the cache of a CPU, and a GPU needs more work.
_CPU_TOKENS, _GPU_TOKENS = 2048, 65536


class DualEncoder(CLIPEncoder):
    """A `CLIPEncoder` whose towers are run by `transformers`. Made by `load_encoder`.

    Texts go to the model's own tokenizer as they are, and each text goes through the tower as a
    whole: no prefix is shared. Towers that read padding, such as SigLIP's, get all of it.
    """

    _vision = staticmethod(image_features)
    _vision_and_patches = staticmethod(image_and_patch_features)

    def __init__(
        self,
        model: TwoTowers,
        tokenizer: PaddedTokenizer,
        preprocessing: Preprocessing,
        *,
        name: str,
        **settings: Any,
    ) -> None:
        """Take what `CLIPEncoder` takes; EncoderError if `dual_model.measure` refuses the model."""
        size = preprocessing.output_size
        assert size is not None  # noqa: S101 - load_encoder checks it
        measured = measure(model, tokenizer, size, name)
        model.config = replace(model.config, projection_dim=measured.dim)
        self._measured = measured
        super().__init__(model, tokenizer, preprocessing, name=name, **settings)
        self._padding = tokenizer.padding

    def _iter_text_features(
        self, model: Any, ids: Sequence[Sequence[int]], batch_size: int
    ) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
        budget = _CPU_TOKENS if self.device.type == "cpu" else _GPU_TOKENS
        return encode_padded(model, ids, batch_size, budget, padding=self._padding)

    def _count_patches(self, model: Any) -> int:  # noqa: ARG002
        return self._measured.n_patches
