"""Images and texts to features: loading models, reading images, preprocessing, tokenising.

Names are imported when they are first used: `find_images` needs no torch.
"""

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

_HOMES = {
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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"negrefine.encoders.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'negrefine.encoders' has no attribute {name!r}")
