"""MCM: maximum concept matching (NeurIPS 2022, arXiv 2211.13445)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from negrefine.constraints import POSITIVE, OneOf
from negrefine.detectors.base import Detector
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.parameters import detector, parameter
from negrefine.detectors.scores import (
    energy_score,
    max_logit_score,
    mcm_score,
    negative_entropy_score,
    variance_score,
)
from negrefine.detectors.temperature import warn_of_other_scale
from negrefine.encoders.base import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

RULES: Mapping[str, Callable[[Tensor, float], Tensor]] = MappingProxyType(
    {
        "mcm": mcm_score,
        "max_logit": lambda similarities, _: max_logit_score(similarities),
        "energy": energy_score,
        "entropy": negative_entropy_score,
        "variance": variance_score,
    }
)
"""Scores of cosines and temperature that MCM's official script offers, all larger for ID."""


@detector
class MCM(Detector):
    """The largest probability in a softmax over raw cosines with the class names.

    The encoder's logit scale plays no part.

    Example:
        >>> detector = negrefine.MCM(encoder).fit(names)
        >>> detector.score_samples(["cat.png"]).round(2)
        array([0.15])
        >>> detector.with_params(rule="max_logit").score_samples(["cat.png"]).round(2)
        array([0.38])
    """

    method = "mcm"
    title = "MCM"
    paper = "NeurIPS 2022, arXiv 2211.13445"
    compared = True

    temperature: float = parameter(1.0, POSITIVE, "Divides the cosines.")
    rule: str = parameter(
        "mcm",
        OneOf(tuple(RULES)),
        "The score: 'mcm', or a baseline of the official script: 'max_logit' (no temperature), "
        "'energy', 'entropy' (negated) or 'variance'.",
    )

    def _compares_classes(self) -> bool:
        return self.rule in {"mcm", "entropy", "variance"}

    def _part_names(self) -> list[str]:
        return [self.rule]

    def _fit(self, class_names: list[str], class_features: FloatArray, *, progress: bool) -> None:
        del class_names, class_features, progress
        if self.rule != "max_logit":
            warn_of_other_scale(self.encoder, self.temperature)

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:
        """Return the score of the rule; see `negrefine.detectors.scores`."""
        return RULES[name](images.classes, self.temperature)
