"""A CLIP model in plain torch, read from its files without `transformers`.

Importing `transformers` takes longer than loading a model and encoding an image with it. Parts and
tensors have the names that they have in `transformers.CLIPModel`, so that the towers
(`text_tower`, `vision_tower`) run either.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from negrefine.encoders.clip_config import (
    CLIPArchitecture,
    TextConfig,
    TowerConfig,
    VisionConfig,
)

_Model = TypeVar("_Model", bound=nn.Module)
# Counted positions in older files, which no model reads.
_COUNTED = frozenset(f"{tower}.embeddings.position_ids" for tower in ("text_model", "vision_model"))


def read_plain_model(
    files: Iterable[Path], config: CLIPArchitecture, dtype: str
) -> PlainCLIPModel | None:
    """Return the model with the weights in `files`, on the CPU, for inference, or None.

    None says that something is unusual (`with_weights`). `transformers` may be able to load it, or
    says what is wrong with it.
    """
    with torch.device("meta"):
        model = PlainCLIPModel(config)
    return with_weights(model, files, dtype)


def with_weights(model: _Model, files: Iterable[Path], dtype: str) -> _Model | None:
    """Return a model whose weights replace those of `model`, on the CPU, for inference, or None.

    None says that a tensor is missing, of another shape or type or nobody's, or a file is damaged.
    """
    to = getattr(torch, dtype)
    tensors: dict[str, Tensor] = {}
    try:
        for file in files:
            with safe_open(file, framework="pt") as stored:
                names = set(stored.keys()) - _COUNTED
                if (stored.metadata() or {}).get("format") != "pt" or names & tensors.keys():
                    return None
                # Mapped and not copied, as transformers does it: the rounding of a product with a
                # single row depends on where in memory the weights lie.
                tensors |= {name: stored.get_tensor(name) for name in names}
        if not all(tensor.is_floating_point() for tensor in tensors.values()):
            return None
        model.load_state_dict({n: each.to(to) for n, each in tensors.items()}, assign=True)
    except (OSError, RuntimeError, SafetensorError):
        return None
    return model.eval().requires_grad_(False)


class PlainCLIPModel(nn.Module):
    """The weights of a CLIP model, in the structure of `transformers.CLIPModel`."""

    def __init__(self, config: CLIPArchitecture) -> None:
        super().__init__()
        self.config = config
        text, vision, dim = config.text_config, config.vision_config, config.projection_dim
        self.text_model = TextTower(text)
        self.vision_model = _VisionTower(vision)
        self.visual_projection = nn.Linear(vision.hidden_size, dim, bias=False)
        self.text_projection = nn.Linear(text.hidden_size, dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(0.0))


class TextTower(nn.Module):
    """The weights of the text tower."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.embeddings = nn.ModuleDict(
            {
                "token_embedding": _table(config.vocab_size, width),
                "position_embedding": _table(config.max_position_embeddings, width),
            }
        )
        self.encoder = _Blocks(config)
        self.final_layer_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)


class _VisionTower(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.embeddings = _PatchEmbeddings(config)
        # The misspelling is in the name of the tensor.
        self.pre_layrnorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.encoder = _Blocks(config)
        self.post_layernorm = nn.LayerNorm(width, eps=config.layer_norm_eps)


class _PatchEmbeddings(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, side = config.hidden_size, config.patch_size
        n_patches = (config.image_size // side) ** 2
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.patch_embedding = nn.Conv2d(
            config.num_channels, width, kernel_size=side, stride=side, bias=False
        )
        self.position_embedding = _table(n_patches + 1, width)


def _table(n_rows: int, width: int) -> nn.Embedding:
    # Without weights torch would draw some, for which it imports its compiler.
    return nn.Embedding(n_rows, width, _weight=torch.empty(n_rows, width))


class _Blocks(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(_Block(config) for _ in range(config.num_hidden_layers))


class _Block(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.self_attn = _Attention(width, config.num_attention_heads)
        self.layer_norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
        activation = _QuickGELU() if config.hidden_act == "quick_gelu" else nn.GELU()
        self.mlp = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(width, inner), activation=activation, fc2=nn.Linear(inner, width)
            )
        )
        self.layer_norm2 = nn.LayerNorm(width, eps=config.layer_norm_eps)


class _Attention(nn.Module):
    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)


class _QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)
