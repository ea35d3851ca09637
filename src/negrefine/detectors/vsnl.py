"""ANTS's near score: proposed labels that look like the classes (CVPR 2026, arXiv 2509.03951)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negrefine.constraints import POSITIVE_OR_NONE, SEED, Whole
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.negative_labels import LabelDetector
from negrefine.detectors.negfilter import FilterRules, Question, check_judge, resolve_judge
from negrefine.detectors.parameters import Unsaved, detector, fitted, parameter
from negrefine.detectors.proposed import (
    Proposed,
    check_proposer,
    only_proposed,
    outcomes,
    propose,
    read_proposals,
    read_questions,
    resolve_proposer,
)
from negrefine.detectors.proposed_filter import filter_proposed
from negrefine.detectors.scores import group_negatives, neglabel_score
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError
from negrefine.files.records import as_row
from negrefine.labels.prompts import Prompts

if TYPE_CHECKING:
    from torch import Tensor

    from negrefine.detectors.bundle import Arrays, Tables
    from negrefine.judges.base import Judge
    from negrefine.proposers.base import Proposer

_TEMPLATES = ("The nice {}.",)


@detector
class VSNL(LabelDetector):
    """Mass on the classes in a softmax over them and visually similar negative labels.

    The static near branch of ANTS, all classes active: the published one asks for labels of the
    classes that a stream predicts most. Here the labels also pass EOE's overlap rules and
    NegFilter, without which some are classes in other words; nothing is mined.

    Attributes:
        negatives_: The proposed labels, kept and removed by NegFilter.
        audit_: Every question the judge was asked, with its answer.
        proposals_: Every proposal, who made it for which class, and why it stayed or went.

    Example:
        >>> detector = negrefine.VSNL(encoder, n_proposed=3).fit(names)
        >>> known, strange = detector.score_samples(["cat.png", "doughnut.png"])
        >>> bool(known > strange)
        True
        >>> [line.text for line in detector.proposals_ if line.class_name == "horse"]
        ['mule', 'hinny', 'zebra']
    """

    method = "vsnl"
    title = "VSNL"
    paper = "CVPR 2026, arXiv 2509.03951"
    parts = ("vsnl",)
    seed_parameter = "group_seed"
    default_prompts = Prompts(class_name=_TEMPLATES, noun=_TEMPLATES)

    propose: Proposer | Unsaved | str | None = parameter(
        None,
        check_proposer,
        "Proposes the labels: None and 'wordnet' are WordNet, or anything with "
        "propose_similar(class_names, n) and propose_far(class_names, n).",
        on_command_line=False,
    )
    n_proposed: int = parameter(5, Whole(1), "Labels that are proposed for each class name.")
    judge: Judge | Unsaved | str | None = parameter(
        None,
        check_judge,
        "Answers NegFilter's questions about proposed labels: None is the offline WordNetJudge, "
        "'none' no filter, as published, or anything with is_proper_noun(words) and "
        "is_subcategory(pairs).",
        on_command_line=False,
    )
    group_length: int = parameter(
        100, Whole(1), "Labels of a group; so many and fewer are in one softmax."
    )
    group_seed: int = parameter(0, SEED, "Seed of the assignment to groups.")
    logit_scale: float | None = parameter(
        None,
        POSITIVE_OR_NONE,
        "Factor on cosines; None is the encoder's own (100 for OpenAI's CLIP).",
    )
    proposals_: list[Proposed] = fitted(default_factory=list)
    audit_: list[Question] = fitted(default_factory=list)

    def _fit(self, class_names: list[str], class_features: FloatArray, *, progress: bool) -> None:
        proposer = resolve_proposer("wordnet" if self.propose is None else self.propose)
        judge = resolve_judge(self.judge)
        proposals = propose(proposer, class_names, self.n_proposed)
        templates = self.prompts_.noun
        proposed = only_proposed(
            proposals, class_features, self.encoder, templates, progress=progress
        )
        negatives, self.audit_ = filter_proposed(
            proposed,
            class_names,
            judge,
            FilterRules(),
            encoder=self.encoder,
            templates=templates,
            progress=progress,
        )
        if not negatives.kept:
            raise InputError(
                f"NegFilter removed all {len(negatives.labels)} proposed labels: check the judge, "
                "or use judge='none'."
            )
        self.proposals_ = outcomes(proposals, negatives, filtered=judge is not None)
        self._hold(negatives, class_names)

    @property
    def groups_(self) -> Tensor:
        """int64 (G, W), the rows of `negative_features_` in each group."""
        n = len(self.negatives_.kept)
        n_groups = n // self.group_length if n > self.group_length else 1
        return group_negatives(n, n_groups, seed=int(self.group_seed))

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:  # noqa: ARG002
        """Return `negrefine.detectors.scores.vsnl_score`."""
        return neglabel_score(images.classes, images.negatives, self.groups_, self.logit_scale_)

    def _saved_tables(self) -> Tables:
        proposed = [line.as_row() for line in self.proposals_]
        audit: list[dict[str, Any]] = [*proposed, *map(as_row, self.audit_)]
        return {**super()._saved_tables(), "audit": audit}

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        super()._restore(class_names, arrays, tables)
        self.proposals_ = read_proposals(tables["audit"])
        self.audit_ = read_questions(tables["audit"])
