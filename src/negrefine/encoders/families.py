"""The families of models that `load_encoder` reads, by the model_type of their config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from negrefine.encoders.clip_family import ModelFiles, check_clip, clip_encoder, read_clip
from negrefine.encoders.photo_family import PHOTO, check_photo, photo_encoder, read_photo
from negrefine.errors import EncoderError

if TYPE_CHECKING:
    from negrefine.encoders.clip import CLIPEncoder


@dataclass(frozen=True)
class Family:
    """What differs between families. The functions raise EncoderError; torch is imported by none
    before `read`.

    Attributes:
        check: From files to an architecture with `text_config`, `vision_config`, `projection_dim`.
        read: From files, architecture and the name of a dtype to the model on the CPU, whose
            `config` is the architecture.
        encoder: From files and model to what makes the encoder.
    """

    check: Callable[[ModelFiles], Any]
    read: Callable[[ModelFiles, Any, str], Any]
    encoder: Callable[[ModelFiles, Any], Callable[..., CLIPEncoder]]


FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "clip": Family(check_clip, read_clip, clip_encoder),
        PHOTO: Family(check_photo, read_photo, photo_encoder),
    }
)


def family_of(config: Mapping[str, Any], name: str) -> Family:
    """Return the family of a model; EncoderError if it cannot be loaded."""
    kind = config.get("model_type", "nameless")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise EncoderError(
            f"{name!r} holds a {kind!r} model, and only Hugging Face CLIPModel directories "
            "(model_type 'clip') can be loaded."
        )
    return family
