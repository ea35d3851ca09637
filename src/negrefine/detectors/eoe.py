"""EOE: envisioned outlier exposure (ICML 2024, arXiv 2406.00806), its score on any negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from negrefine.constraints import POSITIVE, Number, OneOf, Whole
from negrefine.detectors.base import Detector
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.negative_labels import MinedLabelDetector
from negrefine.detectors.parameters import Unsaved, detector, fitted, parameter
from negrefine.detectors.proposed import (
    Proposed,
    check_proposer,
    facts_of,
    only_proposed,
    propose,
    read_proposals,
    resolve_proposer,
)
from negrefine.detectors.scores import eoe_score
from negrefine.detectors.temperature import warn_of_other_scale
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError
from negrefine.labels.negatives import Negatives
from negrefine.labels.prompts import MCM_PROMPTS, Prompts

if TYPE_CHECKING:
    from torch import Tensor

    from negrefine.detectors.bundle import Arrays, Tables
    from negrefine.proposers.base import Proposer

# Labels for each class, and labels in all: L of the paper.
_PUBLISHED_NEAR, _PUBLISHED_FAR = 3, 500
_TEMPLATES = MCM_PROMPTS.class_name


@detector
class EOE(MinedLabelDetector):
    """The most likely class minus beta times the most likely negative label, on raw cosines.

    The paper's negative labels are those that a language model envisions: with `propose`, what a
    proposer names and the published overlap rules leave; no filter judges them, as published.
    Without, the labels are mined as NegLabel's unless they come from a word list (`lexicon` with
    `top_fraction=1`) or from a fitted detector (`on_labels_of`).

    Attributes:
        proposals_: Every proposal, who made it for which class, and why it stayed or went.

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
    propose: Proposer | Unsaved | str | None = parameter(
        None,
        check_proposer,
        "Proposes the negative labels: 'wordnet', or anything with propose_similar(class_names, n) "
        "and propose_far(class_names, n); None mines them.",
        on_command_line=False,
    )
    proposal_kind: str = parameter(
        "near",
        OneOf(("near", "far")),
        "What is proposed: 'near', labels like each class, or 'far', labels like none.",
    )
    n_proposed: int | None = parameter(
        None,
        Whole(1, optional=True),
        "Labels that are proposed for each class name, or in all with 'far'; None is what was "
        "published, 3 and 500.",
    )
    proposals_: list[Proposed] = fitted(default_factory=list)

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

    def check_parameters(self, names: Any = None) -> None:
        """Check the parameters; the lexicon only if labels are mined."""
        super().check_parameters(names)
        if names is None and self.propose is None:
            for name, default in (("proposal_kind", "near"), ("n_proposed", None)):
                if getattr(self, name) != default:
                    raise InputError(f"{name} has no effect without propose: leave it out.")

    def _negatives(
        self, class_names: list[str], class_features: FloatArray, *, progress: bool
    ) -> Negatives:
        self.proposals_ = []
        if self.propose is None:
            return super()._negatives(class_names, class_features, progress=progress)
        far = self.proposal_kind == "far"
        n = self.n_proposed or (_PUBLISHED_FAR if far else _PUBLISHED_NEAR)
        self.left_out_ = None
        self.proposals_ = propose(resolve_proposer(self.propose), class_names, n, far=far)
        return only_proposed(
            self.proposals_, class_features, self.encoder, self.prompts_.noun, progress=progress
        )

    def _count_texts(self, class_names: list[str]) -> int:
        if self.propose is None:
            return super()._count_texts(class_names)
        return len(class_names) * len(self.prompts_.class_name)

    def _facts(self) -> dict[str, Any]:
        return facts_of(super()._facts(), "propose", "proposal_kind", "n_proposed")

    def _saved_tables(self) -> Tables:
        audit = {"audit": [line.as_row() for line in self.proposals_]} if self.proposals_ else {}
        return {**super()._saved_tables(), **audit}

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        super()._restore(class_names, arrays, tables)
        self.proposals_ = read_proposals(tables.get("audit", ()))

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:  # noqa: ARG002
        """Return EOE's score."""
        return eoe_score(images.classes, images.negatives, self.temperature, self.beta)
