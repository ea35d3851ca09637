"""The tensors of open_clip's transformers, and their names in a `transformers.CLIPModel`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

# A target that ends in "." goes on with "weight" and "bias", like its source. "@" is "" in the text
# tower, and "_no" in the "no" tower of CLIPN.
_IMAGE_TENSORS = {
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.": "vision_model.pre_layrnorm.",
    "visual.ln_post.": "vision_model.post_layernorm.",
    "visual.proj": "visual_projection.weight",
}
_TEXT_TENSORS = {
    "token_embedding@.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding@": "text_model.embeddings.position_embedding.weight",
    "ln_final@.": "text_model.final_layer_norm.",
    "text_projection@": "text_projection.weight",
}
# "*" is q, k and v, which open_clip stacks.
_BLOCK_TENSORS = {
    "ln_1.": "layer_norm1.",
    "attn.in_proj_": "self_attn.*_proj.",
    "attn.out_proj.": "self_attn.out_proj.",
    "ln_2.": "layer_norm2.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}
# Of each tower of a CLIPModel the tensors outside its blocks, and the blocks' name in open_clip.
_TOWERS = {
    "vision_model": (_IMAGE_TENSORS, "visual.transformer.resblocks"),
    "text_model": (_TEXT_TENSORS, "transformer@.resblocks"),
}


def tower_names(tensors: Iterable[str], tower: str, suffix: str = "") -> dict[str, str]:
    """Return the names of a tower's tensors in open_clip and in a CLIPModel.

    `tower` is "vision_model" or "text_model"; how many layers there are is seen in `tensors`.
    """
    outside, _ = _TOWERS[tower]
    names = dict(outside)
    blocks = blocks_of(tower, suffix)
    for layer in range(max(1, n_layers(tensors, tower, suffix))):
        for source, name in _BLOCK_TENSORS.items():
            names[f"{blocks}.{layer}.{source}"] = f"{tower}.encoder.layers.{layer}.{name}"
    return {
        source.replace("@", suffix) + kind: name + kind
        for source, name in names.items()
        for kind in (("weight", "bias") if name.endswith(".") else ("",))
    }


def blocks_of(tower: str, suffix: str = "") -> str:
    """Return what the names of the tensors in a tower's blocks begin with in open_clip."""
    return _TOWERS[tower][1].replace("@", suffix)


def n_layers(tensors: Iterable[str], tower: str, suffix: str = "") -> int:
    """Return the number of a tower's layers by the names of all tensors."""
    numbers = re.compile(re.escape(blocks_of(tower, suffix)) + r"\.(\d+)\.")
    return 1 + max((int(m[1]) for name in tensors if (m := numbers.match(name))), default=-1)


def renamed(state: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Return tensors in a CLIPModel's layout, by the names of `tower_names`.

    Raises ValueError or IndexError for shapes that make no sense.
    """
    import torch

    tensors = {}
    for source, target in names.items():
        # open_clip multiplies by its projections from the right.
        tensor = state[source].T if target.endswith("projection.weight") else state[source]
        parts = zip("qkv", tensor.chunk(3), strict=True) if "*" in target else [("", tensor)]
        for letter, part in parts:
            name = target.replace("*", letter)
            tensors[name] = part.clone(memory_format=torch.contiguous_format)
    return tensors


def renamed_shapes(
    shapes: Mapping[str, tuple[int, ...]], names: Mapping[str, str]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes in a CLIPModel's layout of all tensors but the stacked ones."""
    return {
        target: shapes[source][::-1] if target.endswith("projection.weight") else shapes[source]
        for source, target in names.items()
        if source in shapes and "*" not in target
    }
