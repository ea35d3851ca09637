"""A fitted detector from features alone: no encoder, no names, as experiments on arrays need it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike

from negrefine.constraints import POSITIVE
from negrefine.detectors.neglabel import NegLabel
from negrefine.detectors.scoring import checked_features
from negrefine.encoders.base import FloatArray
from negrefine.errors import EncoderError, InputError
from negrefine.labels.negatives import NegativeLabel, Negatives
from negrefine.real_arrays import as_real


class GivenFeatures:
    """Stands for the encoder of features that were given as arrays; it encodes nothing.

    Attributes:
        name: "features".
        options: None.
        fingerprint: SHA-256 (hex) over the features of classes and labels.
        logit_scale: As it was given.
        dim: d.
    """

    name = "features"

    def __init__(self, fingerprint: str, logit_scale: float, dim: int) -> None:
        self.options: dict[str, Any] = {}
        self.fingerprint, self.logit_scale, self.dim = fingerprint, logit_scale, dim

    def encode_images(self, images: Any, batch_size: int = 64) -> NoReturn:  # noqa: ARG002
        """Raise EncoderError."""
        raise EncoderError(
            "This detector was made from features and has no encoder: give features, not images."
        )

    def encode_texts(self, texts: Any, batch_size: int = 64) -> NoReturn:  # noqa: ARG002
        """Raise EncoderError."""
        raise EncoderError("This detector was made from features and has no encoder for texts.")


def detector_of_features(
    class_features: ArrayLike, negative_features: ArrayLike, logit_scale: float
) -> NegLabel:
    """Return NegLabel on features of classes (C, d) and of negative labels (M, d), in one group.

    Rows that are not of length one are normalised. The names are "class 0", "label 0" and so on.

    Raises:
        InputError: Arrays that are no features, without a row, or of different widths.
    """
    POSITIVE("logit_scale", logit_scale)
    classes = unit_features(class_features, "Class features")
    negatives = unit_features(negative_features, "Negative features", classes.shape[1])
    digest = hashlib.sha256(np.ascontiguousarray(classes).data)
    digest.update(np.ascontiguousarray(negatives).data)
    encoder = GivenFeatures(digest.hexdigest(), float(logit_scale), classes.shape[1])
    made = NegLabel(encoder, n_groups=1, official=False)
    made.class_names_ = [f"class {k}" for k in range(len(classes))]
    made.class_features_ = classes
    made.negatives_ = numbered(negatives, "label")
    return made


def numbered(features: FloatArray, word: str) -> Negatives:
    """Return labels without names of their own: "label 0", "label 1" and so on."""
    texts: Sequence[str] = [f"{word} {i}" for i in range(len(features))]
    labels = (NegativeLabel(text, text, text, "noun", "given", 0.0) for text in texts)
    return Negatives(tuple(labels), features)


def unit_features(features: ArrayLike, what: str, dim: int | None = None) -> FloatArray:
    """Return features as float32 (n, d), n at least one, rows of length one."""
    given = as_real(features, what)
    if given.ndim != 2 or not given.shape[0] or not given.shape[1]:
        raise InputError(f"{what} must have shape (n, d), both at least 1, not {given.shape}.")
    array = checked_features(given, dim or given.shape[1], what)
    # Without a second array of the size of the first: all of WordNet takes 140 MB.
    lengths = np.sqrt(np.einsum("ij,ij->i", array, array, dtype=np.float64))
    if (np.abs(lengths - 1) < 1e-6).all():
        return array
    unit: FloatArray = (array / lengths[:, None]).astype(np.float32)
    return unit
