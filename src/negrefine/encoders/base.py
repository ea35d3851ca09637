"""What a detector needs of an image-text model."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from negrefine.encoders.images import Images
from negrefine.errors import ImageError, InputError

FloatArray: TypeAlias = NDArray[np.float32]
_SHOWN = 100


@runtime_checkable
class Encoder(Protocol):
    """Maps images and texts into one space where cosine similarity is meaningful.

    Attributes:
        name: What `load_encoder` was given: "builtin-photo", "builtin", a hub id or a directory.
        options: Keyword arguments of `load_encoder` that change features or their checks.
        fingerprint: SHA-256 (hex) over weights, tokenizer and preprocessing.
        logit_scale: Factor on cosines before the softmax: 100.0 for OpenAI's CLIP, which is the
            constant of the NegLabel, CSP and NegRefine papers.

    Example:
        >>> features = encoder.encode_images(["cat.png", "doughnut.png"])
        >>> features.shape, str(features.dtype)
        ((2, 256), 'float32')
        >>> refine.score_features(features).shape
        (2,)
    """

    @property
    def name(self) -> str: ...

    @property
    def options(self) -> dict[str, Any]: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def logit_scale(self) -> float: ...

    def encode_images(self, images: Images, batch_size: int = ...) -> FloatArray:
        """Return image features, float32 of shape (n, d), not normalised."""
        ...

    def encode_texts(self, texts: Sequence[str], batch_size: int = ...) -> FloatArray:
        """Return text features, float32 of shape (m, d), not normalised."""
        ...


def check_encoder(encoder: object) -> None:
    """Raise InputError for what is not an encoder, such as the name or the class of one."""
    if isinstance(encoder, (str, os.PathLike)):
        name = os.fspath(encoder)
        raise InputError(
            f"encoder must be a loaded encoder, not the name {name!r}: give load_encoder({name!r})."
        )
    methods = (getattr(encoder, name, None) for name in ("encode_images", "encode_texts"))
    if isinstance(encoder, type) or not all(map(callable, methods)):
        shown = repr(encoder)
        if isinstance(encoder, type):
            shown = f"the class {encoder.__name__} itself"
        elif len(shown) > _SHOWN or "\n" in shown:
            shown = f"a {type(encoder).__name__}"
        raise InputError(
            "encoder must be what load_encoder returns or an object with encode_images and "
            f"encode_texts, not {shown}."
        )


class PatchEncoder(Encoder, Protocol):
    """An encoder that can also place the patches of an image in the joint space."""

    def encode_images_and_patches(
        self, images: Images, batch_size: int = ...
    ) -> tuple[FloatArray, FloatArray]:
        """Return float32 (n, d) and (n, p, d) of the p patches on a square grid, row by row."""
        ...


def gives_patches(encoder: object) -> bool:
    """Say whether an encoder is a `PatchEncoder`; `n_patches` is 0 where its model is unfit."""
    known = getattr(encoder, "n_patches", None)
    return hasattr(encoder, "encode_images_and_patches") and known != 0


class YesNoEncoder(Encoder, Protocol):
    """An encoder with CLIPN's second text tower, which says what an image does not show."""

    def encode_texts_no(self, texts: Sequence[str], batch_size: int = ...) -> FloatArray:
        """Return float32 (m, d) of the "no" tower, not normalised."""
        ...


@dataclass(frozen=True)
class EncodedImages:
    """Features of one batch of images, of which some may be unreadable.

    `features`, float32 (n_readable, d), have a row for each readable image, in order; so have
    `patches`, float32 (n_readable, p, d), if they were asked for. `errors` has for each image of
    the batch None, or why it could not be read.
    """

    features: FloatArray
    errors: list[ImageError | None]
    patches: FloatArray | None = None
