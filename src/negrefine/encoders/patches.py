"""Patch features of CLIP's image tower in the joint space, from the pass that makes image features.

GL-MCM, arXiv 2304.04521: the last block is run with attention replaced by its own values, so that a
patch keeps its own content. The attention-pool form for ResNet towers is not here, because a
`transformers.CLIPModel` always has a vision transformer.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor


def image_and_patch_features(model: Any, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return image features and patch features of one pass through the image tower.

    Args:
        model: A `transformers.CLIPModel` in evaluation mode.
        pixels: (n, 3, h, w), preprocessed.

    Returns:
        (n, d) and (n, p, d), projected and not normalised; patches row by row from the top left.
    """
    tower = model.vision_model
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    *earlier, last = tower.encoder.layers
    for layer in earlier:
        hidden = layer(hidden, None)
    image = tower.post_layernorm(last(hidden, None)[:, 0])
    patches = tower.post_layernorm(_value_path(last, hidden[:, 1:]))
    return model.visual_projection(image), model.visual_projection(patches)


def _value_path(layer: Any, hidden: Tensor) -> Tensor:
    attention = layer.self_attn
    values = attention.out_proj(attention.v_proj(layer.layer_norm1(hidden))) + hidden
    result: Tensor = values + layer.mlp(layer.layer_norm2(values))
    return result
