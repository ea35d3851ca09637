"""MCM: maximum concept matching (NeurIPS 2022, arXiv 2211.13445)."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import ClassVar

from torch import Tensor

from negrefine.detectors.base import Detector, as_double
from negrefine.detectors.scores import (
    energy_score,
    max_logit_score,
    mcm_score,
    negative_entropy_score,
    variance_score,
)
from negrefine.encoders.base import Encoder, FloatArray
from negrefine.errors import InputError
from negrefine.labels.prompts import MCM_PROMPTS, Prompts

RULES: MappingProxyType[str, Callable[[Tensor, float], Tensor]] = MappingProxyType(
    {
        "mcm": mcm_score,
        "max_logit": lambda similarities, _: max_logit_score(similarities),
        "energy": energy_score,
        "entropy": negative_entropy_score,
        "variance": variance_score,
    }
)
"""Scores of cosines and temperature that MCM's official script offers, all larger for ID."""


class MCM(Detector):
    """The largest probability in a softmax over raw cosines with the class names.

    Args:
        encoder: From `load_encoder`.
        temperature: Divides the cosines; 1.0 as published. The encoder's logit scale plays no part.
        prompts: Templates of class names instead of "a photo of a {}".
        rule: "mcm", or a baseline of the official script: "max_logit" (no temperature), "energy",
            "entropy" (negated), "variance".
    """

    method: ClassVar[str] = "mcm"
    title: ClassVar[str] = "MCM"
    _default_prompts: ClassVar[Prompts] = MCM_PROMPTS

    def __init__(
        self,
        encoder: Encoder,
        *,
        temperature: float = 1.0,
        prompts: Prompts | None = None,
        rule: str = "mcm",
    ) -> None:
        self.encoder = encoder
        self.temperature = temperature
        self.prompts = prompts
        self.rule = rule

    def _fit_negatives(
        self, class_names: list[str], class_features: FloatArray, *, progress: bool
    ) -> None:
        del class_names, class_features, progress
        if not self.temperature > 0:
            raise InputError(f"temperature must be positive, not {self.temperature}.")
        if self.rule not in RULES:
            raise InputError(f"rule must be one of {', '.join(RULES)}, not {self.rule!r}.")

    def _score_parts(self, features: Tensor) -> dict[str, Tensor]:
        similarities = features @ as_double(self.class_features_).T
        return {self.rule: RULES[self.rule](similarities, self.temperature)}
