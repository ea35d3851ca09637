"""CSP: conjugated semantic pool (NeurIPS 2024, arXiv 2410.08611)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from negrefine.detectors.base import check_whole, resolve_logit_scale
from negrefine.detectors.neglabel import NegLabel
from negrefine.detectors.scores import neglabel_score
from negrefine.detectors.unsaved import Unsaved
from negrefine.encoders.base import Encoder
from negrefine.labels.lexicon import Lexicon
from negrefine.labels.mining import MiningRule
from negrefine.labels.prompts import CSP_PROMPTS, SUPERCLASS_TEMPLATES, Prompts


class CSP(NegLabel):
    """NegLabel's score on a pool in which adjectives become phrases like "gooey landscape".

    Parameters and attributes are those of `NegLabel` but for these:

    Args:
        seed: Seed of the draw of a superclass for each adjective.
        group_seed: Seed of the assignment to groups; the official code always uses 0.
        superclasses: Templates that make phrases of adjectives.
        similarity_cap: A word with a cosine above it is ranked last; 0.95 as published.
        official: True follows the released code: the last M mod n_groups labels take no part.
    """

    method: ClassVar[str] = "csp"
    title: ClassVar[str] = "CSP"
    seed_parameter: ClassVar[str | None] = "group_seed"
    _default_prompts: ClassVar[Prompts] = CSP_PROMPTS
    _official_files: ClassVar[str] = "official-csp"

    def __init__(
        self,
        encoder: Encoder,
        *,
        lexicon: Lexicon | Unsaved | None = None,
        lexicon_files: str | Sequence[str] = "official",
        prompts: Prompts | None = None,
        superclasses: Sequence[str] = SUPERCLASS_TEMPLATES,
        top_fraction: float = 0.15,
        quantile: float = 0.95,
        exclude_class_names: str = "off",
        similarity_cap: float | None = 0.95,
        n_groups: int = 100,
        group_fuse_num: int | None = None,
        seed: int = 0,
        group_seed: int = 0,
        logit_scale: float | None = None,
        official: bool = True,
    ) -> None:
        super().__init__(
            encoder,
            lexicon=lexicon,
            lexicon_files=lexicon_files,
            prompts=prompts,
            top_fraction=top_fraction,
            quantile=quantile,
            exclude_class_names=exclude_class_names,
            similarity_cap=similarity_cap,
            n_groups=n_groups,
            group_fuse_num=group_fuse_num,
            seed=seed,
            logit_scale=logit_scale,
            official=official,
        )
        self.superclasses = superclasses
        self.group_seed = group_seed

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_whole("group_seed", self.group_seed, 0)

    def _mining_rule(self) -> MiningRule:
        return MiningRule(
            superclasses=tuple(self.superclasses),
            exclude_class_names=self.exclude_class_names,
            quantile=self.quantile,
            similarity_cap=self.similarity_cap,
            top_fraction=self.top_fraction,
        )

    def _group_seed(self) -> int:
        return self.group_seed

    def _score_parts(self, features: Tensor) -> dict[str, Tensor]:
        classes, negatives = self._similarities(features)
        scale = resolve_logit_scale(self.logit_scale, self.encoder)
        return {"neglabel": neglabel_score(classes, negatives, self.groups_, scale)}
