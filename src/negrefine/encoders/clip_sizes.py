"""The tensors that a CLIP model of given sizes has."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from negrefine.errors import EncoderError
from negrefine.pretrained.sizes import Shapes, check_shapes


def check_clip_sizes(
    config: Mapping[str, Any], given: Mapping[str, Any], shapes: Shapes, name: str
) -> None:
    """Compare a configuration with the shapes of the weights of a CLIPModel.

    `config` is complete, and `given` is the content of config.json.

    Raises:
        EncoderError: They are of different models, or a size is not a positive whole number.
    """
    # Weights that were saved as part of a larger model.
    shapes = {key.removeprefix("clip."): shape for key, shape in shapes.items()}
    text, vision = config["text_config"], config["vision_config"]
    for place, part in (("text_config", text), ("vision_config", vision)):
        for key in ("num_hidden_layers", "num_attention_heads", "image_size", "patch_size"):
            size = part.get(key, 1)
            if type(size) is not int or size < 1:
                raise EncoderError(
                    f"{place} in config.json of {name!r} gives {key} as {size!r}, and a positive "
                    "whole number is needed: correct it."
                )
        tower = place.replace("config", "model")
        number = re.compile(rf"{tower}\.encoder\.layers\.(\d+)\.")
        there = {match[1] for key in shapes if (match := number.match(key))}
        different = len(there) != part["num_hidden_layers"]
        if different and given.get(place) is None and given.get(f"{place}_dict") is None:
            raise EncoderError(
                f"config.json of {name!r} has no {place}, and the weights are not of the size that "
                "is assumed then: download config.json again."
            )
        if different:
            raise EncoderError(
                f"The weights of {name!r} and its config.json do not belong together: {place} "
                f"gives num_hidden_layers as {part['num_hidden_layers']}, and the weights have "
                f"{len(there)} layers of {tower}."
            )
    dim, width, deep = config["projection_dim"], text["hidden_size"], vision["hidden_size"]
    side, patch = vision["image_size"], vision["patch_size"]
    context, n_words = text["max_position_embeddings"], text["vocab_size"]
    embedded, seen = "text_model.embeddings", "vision_model.embeddings"
    expected = {
        f"{embedded}.token_embedding.weight": (
            f"vocab_size {n_words} and hidden_size {width} in text_config",
            (n_words, width),
        ),
        f"{embedded}.position_embedding.weight": (
            f"max_position_embeddings {context} in text_config",
            (context, width),
        ),
        f"{seen}.patch_embedding.weight": (
            f"hidden_size {deep} and patch_size {patch} in vision_config",
            (deep, vision["num_channels"], patch, patch),
        ),
        f"{seen}.position_embedding.weight": (
            f"image_size {side} and patch_size {patch} in vision_config",
            ((side // patch) ** 2 + 1, deep),
        ),
        "text_projection.weight": (f"projection_dim {dim}", (dim, width)),
        "visual_projection.weight": (f"projection_dim {dim}", (dim, deep)),
    }
    for place, part in (("text", text), ("vision", vision)):
        inner = part["intermediate_size"]
        expected[f"{place}_model.encoder.layers.0.mlp.fc1.weight"] = (
            f"intermediate_size {inner} in {place}_config",
            (inner, part["hidden_size"]),
        )
    check_shapes(expected, shapes, name, EncoderError)
