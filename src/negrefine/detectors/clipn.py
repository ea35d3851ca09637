"""CLIPN: a second text encoder that says no (ICCV 2023, arXiv 2308.12213)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from negrefine.detectors.base import Detector, as_double, resolve_logit_scale
from negrefine.detectors.bundle import Arrays, Tables
from negrefine.detectors.scores import (
    agreeing_to_differ_score,
    competing_to_win_score,
    energy_score,
    max_logit_score,
    mcm_score,
)
from negrefine.encoders.base import FloatArray, YesNoEncoder
from negrefine.errors import InputError
from negrefine.labels.clipn_prompts import CLIPN_PROMPTS
from negrefine.labels.prompts import Prompts, ensemble

RULES = ("atd", "ctw", "msp", "max_logit", "energy")


class CLIPN(Detector):
    """The probability that the "yes" text of a class fits the image better than its "no" text.

    The rules "msp", "max_logit" and "energy" are the official script's baselines: they look at the
    "yes" texts alone. Every rule is computed, and `rule` says which of them is the score.
    Features of single prompts are normalised before they are averaged.

    Args:
        encoder: From `load_encoder` on a directory that `negrefine convert-clipn` wrote.
        rule: "atd", agreeing to differ: the class probabilities weighted by their yes-probability;
            "ctw", competing to win: the yes-probability of the most likely class; "msp",
            "max_logit", "energy".
        logit_scale: Factor on cosines; None is the encoder's own (100, the published constant, for
            the released models).
        prompts: Templates instead of the 128 published ones. `Prompts.no` holds those of the "no"
            encoder if they differ, as in the hand-crafted variant of the paper.

    Attributes:
        no_class_features_: float32 (K, d), like `class_features_` but from the "no" encoder.
    """

    method: ClassVar[str] = "clipn"
    title: ClassVar[str] = "CLIPN"
    _default_prompts: ClassVar[Prompts] = CLIPN_PROMPTS

    encoder: YesNoEncoder
    no_class_features_: FloatArray

    def __init__(
        self,
        encoder: YesNoEncoder,
        *,
        rule: str = "atd",
        logit_scale: float | None = None,
        prompts: Prompts | None = None,
    ) -> None:
        self.encoder = encoder
        self.rule = rule
        self.logit_scale = logit_scale
        self.prompts = prompts

    def _embed_class_names(self, class_names: list[str], *, progress: bool) -> FloatArray:
        if not hasattr(self.encoder, "encode_texts_no"):
            raise InputError(
                f"The encoder {self.encoder.name!r} has no 'no' text tower, which CLIPN needs: "
                "convert a CLIPN checkpoint with 'negrefine convert-clipn' and load the result."
            )
        if self.rule not in RULES:
            raise InputError(f"rule must be one of {', '.join(RULES)}, not {self.rule!r}.")
        resolve_logit_scale(self.logit_scale, self.encoder)
        return ensemble(
            self.encoder.encode_texts,
            class_names,
            self.prompts_.class_name,
            normalise_each=True,
            description="Encoding class names",
            progress=progress,
        )

    def _fit_negatives(
        self, class_names: list[str], class_features: FloatArray, *, progress: bool
    ) -> None:
        del class_features
        self.no_class_features_ = ensemble(
            self.encoder.encode_texts_no,
            class_names,
            self.prompts_.no or self.prompts_.class_name,
            normalise_each=True,
            description="Encoding class names with the 'no' encoder",
            progress=progress,
        )

    def _score_parts(self, features: Tensor) -> dict[str, Tensor]:
        scale = resolve_logit_scale(self.logit_scale, self.encoder)
        yes = features @ as_double(self.class_features_).T
        no = features @ as_double(self.no_class_features_).T
        return {
            "atd": agreeing_to_differ_score(yes, no, scale),
            "ctw": competing_to_win_score(yes, no, scale),
            "msp": mcm_score(yes, 1 / scale),
            "max_logit": max_logit_score(yes, scale),
            "energy": energy_score(yes * scale),
        }

    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the component that `rule` names."""
        return parts[self.rule]

    def _saved_arrays(self) -> Arrays:
        return {**super()._saved_arrays(), "no_class_features": self.no_class_features_}

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        super()._restore(class_names, arrays, tables)
        self.no_class_features_ = arrays["no_class_features"]
        if self.no_class_features_.shape != self.class_features_.shape:
            raise ValueError("the features of the 'yes' and the 'no' encoder differ in shape")
