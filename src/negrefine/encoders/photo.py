"""The encoder of photographs that comes with the package."""

from __future__ import annotations

from typing import Any

import torch

from negrefine.encoders.clip import CLIPEncoder
from negrefine.encoders.photo_model import (
    photo_and_patch_features,
    photo_features,
    photo_features_at_once,
)


class PhotoEncoder(CLIPEncoder):
    """A `CLIPEncoder` whose image tower is an EfficientNet-Lite. Made by `load_encoder`.

    Patch features are those of the positions of the last feature map, each placed in the joint
    space as if the whole image looked like it.
    """

    _vision = staticmethod(photo_features)
    _vision_and_patches = staticmethod(photo_and_patch_features)
    _vision_at_once = staticmethod(photo_features_at_once)

    def __init__(self, model: Any, *model_files: Any, **settings: Any) -> None:
        """Take what `CLIPEncoder` takes, with a `PhotoModel`."""
        model.vision_model.to(memory_format=torch.channels_last)
        super().__init__(model, *model_files, **settings)
