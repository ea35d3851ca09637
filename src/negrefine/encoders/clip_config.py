"""The architecture of a CLIP model, read from config.json, and the name of CLIPN's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NO_TOWER = "no_text_model.safetensors"
"""CLIPN's second text tower, beside the files of a CLIPModel."""

_ACTIVATIONS = ("quick_gelu", "gelu")
_UNUSUAL = frozenset({"quantization_config", "transformers_weights"})
# The defaults of `transformers` for fields that config.json leaves out.
_BOTH = {"num_hidden_layers": 12, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_TEXT = {
    **_BOTH,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
}
_VISION = {
    **_BOTH,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "num_channels": 3,
}


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """What the two towers have in common; the names are those of config.json."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str
    layer_norm_eps: float


@dataclass(frozen=True, kw_only=True)
class TextConfig(TowerConfig):
    """The text tower."""

    vocab_size: int
    max_position_embeddings: int


@dataclass(frozen=True, kw_only=True)
class VisionConfig(TowerConfig):
    """The vision tower, for square images in square patches."""

    image_size: int
    patch_size: int
    num_channels: int


@dataclass(frozen=True)
class CLIPArchitecture:
    """Both towers and the width of the joint space."""

    text_config: TextConfig
    vision_config: VisionConfig
    projection_dim: int


def plain_architecture(config: Mapping[str, Any]) -> CLIPArchitecture | None:
    """Return the architecture that a config.json describes, or None.

    None says that something is unusual: quantised weights or some in odd places, another
    activation, a value of another type than in a usual CLIP. `transformers` may be able to read it,
    or says what is wrong with it.
    """
    if not _UNUSUAL.isdisjoint(config):
        return None
    dim = config.get("projection_dim", 512)
    text, vision = text_config(config), _fields(config, "vision_config", _VISION)
    if text is None or vision is None or not is_size(dim):
        return None
    return CLIPArchitecture(text, VisionConfig(**vision), dim)


def text_config(config: Mapping[str, Any]) -> TextConfig | None:
    """Return the text tower that a config.json describes, None if something is unusual."""
    fields = _fields(config, "text_config", _TEXT)
    return None if fields is None else TextConfig(**fields)


def _fields(
    config: Mapping[str, Any], part: str, defaults: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the fields of a tower, None if one is unusual."""
    # An older layout, which wins over the newer one where a file has both.
    older = config.get(f"{part}_dict")
    given = config.get(part, {}) if older is None else older
    if not isinstance(given, Mapping):
        return None
    fields = {name: given.get(name, default) for name, default in defaults.items()}
    eps, activation = fields["layer_norm_eps"], fields["hidden_act"]
    sizes = [value for name, value in fields.items() if isinstance(defaults[name], int)]
    usual = (
        all(map(is_size, sizes))
        and isinstance(eps, float)
        and eps > 0
        and isinstance(activation, str)
        and activation in _ACTIVATIONS
        and fields["hidden_size"] % fields["num_attention_heads"] == 0
    )
    return fields if usual else None


def is_size(value: Any) -> bool:
    """Say whether a value of config.json is a positive whole number."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
