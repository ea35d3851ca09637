"""Families of `transformers` models with two towers, checked and read by their own code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from inspect import signature
from math import prod
from typing import TYPE_CHECKING, Any

from negrefine.encoders.clip_family import CLIP_KIND, ModelFiles, decisive
from negrefine.errors import EncoderError
from negrefine.pretrained.loading import load_weights, loading

if TYPE_CHECKING:
    from negrefine.encoders.clip import CLIPEncoder

# Text towers that are pooled at the last position of a text padded to its full length, which they
# read without a mask.
_READ_PADDING = frozenset({"siglip_text_model"})
# Tied weights are stored once.
_MOST_PER_NUMBER = 2


@dataclass(frozen=True)
class DualText:
    """A text tower.

    Attributes:
        vocab_size: Number of tokens that it embeds.
        max_position_embeddings: Longest text in tokens.
        pad_token_id: The token that fills up, or None.
        pads_fully: It reads the padding and needs all of it.
    """

    vocab_size: int
    max_position_embeddings: int
    pad_token_id: int | None
    pads_fully: bool


@dataclass(frozen=True)
class DualVision:
    """An image tower. What sizes it takes is seen when it runs."""

    image_size: None = None


@dataclass(frozen=True)
class DualArchitecture:
    """Both towers; `projection_dim` is 0 until it is measured.

    Attributes:
        model_config: The configuration of `transformers`.
        model_class: The class of the model.
    """

    text_config: DualText
    vision_config: DualVision
    projection_dim: int
    model_config: Any
    model_class: Any


def check_dual(files: ModelFiles) -> DualArchitecture:
    """Return the architecture of a model that gives image and text features.

    Raises:
        EncoderError: config.json makes no sense, or is not of such a model.
    """
    name = files.name
    failure, advice = f"config.json of {name!r} is unusable", "correct it, or download it again"
    with loading(failure, advice, EncoderError):
        config, model_class = _transformers(files.config)
    methods = [
        getattr(model_class, method, None) for method in ("get_image_features", "get_text_features")
    ]
    if None in methods:
        raise EncoderError(
            f"{name!r} holds a {config.model_type!r} model, which has no features of images and "
            "texts in one space: give a model of a family in docs/encoders.md."
        )
    takes = [set(signature(method).parameters) for method in methods if method is not None]
    if "spatial_shapes" in takes[0]:
        raise EncoderError(
            f"{name!r} is a NaFlex model, whose images keep their proportions, and only models of "
            "one resolution can be loaded: give one such as 'google/siglip2-base-patch16-224'."
        )
    if "pixel_values" not in takes[0] or "input_ids" not in takes[1]:
        raise EncoderError(
            f"{name!r} holds a {config.model_type!r} model, which takes more than pixels and "
            "tokens: give a model of a family in docs/encoders.md."
        )
    _check_channels(config, name)
    return DualArchitecture(_text(config, name), DualVision(), 0, config, model_class)


def read_dual(files: ModelFiles, architecture: DualArchitecture, dtype: str) -> Any:
    """Return the model on the CPU; EncoderError if its weights cannot be loaded."""
    from negrefine.encoders.dual_model import TwoTowers

    _check_numbers(files, architecture)
    towers = load_weights(
        *(architecture.model_class, CLIP_KIND, files.directory, files.name, dtype),
        config=architecture.model_config,
    )
    if not any(hasattr(towers, part) for part in ("logit_scale", "temperature")):
        raise EncoderError(
            f"{files.name!r} holds a {architecture.model_config.model_type!r} model, which has no "
            "learned scale of cosines: give a model of a family in docs/encoders.md."
        )
    text = architecture.text_config
    usable = text.max_position_embeddings - _unused_positions(towers, text)
    text = replace(text, max_position_embeddings=usable)
    return TwoTowers(towers, replace(architecture, text_config=text))


def _check_numbers(files: ModelFiles, architecture: DualArchitecture) -> None:
    """Raise EncoderError for a model of far more numbers than its weights, before it takes memory.

    The fields that decide sizes have names of their own in each family.
    """
    import torch

    failure, advice = f"config.json of {files.name!r} is unusable", "correct it"
    with loading(failure, advice, EncoderError), torch.device("meta"):
        model = architecture.model_class(architecture.model_config)
    needed = sum(parameter.numel() for parameter in model.parameters())
    stored = sum(map(prod, files.shapes.values()))
    if needed > _MOST_PER_NUMBER * stored:
        raise EncoderError(
            f"The weights of {files.name!r} and its config.json do not belong together: the "
            f"configuration asks for {needed:,} numbers, and the weights have {stored:,}."
        )


def dual_encoder(files: ModelFiles, model: Any) -> Callable[..., CLIPEncoder]:  # noqa: ARG001
    """Return what makes the encoder of a loaded model."""
    from negrefine.encoders.dual import DualEncoder

    return DualEncoder


def is_known(kind: str) -> bool:
    """Return whether `transformers` has a family of models of this model_type."""
    from transformers import CONFIG_MAPPING

    return kind in CONFIG_MAPPING


def _transformers(content: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the configuration that a config.json describes, and the class of its model."""
    from transformers import CONFIG_MAPPING, MODEL_MAPPING

    config = CONFIG_MAPPING[content["model_type"]].from_dict(decisive(content))
    found = MODEL_MAPPING[type(config)]
    return config, found[0] if isinstance(found, tuple) else found


def _unused_positions(towers: Any, text: DualText) -> int:
    """Return how many positions of the text tower hold no token.

    Towers of RoBERTa's kind count positions from the one after the padding token's.
    """
    for name, module in towers.named_modules():
        padding = getattr(module, "padding_idx", None)
        rows = getattr(module, "num_embeddings", None)
        if "position" in name and rows == text.max_position_embeddings and padding is not None:
            return int(padding) + 1
    return 0


def _text(config: Any, name: str) -> DualText:
    text = getattr(config, "text_config", config)
    positions = getattr(text, "max_position_embeddings", None)
    words = getattr(text, "vocab_size", None)
    if not isinstance(positions, int) or not isinstance(words, int):
        raise EncoderError(
            f"config.json of {name!r} does not say how long a text may be and how many tokens there"
            " are: give a model of a family in docs/encoders.md."
        )
    pad = getattr(text, "pad_token_id", None)
    kind = getattr(text, "model_type", None)
    return DualText(words, positions, pad, kind in _READ_PADDING)


def _check_channels(config: Any, name: str) -> None:
    vision = getattr(config, "vision_config", config)
    channels = getattr(vision, "num_channels", 3)
    if channels != 3:
        raise EncoderError(
            f"The model {name!r} takes images of {channels} channels, and only models for three, "
            "red, green and blue, can be loaded."
        )
