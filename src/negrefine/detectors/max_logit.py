"""MaxLogit: the largest cosine with a class name (ICML 2022, arXiv 1911.11132)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negrefine.detectors.base import Detector
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.parameters import detector
from negrefine.detectors.scores import max_logit_score

if TYPE_CHECKING:
    from torch import Tensor


@detector
class MaxLogit(Detector):
    """max_k s_k over the raw cosines s_k with the class names, as MCM's script has it.

    Example:
        >>> detector = negrefine.MaxLogit(encoder).fit(names)
        >>> detector.score_samples(["cat.png", "doughnut.png"]).round(2)
        array([0.38, 0.04])
    """

    method = "maxlogit"
    title = "MaxLogit"
    paper = "ICML 2022, arXiv 1911.11132"
    parts = ("max_logit",)

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:  # noqa: ARG002
        """Return the largest cosine."""
        return max_logit_score(images.classes)
