"""CLIP's vision tower: features of images, and of their patches for GL-MCM.

The operations and their order are those of `transformers.CLIPModel` with attention "sdpa", so that
features are equal bit for bit.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def image_features(model: Any, pixels: Tensor) -> Tensor:
    """Return projected features (n, d) of pixels (n, 3, h, w), which have the model's dtype."""
    tower = model.vision_model
    hidden = _embed(tower, pixels)
    for layer in tower.encoder.layers:
        hidden = _run_block(layer, hidden)
    features: Tensor = model.visual_projection(tower.post_layernorm(hidden[:, 0]))
    return features


def image_and_patch_features(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features of images, (n, d), and of their patches, (n, p, d).

    Those of patches come from the last block with attention replaced by its own values.
    """
    tower = model.vision_model
    hidden = _embed(tower, pixels)
    *earlier, last = tower.encoder.layers
    for layer in earlier:
        hidden = _run_block(layer, hidden)
    image = tower.post_layernorm(_run_block(last, hidden)[:, 0])
    patches = tower.post_layernorm(_value_path(last, hidden[:, 1:]))
    return model.visual_projection(image), model.visual_projection(patches)


def _embed(tower: Any, pixels: Tensor) -> Tensor:
    """Return the input of the first block for the class token and the patches, row by row."""
    embeddings = tower.embeddings
    patches = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
    # A length would be a constant in an exported graph.
    first = embeddings.class_embedding.expand(pixels.shape[0], 1, -1)
    hidden = torch.cat([first, patches], dim=1) + embeddings.position_embedding.weight
    normalised: Tensor = tower.pre_layrnorm(hidden)
    return normalised


def _run_block(layer: Any, hidden: Tensor) -> Tensor:
    attention, x = layer.self_attn, layer.layer_norm1(hidden)
    query, key, value = (
        projection(x).view(*x.shape[:2], attention.num_heads, -1).transpose(1, 2)
        for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    scale = query.shape[-1] ** -0.5
    mixed = functional.scaled_dot_product_attention(query, key, value, scale=scale)
    hidden = hidden + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    result: Tensor = hidden + layer.mlp(layer.layer_norm2(hidden))
    return result


def _value_path(layer: Any, hidden: Tensor) -> Tensor:
    """Return the output of a block with attention replaced by its own values."""
    attention = layer.self_attn
    values = attention.out_proj(attention.v_proj(layer.layer_norm1(hidden))) + hidden
    result: Tensor = values + layer.mlp(layer.layer_norm2(values))
    return result
