"""EOE: envisioned outlier exposure (ICML 2024, arXiv 2406.00806), its score on any negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from typing_extensions import Self

from negrefine.constraints import POSITIVE, Number
from negrefine.detectors.base import Detector
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.negative_labels import MinedLabelDetector
from negrefine.detectors.parameters import detector, parameter
from negrefine.detectors.scores import eoe_score
from negrefine.detectors.temperature import warn_of_other_scale
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError
from negrefine.labels.prompts import MCM_PROMPTS, Prompts

if TYPE_CHECKING:
    from torch import Tensor

_TEMPLATES = MCM_PROMPTS.class_name


@detector
class EOE(MinedLabelDetector):
    """The most likely class minus beta times the most likely negative label, on raw cosines.

    The paper's negative labels are those that a language model envisions; these are mined as
    NegLabel's unless they come from a word list (`lexicon` with `top_fraction=1`) or from a fitted
    detector (`on_labels_of`).

    Example:
        >>> detector = negrefine.EOE.on_labels_of(refine)
        >>> known, strange = detector.score_samples(["cat.png", "doughnut.png"])
        >>> bool(known > strange)
        True
    """

    method = "eoe"
    title = "EOE"
    paper = "ICML 2024, arXiv 2406.00806"
    parts = ("eoe",)
    default_prompts = Prompts(class_name=_TEMPLATES, noun=_TEMPLATES, adjective=_TEMPLATES)
    official_files = "official-neglabel"
    clean_underscores = False

    temperature: float = parameter(1.0, POSITIVE, "Divides the cosines.")
    beta: float = parameter(
        0.25,
        Number("be a finite number of at least 0", low=0, closed="low"),
        "Weight of the most likely negative label.",
    )

    @classmethod
    def on_labels_of(
        cls, detector: Detector, *, temperature: float = 1.0, beta: float = 0.25
    ) -> Self:
        """Return EOE's score on the classes and negative labels of a fitted detector.

        Raises NotFittedError before its `fit`, and InputError for one without negative labels.
        """
        detector._check_fitted()
        if detector.negatives_ is None:
            raise InputError(
                f"{detector.title or detector.method} has no negative labels: give NegLabel, CSP "
                "or NegRefine."
            )
        made = cls(detector.encoder, prompts=detector.prompts_, temperature=temperature, beta=beta)
        made.check_parameters()
        made.class_names_ = detector.class_names_
        made.class_features_ = detector.class_features_
        made._hold(detector.negatives_, made.class_names_)
        return made

    def _fit(self, class_names: list[str], class_features: FloatArray, *, progress: bool) -> None:
        warn_of_other_scale(self.encoder, self.temperature)
        super()._fit(class_names, class_features, progress=progress)

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:  # noqa: ARG002
        """Return EOE's score."""
        return eoe_score(images.classes, images.negatives, self.temperature, self.beta)
