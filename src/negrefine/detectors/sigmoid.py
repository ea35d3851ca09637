"""Sigmoid: the probability of the best class name in a model that was trained with sigmoids."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negrefine.detectors.base import Detector
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.parameters import detector
from negrefine.detectors.scores import sigmoid_score

if TYPE_CHECKING:
    from torch import Tensor


@detector
class Sigmoid(Detector):
    """max_k sigmoid(c s_k + b), with the factor c and the bias b that the encoder has learnt.

    A SigLIP (ICCV 2023, arXiv 2303.15343) gives each pair of image and text a probability of its
    own, so this needs no other class to compare with. The order of images is that of MaxLogit. The
    encoder must have a `logit_bias`.

    Example:
        >>> siglip = negrefine.load_encoder("siglip/")
        >>> scores = negrefine.Sigmoid(siglip).fit(names).score_samples(["cat.png"])
        >>> bool(0 < scores[0] < 1)
        True
    """

    method = "sigmoid"
    title = "Sigmoid"
    paper = "ICCV 2023, arXiv 2303.15343"
    parts = ("sigmoid",)
    uses_logit_bias = True

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:  # noqa: ARG002
        """Return the probability of the best class name."""
        bias: float = self.encoder.logit_bias  # type: ignore[attr-defined] # checked before fit
        return sigmoid_score(images.classes, self.logit_scale_, bias)
