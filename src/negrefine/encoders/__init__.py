"""Images and texts to features: loading models, reading images, preprocessing, tokenising."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negrefine.lazy_names import lazy_names

if TYPE_CHECKING:
    from negrefine.encoders.base import EncodedImages, Encoder
    from negrefine.encoders.clip import CLIPEncoder
    from negrefine.encoders.clipn import CLIPNEncoder
    from negrefine.encoders.image_files import find_images
    from negrefine.encoders.images import ImageSource, read_image
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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "base": "EncodedImages Encoder",
        "clip": "CLIPEncoder",
        "clipn": "CLIPNEncoder",
        "image_files": "find_images",
        "images": "ImageSource read_image",
        "loading": "load_encoder",
        "preprocessing": "Preprocessing",
    },
)
