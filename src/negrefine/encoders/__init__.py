"""Images and texts to features: loading models, reading images, preprocessing, tokenising."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from negrefine.encoders.base import EncodedImages, Encoder
from negrefine.encoders.image_files import find_images
from negrefine.encoders.images import ImageSource, read_image
from negrefine.encoders.preprocessing import Preprocessing

if TYPE_CHECKING:
    from negrefine.encoders.clip import CLIPEncoder
    from negrefine.encoders.clipn import CLIPNEncoder
    from negrefine.encoders.loading import load_encoder

__all__ = [
    "CLIPEncoder",
    "CLIPNEncoder",
    "EncodedImages",
    "Encoder",
    "ImageSource",
    "Preprocessing",
    "find_images",
    "load_encoder",
    "read_image",
]

# Imported when first used, because torch takes more than a second to import.
_MODULES = {"CLIPEncoder": "clip", "CLIPNEncoder": "clipn", "load_encoder": "loading"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"negrefine.encoders.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'negrefine.encoders' has no attribute {name!r}")
