"""NegLabel: a softmax against mined negative labels (ICLR 2024, arXiv 2403.20078)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from negrefine.detectors.base import (
    Detector,
    as_double,
    check_whole,
    resolve_logit_scale,
)
from negrefine.detectors.bundle import Arrays, Tables
from negrefine.detectors.explanation import Match
from negrefine.detectors.scores import group_negatives, neglabel_score, raw_sum_score
from negrefine.detectors.unsaved import Unsaved
from negrefine.encoders.base import Encoder, FloatArray
from negrefine.labels.lexicon import Lexicon
from negrefine.labels.mining import MiningRule, NegativeLabel, mine
from negrefine.labels.prompts import NEGLABEL_PROMPTS, Prompts
from negrefine.labels.wordnet import WordNet


class NegLabel(Detector):
    """The probability of the classes in a softmax over classes and negative labels, by groups.

    Args:
        encoder: From `load_encoder`.
        lexicon: Words to mine; None is the shipped WordNet 3.1.
        lexicon_files: "official" (the files of the published method), another preset of
            `Lexicon.select`, or a list of lexicographer files.
        prompts: Templates instead of "the nice {}" and "This is a {} photo".
        top_fraction: Fraction of nouns, and of adjectives, to take.
        quantile: Quantile over classes by which words are ranked.
        exclude_class_names: "off" as published, "exact" or "casefold" keep class names out.
        similarity_cap: See `MiningRule`; None as published.
        n_groups: Groups over which the softmax is averaged.
        group_fuse_num: Average only the first so many groups; the official code, and so
            `official=True`, averages one fewer. None averages all.
        seed: Seed of the assignment to groups.
        logit_scale: Factor on cosines; None is the encoder's own (100 for OpenAI's CLIP).
        official: True follows the released code: the last M mod n_groups labels take no part, and
            with one group the score is the sum of scaled cosines. False follows the paper's
            formula with every label.

    Attributes:
        negative_labels_: The M mined labels, nouns then adjectives, least similar first.
        negative_features_: float32, prompt ensembles of the labels that are kept.
    """

    method: ClassVar[str] = "neglabel"
    title: ClassVar[str] = "NegLabel"
    seed_parameter: ClassVar[str | None] = "seed"
    _default_prompts: ClassVar[Prompts] = NEGLABEL_PROMPTS
    _official_files: ClassVar[str] = "official-neglabel"

    negative_labels_: list[NegativeLabel]
    negative_features_: FloatArray
    # The features that the float64 copy was made of, and the copy, (d, M).
    _double_negatives: tuple[FloatArray, Tensor] | None = None

    def __init__(
        self,
        encoder: Encoder,
        *,
        lexicon: Lexicon | Unsaved | None = None,
        lexicon_files: str | Sequence[str] = "official",
        prompts: Prompts | None = None,
        top_fraction: float = 0.15,
        quantile: float = 0.95,
        exclude_class_names: str = "off",
        similarity_cap: float | None = None,
        n_groups: int = 100,
        group_fuse_num: int | None = None,
        seed: int = 0,
        logit_scale: float | None = None,
        official: bool = True,
    ) -> None:
        self.encoder = encoder
        self.lexicon = lexicon
        self.lexicon_files = lexicon_files
        self.prompts = prompts
        self.top_fraction = top_fraction
        self.quantile = quantile
        self.exclude_class_names = exclude_class_names
        self.similarity_cap = similarity_cap
        self.n_groups = n_groups
        self.group_fuse_num = group_fuse_num
        self.seed = seed
        self.logit_scale = logit_scale
        self.official = official

    @property
    def kept_negative_labels_(self) -> list[NegativeLabel]:
        """The labels that take part in scores, one for each row of `negative_features_`."""
        return [label for label in self.negative_labels_ if label.kept]

    def _mining_rule(self) -> MiningRule:
        return MiningRule(
            superclasses=(),
            clean_underscores=False,
            exclude_class_names=self.exclude_class_names,
            quantile=self.quantile,
            similarity_cap=self.similarity_cap,
            top_fraction=self.top_fraction,
        )

    def _group_seed(self) -> int:
        return self.seed

    def _check_parameters(self) -> None:
        """Raise InputError for a parameter that cannot be used, before minutes of mining."""
        check_whole("n_groups", self.n_groups, 1)
        check_whole("seed", self.seed, 0)
        if self.group_fuse_num is not None:
            check_whole("group_fuse_num", self.group_fuse_num, 2 if self.official else 1)
        resolve_logit_scale(self.logit_scale, self.encoder)
        self._mining_rule()

    def _fit_negatives(
        self, class_names: list[str], class_features: FloatArray, *, progress: bool
    ) -> None:
        self._check_parameters()
        if isinstance(self.lexicon, Unsaved):
            raise self.lexicon.error()
        lexicon = Lexicon.wordnet() if self.lexicon is None else self.lexicon
        files = self.lexicon_files
        if isinstance(files, str) and files == "official":
            files = self._official_files
        labels, features = mine(
            self.encoder,
            lexicon.select(files),
            class_names,
            class_features,
            self.prompts_,
            self._mining_rule(),
            seed=int(self.seed),
            progress=progress,
        )
        self._take_labels(*self._refine(labels, features, class_names, progress=progress))
        if self.groups_.numel() == 0:
            warnings.warn(
                f"{len(self.negative_features_)} negative labels cannot fill {self.n_groups} "
                "groups and the official rule leaves them all out: every NegLabel score is 1; "
                "lower n_groups or set official=False.",
                stacklevel=4,
            )

    def _refine(
        self,
        labels: list[NegativeLabel],
        features: FloatArray,
        class_names: list[str],  # noqa: ARG002
        *,
        progress: bool,  # noqa: ARG002
    ) -> tuple[list[NegativeLabel], FloatArray]:
        """Return the labels with `kept` set, and the features of all of them."""
        return labels, features

    def _take_labels(self, labels: list[NegativeLabel], features: FloatArray) -> None:
        self.negative_labels_ = labels
        self._label_features = features
        self.negative_features_ = features[[label.kept for label in labels]]

    @property
    def groups_(self) -> Tensor:
        """int64 (G, W), the rows of `negative_features_` in each group; -1 fills up."""
        groups = group_negatives(
            len(self.negative_features_),
            self.n_groups,
            seed=int(self._group_seed()),
            official=self.official,
        )
        if self.group_fuse_num is None or self.n_groups == 1:
            return groups
        return groups[: self.group_fuse_num - 1 if self.official else self.group_fuse_num]

    def _similarities(self, features: Tensor) -> tuple[Tensor, Tensor]:
        negatives = self._double_negatives
        if negatives is None or negatives[0] is not self.negative_features_:
            # Thousands of rows, converted once rather than for every batch of images.
            negatives = (self.negative_features_, as_double(self.negative_features_).T)
            self._double_negatives = negatives
        return features @ as_double(self.class_features_).T, features @ negatives[1]

    def _score_parts(self, features: Tensor) -> dict[str, Tensor]:
        classes, negatives = self._similarities(features)
        scale = resolve_logit_scale(self.logit_scale, self.encoder)
        if self.n_groups == 1 and self.official:
            return {"neglabel": raw_sum_score(classes, scale)}
        return {"neglabel": neglabel_score(classes, negatives, self.groups_, scale)}

    def _explain_negatives(self, x: Tensor, top: int) -> dict[str, Any]:
        return {
            "negatives": label_matches(self.kept_negative_labels_, self.negative_features_, x, top)
        }

    def _saved_arrays(self) -> Arrays:
        return {**super()._saved_arrays(), "negative_features": self._label_features}

    def _saved_tables(self) -> Tables:
        return {
            **super()._saved_tables(),
            "negative_labels": [asdict(label) for label in self.negative_labels_],
        }

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        super()._restore(class_names, arrays, tables)
        features = arrays["negative_features"]
        labels = [NegativeLabel(**row) for row in tables["negative_labels"]]
        if len(labels) != len(features):
            raise ValueError("negative labels and their features differ in number")
        self._take_labels(labels, features)


def label_matches(
    labels: Sequence[NegativeLabel], features: FloatArray, x: Tensor, top: int
) -> list[Match]:
    """Return the labels most similar to one normalised feature (d,), with their definitions."""
    similarity = (as_double(features) @ x).numpy()
    order = np.argsort(-similarity, kind="stable")[:top]
    return [
        Match(labels[i].text, float(similarity[i]), labels[i].lexname, definition_of(labels[i]))
        for i in order
    ]


def definition_of(label: NegativeLabel) -> str:
    """Return the commonest meaning of the label's word in its lexicographer file, or ""."""
    for synset in WordNet.load().synsets(label.word, pos=label.pos):
        if synset.lexname == label.lexname:
            return synset.definition
    return ""
