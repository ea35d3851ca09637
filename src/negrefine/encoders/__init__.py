"""Images and texts to features: loading models, reading images, preprocessing, tokenising."""

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
