"""CLIPN's encoder (ICCV 2023, arXiv 2308.12213): CLIP with a second, "no" text tower.

On disk it is a CLIPModel directory with one more file, no_text_model.safetensors: the tensors of
the "no" tower under the names that a CLIPModel gives its text tower, and the learned embeddings
`prompt_no`, which the hand-crafted variant lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from negrefine.encoders.base import FloatArray
from negrefine.encoders.clip import CLIPEncoder
from negrefine.encoders.clip_config import NO_TOWER
from negrefine.errors import EncoderError

PROMPT_NO = "prompt_no"


class CLIPNEncoder(CLIPEncoder):
    """A `CLIPEncoder` that also encodes texts with the "no" tower. Made by `load_encoder`."""

    def __init__(self, *model_files: Any, no_model: Any, **settings: Any) -> None:
        """Take what `CLIPEncoder` takes, and a model whose text tower is the "no" tower."""
        super().__init__(*model_files, **settings)
        self._no_model = no_model

    def encode_texts_no(
        self, texts: Sequence[str], batch_size: int = 1024, *, show_progress_bar: bool = False
    ) -> FloatArray:
        """Encode texts with the "no" tower; arguments and result as `encode_texts`."""
        return self._encode_texts(self._no_model, texts, batch_size, show_progress_bar)


def load_no_tower(directory: Path, model: Any, name: str) -> Any:
    """Return a model with the "no" text tower that shares all else with `model`, None without one.

    Raises EncoderError if the file is damaged or belongs to another model than `name`.
    """
    path = directory / NO_TOWER
    if not path.is_file():
        return None
    text = nn.ModuleDict(
        {part: deepcopy(getattr(model, part)) for part in ("text_model", "text_projection")}
    )
    try:
        tensors = load_file(path)
        prompt = tensors.pop(PROMPT_NO, None)
        text.load_state_dict(tensors)
        if prompt is not None:
            _add_to_every_input(prompt, text["text_model"])
    except (OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise EncoderError(
            f"{NO_TOWER} of {name!r} is damaged or belongs to another model: convert the CLIPN "
            "checkpoint again."
        ) from error
    twin = copy(model)
    twin._modules = {**model._modules, **text}
    return twin


def _add_to_every_input(prompt: Tensor, text_model: Any) -> None:
    """Add the mean learned embedding to all positions: the first layer reads their sum."""
    positions = text_model.embeddings.position_embedding.weight
    if prompt.ndim != 3 or prompt.shape[1:] != positions.shape:
        raise ValueError(f"{PROMPT_NO} must have shape (n, {', '.join(map(str, positions.shape))})")
    mean = prompt.float().mean(dim=0).to(positions.device)
    with torch.no_grad():
        positions.copy_(positions.float() + mean)
