"""GL-MCM: MCM on the whole image and on its patches (IJCV 2025, arXiv 2304.04521)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from negrefine.detectors.base import as_double, unit_rows
from negrefine.detectors.explanation import Explanation, PatchMatch
from negrefine.detectors.mcm import MCM
from negrefine.detectors.scores import local_mcm_score, mcm_score
from negrefine.encoders.base import FloatArray, PatchEncoder
from negrefine.errors import EncoderError, InputError
from negrefine.labels.prompts import Prompts

# Patch rows scored at a time: bounds the (rows x classes) matrices.
_PATCH_ROWS = 512


class GLMCM(MCM):
    """MCM of the image plus `local_weight` times MCM of its best patch.

    The local term finds a class that fills only part of a picture, so an image with in-distribution
    and other objects counts as in-distribution.

    Args:
        encoder: From `load_encoder`, or any `PatchEncoder`.
        temperature: Divides the cosines; 1.0 as published.
        local_weight: Weight of the local term, lambda: 1.0 as published, 0.5 in the official
            ImageNet script.
        prompts: Templates of class names instead of "a photo of a {}".
    """

    method: ClassVar[str] = "glmcm"
    title: ClassVar[str] = "GL-MCM"
    uses_patches: ClassVar[bool] = True

    encoder: PatchEncoder

    def __init__(
        self,
        encoder: PatchEncoder,
        *,
        temperature: float = 1.0,
        local_weight: float = 1.0,
        prompts: Prompts | None = None,
    ) -> None:
        super().__init__(encoder, temperature=temperature, prompts=prompts)
        self.local_weight = local_weight

    def _embed_class_names(self, class_names: list[str], *, progress: bool) -> FloatArray:
        if not hasattr(self.encoder, "encode_images_and_patches"):
            raise EncoderError(
                f"The encoder {self.encoder.name!r} gives no patch features, which GL-MCM needs: "
                "use load_encoder with a CLIP model that has a vision transformer."
            )
        if not math.isfinite(self.local_weight):
            raise InputError(f"local_weight must be a finite number, not {self.local_weight}.")
        return super()._embed_class_names(class_names, progress=progress)

    def _score_parts(self, features: Tensor) -> dict[str, Tensor]:
        similarities = features @ as_double(self.class_features_).T
        return {"global": mcm_score(similarities, self.temperature)}

    def score_feature_parts(
        self,
        features: ArrayLike,
        patches: ArrayLike | None = None,
        *,
        only: Sequence[str] | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Return "global" and "local" from image and patch features; see `Detector`."""
        del only
        parts = super().score_feature_parts(features)
        rows = self._check_patches(patches, len(parts["global"]))
        step = max(1, _PATCH_ROWS // rows.shape[1])
        blocks = [
            local_mcm_score(self._patch_similarities(rows[start : start + step]), self.temperature)
            for start in range(0, max(len(rows), 1), step)
        ]
        return {**parts, "local": torch.cat(blocks).numpy()}

    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return S = global + local_weight * local."""
        return parts["global"] + self.local_weight * parts["local"]

    def explain_features(
        self,
        features: ArrayLike,
        *,
        patches: ArrayLike | None = None,
        top: int = 5,
        unfiltered: bool = False,
    ) -> list[Explanation]:
        """Explain image and patch features, one explanation with its `patch` for each row."""
        explanations = super().explain_features(
            features, patches=patches, top=top, unfiltered=unfiltered
        )
        rows = self._check_patches(patches, len(explanations))
        return [
            replace(explanation, patch=self._winning_patch(row))
            for explanation, row in zip(explanations, rows, strict=True)
        ]

    def _winning_patch(self, patches: FloatArray) -> PatchMatch:
        side = math.isqrt(len(patches))
        if side * side != len(patches):
            raise InputError(
                f"The {len(patches)} patches of an image make no square grid, so the winning one "
                "has no row and column: give the patches of the whole image."
            )
        similarities = self._patch_similarities(patches)
        probabilities = torch.softmax(similarities / self.temperature, dim=-1)
        patch, name = divmod(int(probabilities.argmax()), len(self.class_names_))
        row, column = divmod(patch, side)
        return PatchMatch(row, column, self.class_names_[name], float(similarities[patch, name]))

    def _patch_similarities(self, patches: FloatArray) -> Tensor:
        return unit_rows(patches) @ as_double(self.class_features_).T

    def _check_patches(self, patches: ArrayLike | None, n_images: int) -> FloatArray:
        if patches is None:
            raise InputError(
                "GL-MCM scores image features together with patch features: give both arrays of "
                "encoder.encode_images_and_patches."
            )
        array = np.asarray(patches, dtype=np.float32)
        dim = self.class_features_.shape[1]
        if array.ndim != 3 or array.shape[::2] != (n_images, dim) or not array.shape[1]:
            raise InputError(
                f"Patch features must have shape ({n_images}, p, {dim}) for these image features, "
                f"not {array.shape}."
            )
        if not np.isfinite(array).all():
            raise InputError("Patch features hold NaN or infinity: encode the images again.")
        return array
