"""The families of models that `load_encoder` reads, by the model_type of their config.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from negrefine.encoders import open_clip_config
from negrefine.encoders.clip_family import ModelFiles, check_clip, clip_encoder, read_clip
from negrefine.encoders.dual_family import check_dual, dual_encoder, is_known, read_dual
from negrefine.encoders.open_clip_family import (
    check_open_clip,
    open_clip_encoder,
    open_clip_texts,
    open_clip_weights,
    read_open_clip,
)
from negrefine.encoders.photo_family import PHOTO, check_photo, photo_encoder, read_photo
from negrefine.encoders.preprocessing import Preprocessing
from negrefine.encoders.tokenizer_reading import clip_texts, padded_texts, plain_texts
from negrefine.encoders.tokens import TextTokenizer
from negrefine.errors import EncoderError
from negrefine.pretrained.files import read_object, weight_files

if TYPE_CHECKING:
    from negrefine.encoders.clip import CLIPEncoder


def _weights(directory: Path, config: Mapping[str, Any], name: str) -> list[Path]:
    return weight_files(directory, config, name, EncoderError)


def _preprocessing(
    directory: Path,
    config: Mapping[str, Any],  # noqa: ARG001
    name: str,
    resample: str | None,
) -> Preprocessing:
    return load_preprocessing(directory, name, resample)


def load_preprocessing(directory: Path, name: str, resample: str | None) -> Preprocessing:
    """Return the image preprocessing of a model directory; EncoderError if it has none."""
    path = directory / "preprocessor_config.json"
    newer = directory / "processor_config.json"
    file = newer if newer.exists() and not path.exists() else path
    config = read_object(file, name, EncoderError)
    try:
        return Preprocessing.from_config(config, resample=resample)
    except ValueError as error:
        raise EncoderError(f"The image preprocessing of {name!r} is unusable: {error}") from error


@dataclass(frozen=True)
class Family:
    """What differs between families. The functions raise EncoderError.

    Attributes:
        check: From files to an architecture with `text_config`, `vision_config`, `projection_dim`.
            What CLIP's needs imports no torch.
        read: From files, architecture and the name of a dtype to the model on the CPU, whose
            `config` is the architecture.
        encoder: From files and model to what makes the encoder.
        texts: From files, `text_config` and the `truncate` of `load_encoder` to what makes tokens.
        clip_tokenizer: The files of the tokenizer are those of CLIP's.
        weights: From directory, configuration and name to the files of the weights.
        preprocessing: From these and the `resample` of `load_encoder` to what images go through.
    """

    check: Callable[[ModelFiles], Any]
    read: Callable[[ModelFiles, Any, str], Any]
    encoder: Callable[[ModelFiles, Any], Callable[..., CLIPEncoder]]
    texts: Callable[[ModelFiles, Any, bool | None], TextTokenizer] = clip_texts
    clip_tokenizer: bool = True
    weights: Callable[[Path, Mapping[str, Any], str], list[Path]] = _weights
    preprocessing: Callable[[Path, Mapping[str, Any], str, str | None], Preprocessing] = (
        _preprocessing
    )


DUAL = Family(check_dual, read_dual, dual_encoder, padded_texts, clip_tokenizer=False)
"""Every family whose model in `transformers` gives image and text features."""

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "clip": Family(check_clip, read_clip, clip_encoder),
        # CLIP's architecture with the tokenizer of XLM-RoBERTa.
        "metaclip_2": Family(
            check_clip, read_clip, clip_encoder, plain_texts, clip_tokenizer=False
        ),
        PHOTO: Family(check_photo, read_photo, photo_encoder),
    }
)


OPEN_CLIP = Family(
    check_open_clip,
    read_open_clip,
    open_clip_encoder,
    open_clip_texts,
    clip_tokenizer=False,
    weights=open_clip_weights,
    preprocessing=lambda _, *arguments: open_clip_config.preprocessing(*arguments),
)


def find_family(directory: Path, name: str) -> tuple[dict[str, Any], Family]:
    """Return the configuration and the family of the model in a directory.

    Raises:
        EncoderError: There is none that can be loaded.
    """
    if open_clip_config.is_open_clip(directory):
        return open_clip_config.read_config(directory, name), OPEN_CLIP
    config = read_object(directory / "config.json", name, EncoderError)
    return config, family_of(config, name)


def family_of(config: Mapping[str, Any], name: str) -> Family:
    """Return the family of a model; EncoderError if it cannot be loaded."""
    kind = config.get("model_type", "nameless")
    if isinstance(kind, str) and kind in FAMILIES:
        return FAMILIES[kind]
    if isinstance(kind, str) and "model_type" in config and is_known(kind):
        return DUAL
    raise EncoderError(
        f"{name!r} holds a {kind!r} model, and only models with image and text features can be "
        "loaded, such as CLIPModel or SiglipModel (docs/encoders.md)."
    )
