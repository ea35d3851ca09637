"""Images and texts to features: loading models, reading images, preprocessing, tokenising."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from negrefine.encoders.base import EncodedImages, Encoder
    from negrefine.encoders.clip import CLIPEncoder
    from negrefine.encoders.clipn import CLIPNEncoder
    from negrefine.encoders.images import ImageSource, find_images, read_image
    from negrefine.encoders.loading import load_encoder
    from negrefine.encoders.preprocessing import Preprocessing

_MODULES = {
    "CLIPEncoder": "clip",
    "CLIPNEncoder": "clipn",
    "EncodedImages": "base",
    "Encoder": "base",
    "ImageSource": "images",
    "Preprocessing": "preprocessing",
    "find_images": "images",
    "load_encoder": "loading",
    "read_image": "images",
}

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


def __getattr__(name: str) -> Any:
    # Only some of these modules import torch and transformers, which takes seconds.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
