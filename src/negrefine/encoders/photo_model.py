"""The model of `tools/photo_encoder`: EfficientNet-Lite and CLIP's text tower in one space."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from negrefine.encoders.clip_model import TextTower, with_weights
from negrefine.encoders.efficientnet_lite import EfficientNetLite
from negrefine.encoders.photo_family import PhotoArchitecture


class PhotoModel(nn.Module):
    """Text features as in a CLIP model; image features from a head on pooled feature maps."""

    def __init__(self, config: PhotoArchitecture) -> None:
        super().__init__()
        self.config = config
        vision, dim = config.vision_config, config.projection_dim
        self.text_model = TextTower(config.text_config)
        self.text_projection = nn.Linear(config.text_config.hidden_size, dim, bias=False)
        self.vision_model = EfficientNetLite(vision)
        self.visual_classifier = nn.Linear(vision.feature_size, vision.n_classes)
        self.visual_projection = nn.Linear(vision.n_classes, dim, bias=False)
        self.visual_mlp = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(vision.feature_size, vision.head_size),
                activation=nn.GELU(),
                fc2=nn.Linear(vision.head_size, dim),
            )
        )
        self.visual_mixture = nn.Parameter(torch.zeros(2))
        self.logit_scale = nn.Parameter(torch.tensor(0.0))

    def project(self, features: Tensor) -> Tensor:
        """Place pooled image features (..., feature_size) in the joint space, (..., d).

        The sum of two unit vectors with the weights `visual_mixture`: what the head has learnt, and
        the mean of the class texts by the classifier's probabilities (ConSE, arXiv 1312.5650).
        """
        learnt = functional.normalize(self.visual_mlp(features), dim=-1)
        known = self.visual_projection(self.visual_classifier(features).softmax(-1))
        weights = self.visual_mixture
        placed: Tensor = weights[0] * learnt + weights[1] * functional.normalize(known, dim=-1)
        return placed


def read_photo_model(
    files: Iterable[Path], config: PhotoArchitecture, dtype: str
) -> PhotoModel | None:
    """Return the model with the weights in `files`, None if they are of another or damaged."""
    with torch.device("meta"):
        model = PhotoModel(config)
    return with_weights(model, files, dtype)


def photo_features(model: PhotoModel, pixels: Tensor) -> Tensor:
    """Return features (n, d) of pixels (n, 3, s, s)."""
    return model.project(_feature_map(model, pixels).mean(dim=(2, 3)))


def photo_features_at_once(model: PhotoModel, pixels: Tensor) -> Tensor:
    """Return what `photo_features` does without a loop over images, for graphs of any batch."""
    features: Tensor = model.vision_model(pixels)
    return model.project(features.mean(dim=(2, 3)))


def photo_and_patch_features(model: PhotoModel, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return features (n, d) of images, and (n, p, d) of each position of their feature maps."""
    features = _feature_map(model, pixels)
    patches = features.flatten(2).transpose(1, 2)
    return model.project(features.mean(dim=(2, 3))), model.project(patches)


def _feature_map(model: PhotoModel, pixels: Tensor) -> Tensor:
    # Depthwise filters are several times faster with the channels last. On a CPU each image goes
    # alone: the wide layers of two no longer fit in its cache, and the features do not depend on
    # the batch.
    step = 1 if pixels.device.type == "cpu" else max(1, len(pixels))
    ordered = pixels.contiguous(memory_format=torch.channels_last)
    return torch.cat([model.vision_model(part) for part in torch.split(ordered, step)])
