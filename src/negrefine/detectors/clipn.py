"""CLIPN: a second text encoder that says no (ICCV 2023, arXiv 2308.12213)."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from negrefine.constraints import POSITIVE_OR_NONE, OneOf
from negrefine.detectors.base import Detector
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.parameters import detector, fitted, parameter
from negrefine.detectors.saved_form import UnitRows, checked
from negrefine.detectors.scores import (
    agreeing_to_differ_score,
    competing_to_win_score,
    energy_score,
    max_logit_score,
    mcm_score,
)
from negrefine.encoders.base import FloatArray, YesNoEncoder
from negrefine.labels.embedding import ensemble
from negrefine.labels.prompts import CLIPN_PROMPTS

if TYPE_CHECKING:
    from torch import Tensor

    from negrefine.detectors.bundle import Arrays, Tables


@detector
class CLIPN(Detector):
    """The probability that the "yes" text of a class fits the image better than its "no" text.

    Every rule is computed as a part, and `rule` says which of them is the score. Features of single
    prompts are normalised before they are averaged. The encoder is what `load_encoder` makes of a
    directory that `negrefine convert-clipn` wrote. `Prompts.no` holds the prompts of the "no"
    encoder if they differ, as in the hand-crafted variant of the paper.

    Attributes:
        no_class_features_: float32 (K, d), like `class_features_` but from the "no" encoder.

    Example:
        >>> detector = negrefine.CLIPN(negrefine.load_encoder("clipn/")).fit(names)
        >>> detector.score_samples(["cat.png"]).shape
        (1,)
        >>> detector.with_params(rule="ctw").score_parts(["cat.png"]).keys() >= {"atd", "ctw"}
        True
    """

    method = "clipn"
    title = "CLIPN"
    paper = "ICCV 2023, arXiv 2308.12213"
    parts = ("atd", "ctw", "msp", "max_logit", "energy")
    uses_no_texts = True
    default_prompts = CLIPN_PROMPTS

    encoder: YesNoEncoder = field(kw_only=False)
    rule: str = parameter(
        "atd",
        OneOf(parts),
        "The score: 'atd' (agreeing to differ, the class probabilities weighted by their "
        "yes-probability), 'ctw' (competing to win, the yes-probability of the most likely class), "
        "or a baseline on the 'yes' texts alone: 'msp', 'max_logit', 'energy'.",
    )
    logit_scale: float | None = parameter(
        None,
        POSITIVE_OR_NONE,
        "Factor on cosines; None is the encoder's own (100 for OpenAI's CLIP).",
    )
    no_class_features_: FloatArray = fitted()

    def _embed_class_names(self, class_names: list[str], *, progress: bool) -> FloatArray:
        return ensemble(
            self.encoder.encode_texts,
            class_names,
            self.prompts_.class_name,
            normalise_each=True,
            description="Encoding class names",
            progress=progress,
        )

    def _fit(self, class_names: list[str], class_features: FloatArray, *, progress: bool) -> None:
        del class_features
        self.no_class_features_ = ensemble(
            self.encoder.encode_texts_no,
            class_names,
            self.prompts_.no or self.prompts_.class_name,
            normalise_each=True,
            description="Encoding class names with the 'no' encoder",
            progress=progress,
        )

    def _count_texts(self, class_names: list[str]) -> int:
        no = self.prompts_.no or self.prompts_.class_name
        return super()._count_texts(class_names) + len(class_names) * len(no)

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:
        """Return the score of one rule; see `negrefine.detectors.scores`."""
        scale, yes = self.logit_scale_, images.classes
        if name == "msp":
            return mcm_score(yes, 1 / scale)
        if name == "max_logit":
            return max_logit_score(yes, scale)
        if name == "energy":
            return energy_score(yes * scale)
        score = agreeing_to_differ_score if name == "atd" else competing_to_win_score
        return score(yes, images.cosines(self.no_class_features_), scale)

    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the component that `rule` names."""
        return parts[self.rule]

    def _saved_arrays(self) -> Arrays:
        return {**super()._saved_arrays(), "no_class_features": self.no_class_features_}

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        super()._restore(class_names, arrays, tables)
        rows = UnitRows(len(class_names), "class names", self.class_features_.shape[1])
        self.no_class_features_ = checked(arrays, "no_class_features", rows)
