"""GL-MCM: MCM on the whole image and on its patches (IJCV 2025, arXiv 2304.04521)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from negrefine.constraints import FINITE, POSITIVE
from negrefine.detectors.base import Detector
from negrefine.detectors.explanation import PatchMatch
from negrefine.detectors.image_block import ImageBlock, as_double, unit_rows
from negrefine.detectors.parameters import detector, parameter
from negrefine.detectors.scores import local_mcm_score, mcm_score
from negrefine.detectors.temperature import warn_of_other_scale
from negrefine.encoders.base import FloatArray, PatchEncoder
from negrefine.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

# Patch rows scored at a time: bounds the (rows x classes) matrices.
_PATCH_ROWS = 512


@detector
class GLMCM(Detector):
    """MCM of the image plus `local_weight` times MCM of its best patch.

    The local term finds a class that fills only part of a picture, so an image with in-distribution
    and other objects counts as in-distribution. The encoder must be a `PatchEncoder`.

    Example:
        >>> detector = negrefine.GLMCM(encoder, local_weight=0.5).fit(names)
        >>> patch = detector.explain("cat.png").patch
        >>> patch.row, patch.column, patch.class_name
        (1, 5, 'fish')
    """

    method = "glmcm"
    title = "GL-MCM"
    paper = "IJCV 2025, arXiv 2304.04521"
    parts = ("global", "local")
    uses_patches = True
    compared = True

    encoder: PatchEncoder = field(kw_only=False)
    temperature: float = parameter(1.0, POSITIVE, "Divides the cosines.")
    local_weight: float = parameter(
        1.0,
        FINITE,
        "Weight of the local term, lambda: 1.0 as published, 0.5 in the official ImageNet script.",
    )

    def _compares_classes(self) -> bool:
        return True

    def _fit(self, class_names: list[str], class_features: FloatArray, *, progress: bool) -> None:
        del class_names, class_features, progress
        warn_of_other_scale(self.encoder, self.temperature)

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:
        """Return MCM of the images ("global") or of their best patches ("local")."""
        if name == "global":
            return mcm_score(images.classes, self.temperature)
        scores = images.features.new_empty(len(images))
        for rows, similarities in _patch_similarities(images):
            scores[rows] = local_mcm_score(similarities, self.temperature)
        return scores

    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return S = global + local_weight * local."""
        return parts["global"] + self.local_weight * parts["local"]

    def _explain(self, image: ImageBlock, parts: dict[str, float], top: int) -> dict[str, Any]:
        del parts, top
        ((_, similarities),) = _patch_similarities(image)
        n_patches = similarities.shape[1]
        side = math.isqrt(n_patches)
        if side * side != n_patches:
            raise InputError(
                f"The {n_patches} patches of an image make no square grid, so the winning one "
                "has no row and column: give the patches of the whole image."
            )
        probabilities = (similarities[0] / self.temperature).softmax(dim=-1)
        patch, k = divmod(int(probabilities.argmax()), len(self.class_names_))
        row, column = divmod(patch, side)
        similarity = float(similarities[0, patch, k])
        return {"patch": PatchMatch(row, column, self.class_names_[k], similarity)}


def _patch_similarities(images: ImageBlock) -> Iterator[tuple[slice, Tensor]]:
    """Yield rows of a block and the cosines of their patches with the classes, (rows, p, K)."""
    if images.patches is None:
        raise InputError("GL-MCM needs patch features: give those of encode_images_and_patches.")
    classes = as_double(images.class_features).T
    step = max(1, _PATCH_ROWS // images.patches.shape[1])
    for start in range(0, len(images), step):
        rows = slice(start, start + step)
        yield rows, unit_rows(images.patches[rows]) @ classes
