"""Models of `tools/photo_encoder` as a family: their config.json, read and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from negrefine.encoders.clip_config import TextConfig, is_size, text_config
from negrefine.encoders.clip_family import ModelFiles
from negrefine.errors import EncoderError

if TYPE_CHECKING:
    from negrefine.encoders.clip import CLIPEncoder

PHOTO = "negrefine-photo"
"""The model_type of these models."""
_STAGE = ("n_blocks", "kernel", "stride", "expansion", "width")
_SIZES = ("image_size", "stem_size", "feature_size", "head_size", "n_classes")


@dataclass(frozen=True)
class Stage:
    """Blocks of one width in a row, of which the first may have a stride of 2."""

    n_blocks: int
    kernel: int
    stride: int
    expansion: int
    width: int


@dataclass(frozen=True)
class LiteConfig:
    """An EfficientNet-Lite with its head.

    Attributes:
        image_size: Side of the square images, in pixels.
        stem_size: Width of the first convolution.
        stages: In order.
        feature_size: Width of the last convolution.
        head_size: Width of the hidden layer between features and the joint space.
        n_classes: Classes that the network was trained on, whose texts the head knows.
    """

    image_size: int
    stem_size: int
    stages: tuple[Stage, ...]
    feature_size: int
    head_size: int
    n_classes: int

    @property
    def patch_size(self) -> int:
        """Pixels from one position of the last feature map to the next."""
        step = 2
        for stage in self.stages:
            step *= stage.stride
        return step


@dataclass(frozen=True)
class PhotoArchitecture:
    """Both towers and the width of the joint space."""

    text_config: TextConfig
    vision_config: LiteConfig
    projection_dim: int


def check_photo(files: ModelFiles) -> PhotoArchitecture:
    """Return the architecture that config.json describes; EncoderError if it makes no sense."""
    config, vision = files.config, files.config.get("vision_config")
    text, dim = text_config(config), config.get("projection_dim")
    stages = vision.get("stages") if isinstance(vision, Mapping) else None
    usable = (
        isinstance(vision, Mapping)
        and text is not None
        and is_size(dim)
        and all(is_size(vision.get(key)) for key in _SIZES)
        and isinstance(stages, list)
        and all(map(_is_stage, stages))
    )
    if not usable:
        raise EncoderError(
            f"config.json of {files.name!r} is unusable: model_type {PHOTO!r} needs projection_dim,"
            f" a text_config as of CLIP, and a vision_config with {', '.join(_SIZES)} and stages "
            f"of {', '.join(_STAGE)}; restore the file."
        )
    assert isinstance(vision, Mapping) and text is not None and stages is not None  # noqa: S101, PT018
    sizes = {key: vision[key] for key in _SIZES}
    lite = LiteConfig(stages=tuple(Stage(**stage) for stage in stages), **sizes)
    if lite.image_size % lite.patch_size:
        raise EncoderError(
            f"config.json of {files.name!r} is unusable: image_size {lite.image_size} is no "
            f"multiple of {lite.patch_size}, the product of the strides."
        )
    return PhotoArchitecture(text, lite, int(dim or 0))


def read_photo(files: ModelFiles, architecture: PhotoArchitecture, dtype: str) -> Any:
    """Return the model on the CPU; EncoderError if the weights are not of this architecture."""
    from negrefine.encoders.photo_model import read_photo_model

    model = read_photo_model(files.weights, architecture, dtype)
    if model is None:
        raise EncoderError(
            f"The weights of {files.name!r} and its config.json do not belong together, or a file "
            "is damaged: restore both."
        )
    return model


def photo_encoder(files: ModelFiles, model: Any) -> Callable[..., CLIPEncoder]:  # noqa: ARG001
    """Return what makes the encoder of a loaded model."""
    from negrefine.encoders.photo import PhotoEncoder

    return PhotoEncoder


def _is_stage(stage: Any) -> bool:
    return (
        isinstance(stage, Mapping)
        and set(stage) == set(_STAGE)
        and all(map(is_size, stage.values()))
    )
