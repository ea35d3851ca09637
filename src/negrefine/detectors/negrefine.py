"""NegRefine: refined negative labels and multi-matching (ICCV 2025, arXiv 2507.09795)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from negrefine.constraints import FINITE, Boolean, OneOf, Strings, Whole
from negrefine.detectors.adaptive_alpha import ALPHA_RULES, CONSTANT
from negrefine.detectors.alpha_rules import FACTOR
from negrefine.detectors.bounded_scoring import BoundedScoring
from negrefine.detectors.csp import CSP
from negrefine.detectors.explanation import PairMatch, Unfiltered, decided_by, verdict_of
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.kept_pairs import MOST_KEPT, KeptPairs
from negrefine.detectors.multi_match import MultiMatch, NamePairs, pair_text
from negrefine.detectors.negative_labels import NegativeLabelDetector, label_matches
from negrefine.detectors.negfilter import (
    CONSTRAINTS,
    FILTERS,
    FilterRules,
    Question,
    changed_texts,
    check_judge,
    resolve_judge,
)
from negrefine.detectors.pair_embeddings import PairEmbeddings, PairLookups
from negrefine.detectors.parameters import Unsaved, detector, fitted, parameter, redeclared
from negrefine.detectors.proposed import (
    Proposed,
    check_proposer,
    facts_of,
    near_columns,
    outcomes,
    propose_labels,
    read_proposals,
    read_questions,
)
from negrefine.detectors.proposed_filter import refine_with_proposed
from negrefine.detectors.saved_form import UnitRows, checked
from negrefine.detectors.scores import near_mass, negrefine_score, with_near_group
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError
from negrefine.files.records import as_row
from negrefine.labels.negatives import Negatives
from negrefine.labels.prompts import CSP_PROMPTS, SUPERCLASS_TEMPLATES

if TYPE_CHECKING:
    from torch import Tensor

    from negrefine.detectors.bundle import Arrays, Tables
    from negrefine.judges.base import Judge
    from negrefine.proposers.base import Proposer

FILTER_PARAMETERS = tuple(name for name in CONSTRAINTS if name != "ranks_per_round")
"""The parameters that `with_filter` takes beside the judge."""


@detector
class NegRefine(BoundedScoring):
    """S = S_NegLabel + alpha S_MM on negative labels cleaned by NegFilter.

    With `propose`, labels that are proposed as like the classes join the mined ones, if EOE's
    overlap rules and NegFilter leave them. They are one more group of S_NegLabel, beside the G
    groups of mined labels, which stay as they are: S_NegLabel = (G S_mined + 1 - near) / (G + 1).
    Here `near` is the mass on the proposed labels in a softmax over them and the classes; it is a
    part of the score that is shown and does nothing else. A label that was mined too is in both.
    S_MM pairs the most similar labels, proposed or mined. If no proposal is left, the score is that
    without proposals.

    Attributes:
        mined_: The negative labels before NegFilter, proposed ones last.
        negatives_: The same labels after it: `removed_by` says what it removed, and why.
        audit_: Every question the judge was asked, with its answer.
        proposals_: Every proposal, who made it for which class, and why it stayed or went; the
            first lines of the saved audit trail.
        kept_pairs_: The pairs that images asked for most until `calibrate`, at most 4096; they are
            saved with the detector. None before.

    Example:
        >>> detector = negrefine.NegRefine(encoder, lexicon=lexicon, n_groups=10).fit(names)
        >>> detector.calibrate(animals, fpr=0.1).classify(["cat.png", "doughnut.png"])
        ['horse', None]
        >>> print(detector.explain("doughnut.png").headline())
        Closest to 'turtle', but 'firm environment' fits better: not one of your classes.
        >>> parts = detector.score_parts(food)
        >>> sorted(parts), parts["multi_match"].shape
        (['multi_match', 'neglabel'], (24,))
        >>> len(detector.mined_.labels), len(detector.negatives_.kept)
        (109, 105)
    """

    method = "negrefine"
    title = "NegRefine"
    paper = "ICCV 2025, arXiv 2507.09795"
    parts = ("neglabel", "multi_match")
    further_parts = ("near",)
    seed_parameter = "group_seed"
    compared = True
    default_prompts = CSP_PROMPTS
    official_files = "official-csp"

    judge: Judge | Unsaved | str | None = parameter(
        None,
        check_judge,
        "Answers NegFilter's questions: None is the offline WordNetJudge, 'none' no filter, or "
        "anything with is_proper_noun(words) and is_subcategory(pairs).",
        on_command_line=False,
    )
    n_candidates: int = parameter(
        10, CONSTRAINTS["n_candidates"], "Class names about which NegFilter asks for each label."
    )
    wordnet_candidates: bool = parameter(
        False,
        Boolean(),
        "Also ask about class names among a label's WordNet hypernyms or in its gloss, which the "
        "encoder may not hold near.",
    )
    names_per_question: int = parameter(
        1,
        Whole(1),
        "Above 1, ask about at most this many class names at once, and one by one only where the "
        "answer is not no; fewer questions, but a model may answer differently.",
    )
    filters: Sequence[str] = parameter(
        FILTERS,
        CONSTRAINTS["filters"],
        "Which questions to ask: 'proper_noun', 'subcategory'.",
        on_command_line=False,
    )
    keep: Iterable[str] = parameter(
        (), Strings(), "Words that stay whatever the judge says.", on_command_line=False
    )
    drop: Iterable[str] = parameter(
        (), Strings(), "Words that are removed without a question.", on_command_line=False
    )
    superclasses: Sequence[str] = redeclared(CSP, "superclasses", SUPERCLASS_TEMPLATES)
    alpha: float = parameter(
        2.0, FINITE, "Weight of S_MM; 0 leaves it out and encodes no text while scoring."
    )
    alpha_rule: str = parameter(
        CONSTANT,
        OneOf(ALPHA_RULES),
        "'constant' (published), 'uncertain' (alpha times 4 p (1 - p), p = S_NegLabel of the "
        "image) or 'class' (alpha times a factor of the class, from choose_alphas); with '-scaled' "
        "behind the last two, scores of all images have one range, without which 'uncertain' ranks "
        "sure images last.",
    )
    k: int = parameter(
        5, Whole(1), "S_MM pairs the k most similar class names with the k most similar labels."
    )
    quantile: float = redeclared(NegativeLabelDetector, "quantile", 1.0)
    exclude_class_names: str = redeclared(NegativeLabelDetector, "exclude_class_names", "exact")
    similarity_cap: float | None = redeclared(NegativeLabelDetector, "similarity_cap", 0.95)
    group_seed: int = redeclared(CSP, "group_seed", 0)
    max_pairs: int = parameter(
        100_000, Whole(0), "Pair embeddings to remember between calls (2 KB each at d = 512)."
    )
    propose: Proposer | Unsaved | str | None = parameter(
        None,
        check_proposer,
        "Proposes negative labels that look like the classes: 'wordnet', or anything with "
        "propose_similar(class_names, n) and propose_far(class_names, n); None mines only.",
        on_command_line=False,
    )
    n_proposed: int = parameter(5, Whole(1), "Labels that are proposed for each class name.")
    mined_: Negatives = fitted()
    proposals_: list[Proposed] = fitted(default_factory=list)
    audit_: list[Question] = fitted()
    pairs_: NamePairs = fitted()
    kept_pairs_: KeptPairs | None = fitted(None)

    def _part_names(self) -> list[str]:
        names = ["neglabel"] if self.alpha == 0 else [*self.parts, *self._factor_names()]
        return [*names, *self.further_parts] if self.negatives_.near else names

    def _negatives(
        self, class_names: list[str], class_features: FloatArray, *, progress: bool
    ) -> Negatives:
        if self.alpha != 0 and not self.prompts_.noun:
            raise InputError(
                "The prompts have no template for nouns, into which S_MM puts pairs of names: add "
                "'noun' to the prompts, or set alpha to 0."
            )
        mined = super()._negatives(class_names, class_features, progress=progress)
        mined, self.proposals_ = propose_labels(
            mined,
            self.propose,
            class_names,
            class_features,
            self.n_proposed,
            encoder=self.encoder,
            templates=self.prompts_.noun,
            progress=progress,
        )
        return self._refine(mined, class_names, progress=progress)

    def _refine(self, mined: Negatives, class_names: list[str], *, progress: bool) -> Negatives:
        judge = resolve_judge(self.judge)
        negatives, audit = refine_with_proposed(
            mined,
            class_names,
            judge,
            self.filter_rules,
            encoder=self.encoder,
            prompts=self.prompts_,
            progress=progress,
        )
        self.mined_, self.audit_ = mined, audit
        self.proposals_ = outcomes(self.proposals_, negatives, filtered=judge is not None)
        return negatives

    def _hold(
        self,
        negatives: Negatives,
        class_names: list[str],
        embeddings: PairEmbeddings | None = None,
    ) -> None:
        super()._hold(negatives, class_names)
        if embeddings is None:
            embeddings = PairEmbeddings(self.encoder, self.prompts_.noun, self.max_pairs)
        self.pairs_ = NamePairs(embeddings, class_names, negatives.texts)
        self.kept_pairs_ = None

    @property
    def filter_rules(self) -> FilterRules:
        """What NegFilter asks, by the parameters."""
        return FilterRules(**{name: getattr(self, name) for name in FILTER_PARAMETERS})

    @property
    def pair_lookups(self) -> PairLookups:
        """How many pair embeddings scores have needed since `fit` or loading, and from where.

        Copies by `with_params` and `with_filter` share the embeddings, and so these counts.
        """
        self._check_fitted()
        return self.pairs_.embeddings.lookups

    def _set_calibration(self, *calibration: Any) -> None:
        super()._set_calibration(*calibration)
        self.kept_pairs_ = self.pairs_.commonest(MOST_KEPT)

    def with_filter(
        self,
        judge: Judge | Unsaved | str | None = None,
        *,
        progress: bool = False,
        **parameters: Any,
    ) -> Self:
        """Return a fitted copy whose mined labels went through another filter.

        Nothing is mined again. The copy has no threshold, because its scores differ. The parameters
        are those of the class: `filters`, `keep` and `drop` return to their defaults where they are
        left out; `n_candidates`, `wordnet_candidates` and `names_per_question` stay.

        Raises NotFittedError before `fit`, and InputError for a parameter that cannot be used.
        """
        if unknown := sorted(set(parameters) - set(FILTER_PARAMETERS)):
            raise InputError(
                f"with_filter has no parameter {unknown[0]!r}: give one of "
                f"{', '.join(FILTER_PARAMETERS)}."
            )
        defaults: dict[str, Any] = {"filters": FILTERS, "keep": (), "drop": ()}
        other = self.with_params(judge=judge, **{**defaults, **parameters})
        negatives = other._refine(self.mined_, self.class_names_, progress=progress)
        other._hold(negatives, self.class_names_, self.pairs_.embeddings)
        return other

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:
        """Return S_NegLabel ("neglabel"), S_MM ("multi_match"), "alpha_factor" or "near"."""
        if name == FACTOR:
            return self._factor(images)
        if name == "multi_match":
            return self._match(images).score()
        if not self.negatives_.near:
            return super().compute_part(name, images)
        near = near_mass(images.classes, near_columns(images, self.negatives_), self.logit_scale_)
        if name == "near":
            return near
        return with_near_group(super().compute_part(name, images), near, len(self.groups_))

    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return S = S_NegLabel + alpha S_MM; see `alpha_rule` for other alphas."""
        if self.alpha == 0:
            return parts["neglabel"]
        rest, weight = self.score_terms(parts)
        return negrefine_score(rest, parts["multi_match"], weight)

    def _match(self, images: ImageBlock, ranks: slice = slice(None)) -> MultiMatch:
        return self.pairs_.match(
            images.features,
            images.classes,
            images.negatives,
            k=self.k,
            logit_scale=self.logit_scale_,
            ranks=ranks,
        )

    def _explain(self, image: ImageBlock, parts: dict[str, float], top: int) -> dict[str, Any]:
        fields = super()._explain(image, parts, top)
        if self.alpha == 0:
            return fields
        match = self._match(image)
        ((row, column),) = match.winners()
        name = self.class_names_[int(match.class_index[0, row])]
        negative = self.negatives_.texts[int(match.negative_index[0, column])]
        fields["pair"] = PairMatch(
            class_name=name,
            negative=negative,
            text=pair_text(name, negative),
            similarity=float(match.pair_similarities[0, row, column]),
            negative_similarity=float(match.negative_similarities[0, column]),
            added=self.score_terms(parts)[1] * float(match.score()[0]),
        )
        return fields

    def _decided_by(self, parts: dict[str, float], threshold: float | None) -> str | None:
        if "multi_match" not in parts:
            return None
        rest, weight = self.score_terms(parts)
        return decided_by({**parts, "neglabel": rest}, weight, threshold)

    def _explain_unfiltered(
        self, images: ImageBlock, top: int, thresholds: Sequence[float | None]
    ) -> Sequence[Unfiltered | None]:
        labels, features = self.negatives_.removed
        if not labels:
            return [None] * len(images)
        everything = copy(self)
        everything._hold(self.mined_, self.class_names_, self.pairs_.embeddings)
        scores = everything.score_features(images.features.numpy())
        similarities = images.cosines(features)
        return [
            Unfiltered(
                score=float(score),
                verdict=verdict_of(float(score), thresholds[row]),
                n_removed=len(labels),
                removed=label_matches(labels, similarities[row], top),
            )
            for row, score in enumerate(scores)
        ]

    def _saved_arrays(self) -> Arrays:
        changed = changed_texts(self.negatives_.labels)
        return {**super()._saved_arrays(), "mined_features": self.mined_.features[changed]}

    def _kept_arrays(self) -> Arrays:
        pairs = {} if self.kept_pairs_ is None else self.kept_pairs_.as_arrays()
        return {**super()._kept_arrays(), **pairs}

    def _facts(self) -> dict[str, Any]:
        return facts_of(super()._facts(), "propose", "n_proposed")

    def _saved_tables(self) -> Tables:
        proposed = [line.as_row() for line in self.proposals_]
        audit = [*proposed, *map(as_row, self.audit_)]
        return {**super()._saved_tables(), "audit": audit}

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        super()._restore(class_names, arrays, tables)
        self.proposals_ = read_proposals(tables["audit"])
        self.audit_ = read_questions(tables["audit"])
        changed = changed_texts(self.negatives_.labels)
        rows = UnitRows(len(changed), "cleaned labels", self.class_features_.shape[1])
        features = self.negatives_.features.copy()
        features[changed] = checked(arrays, "mined_features", rows)
        labels = tuple(
            replace(label, text=label.mined_text, removed_by=None, pinned=False)
            for label in self.negatives_.labels
        )
        self.mined_ = Negatives(labels, features)
        self.kept_pairs_ = self.pairs_.remember_saved(arrays, self.class_features_.shape[1])
