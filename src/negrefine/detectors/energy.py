"""Energy: the free energy of the class logits (NeurIPS 2020, arXiv 2010.03759)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negrefine.constraints import POSITIVE
from negrefine.detectors.base import Detector
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.parameters import detector, parameter
from negrefine.detectors.scores import energy_score
from negrefine.detectors.temperature import warn_of_other_scale
from negrefine.encoders.base import FloatArray

if TYPE_CHECKING:
    from torch import Tensor


@detector
class Energy(Detector):
    """T logsumexp_k(s_k / T) over raw cosines s_k with the class names, as MCM's script has it.

    Example:
        >>> negrefine.Energy(encoder).fit(names).score_samples(["cat.png", "doughnut.png"]).round(2)
        array([2.29, 2.06])
    """

    method = "energy"
    title = "Energy"
    paper = "NeurIPS 2020, arXiv 2010.03759"
    parts = ("energy",)

    temperature: float = parameter(1.0, POSITIVE, "Divides the cosines.")

    def _fit(self, class_names: list[str], class_features: FloatArray, *, progress: bool) -> None:
        del class_names, class_features, progress
        warn_of_other_scale(self.encoder, self.temperature)

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:  # noqa: ARG002
        """Return the negative free energy."""
        return energy_score(images.classes, self.temperature)
