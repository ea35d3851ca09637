"""MCM: maximum concept matching (NeurIPS 2022, arXiv 2211.13445)."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from negrefine.detectors.base import Detector, as_double
from negrefine.detectors.scores import mcm_score
from negrefine.encoders.base import Encoder, FloatArray
from negrefine.errors import InputError
from negrefine.labels.prompts import MCM_PROMPTS, Prompts


class MCM(Detector):
    """The largest probability in a softmax over raw cosines with the class names.

    Args:
        encoder: From `load_encoder`.
        temperature: Divides the cosines; 1.0 as published. The encoder's logit scale plays no part.
        prompts: Templates of class names instead of "a photo of a {}".
    """

    method: ClassVar[str] = "mcm"
    _default_prompts: ClassVar[Prompts] = MCM_PROMPTS

    def __init__(
        self, encoder: Encoder, *, temperature: float = 1.0, prompts: Prompts | None = None
    ) -> None:
        self.encoder = encoder
        self.temperature = temperature
        self.prompts = prompts

    def _fit_negatives(
        self, class_names: list[str], class_features: FloatArray, *, progress: bool
    ) -> None:
        del class_names, class_features, progress
        if not self.temperature > 0:
            raise InputError(f"temperature must be positive, not {self.temperature}.")

    def _score_parts(self, features: Tensor) -> dict[str, Tensor]:
        similarities = features @ as_double(self.class_features_).T
        return {"mcm": mcm_score(similarities, self.temperature)}
