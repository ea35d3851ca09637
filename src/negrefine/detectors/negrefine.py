"""NegRefine: refined negative labels and multi-matching (ICCV 2025, arXiv 2507.09795)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import asdict, replace
from typing import Any, ClassVar, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from typing_extensions import Self

from negrefine.detectors.base import check_whole, resolve_logit_scale, unit_rows
from negrefine.detectors.bounded_scores import BoundedScores
from negrefine.detectors.bundle import Arrays, Tables
from negrefine.detectors.csp import CSP
from negrefine.detectors.explanation import PairMatch, Unfiltered, decided_by, verdict_of
from negrefine.detectors.multi_match import MultiMatch, PairEmbeddings, match_pairs, pair_text
from negrefine.detectors.negfilter import (
    FILTERS,
    Question,
    apply_user_lists,
    check_filters,
    clean_labels,
    nearest_class_names,
    refine,
)
from negrefine.detectors.neglabel import label_matches
from negrefine.detectors.scores import neglabel_score
from negrefine.detectors.unsaved import Unsaved
from negrefine.encoders.base import Encoder, FloatArray
from negrefine.encoders.images import ImageSource
from negrefine.errors import InputError, NotFittedError
from negrefine.judges.base import Judge
from negrefine.judges.wordnet import WordNetJudge
from negrefine.judges.wordnet_candidates import with_wordnet_candidates
from negrefine.labels.lexicon import Lexicon
from negrefine.labels.mining import NegativeLabel
from negrefine.labels.prompts import SUPERCLASS_TEMPLATES, Prompts, embed

# Images whose pairs are sought together: more have more pairs in common.
_MATCH_ROWS = 256
_FILTER_PARAMETERS = ("n_candidates", "wordnet_candidates", "names_per_question")


class NegRefine(CSP):
    """S = S_NegLabel + alpha * S_MM on negative labels cleaned by NegFilter.

    Parameters and attributes are those of `CSP` but for these:

    Args:
        judge: Answers NegFilter's questions: None is the offline `WordNetJudge`, "none" no filter,
            or anything with `is_proper_noun(words)` and `is_subcategory(pairs)`.
        n_candidates: Class names about which each label is asked.
        wordnet_candidates: Also ask about class names among a label's hypernyms or in its gloss,
            which the encoder may not hold near.
        names_per_question: Above 1, ask about so many class names at once, and one by one only
            where the answer is not no; see `negrefine.detectors.negfilter.refine`.
        filters: Which questions to ask: "proper_noun", "subcategory".
        keep: Words that stay whatever the judge says.
        drop: Words that go without a question.
        alpha: Weight of S_MM; 0 leaves it out and encodes no text while scoring.
        k: S_MM pairs the k most similar class names with the k most similar negative labels.
        quantile: 1.0, the maximum over classes.
        exclude_class_names: "exact" as published.
        max_pairs: Pair embeddings to remember between calls.

    Attributes:
        negative_labels_: The mined labels; `kept` and `reason` say what NegFilter did.
        audit_: Every question the judge was asked, with its answer.
    """

    method: ClassVar[str] = "negrefine"
    title: ClassVar[str] = "NegRefine"
    seed_parameter: ClassVar[str | None] = "group_seed"

    audit_: list[Question]
    _kept_texts: list[str]
    _pair_memory: PairEmbeddings | None = None
    # What the numbers of pair texts were made for, and those of class names and of labels.
    _numbered: (
        tuple[tuple[PairEmbeddings, list[str], list[str]], NDArray[np.int64], NDArray[np.int64]]
        | None
    ) = None
    # With all mined labels, made when an explanation first asks for it.
    _unfiltered: NegRefine | None = None

    def __init__(
        self,
        encoder: Encoder,
        *,
        lexicon: Lexicon | Unsaved | None = None,
        lexicon_files: str | Sequence[str] = "official",
        judge: Judge | Unsaved | str | None = None,
        n_candidates: int = 10,
        wordnet_candidates: bool = False,
        names_per_question: int = 1,
        filters: Sequence[str] = FILTERS,
        keep: Iterable[str] = (),
        drop: Iterable[str] = (),
        prompts: Prompts | None = None,
        superclasses: Sequence[str] = SUPERCLASS_TEMPLATES,
        alpha: float = 2.0,
        k: int = 5,
        top_fraction: float = 0.15,
        quantile: float = 1.0,
        exclude_class_names: str = "exact",
        similarity_cap: float | None = 0.95,
        n_groups: int = 100,
        group_fuse_num: int | None = None,
        seed: int = 0,
        group_seed: int = 0,
        logit_scale: float | None = None,
        official: bool = True,
        max_pairs: int = 100_000,
    ) -> None:
        super().__init__(
            encoder,
            lexicon=lexicon,
            lexicon_files=lexicon_files,
            prompts=prompts,
            superclasses=superclasses,
            top_fraction=top_fraction,
            quantile=quantile,
            exclude_class_names=exclude_class_names,
            similarity_cap=similarity_cap,
            n_groups=n_groups,
            group_fuse_num=group_fuse_num,
            seed=seed,
            group_seed=group_seed,
            logit_scale=logit_scale,
            official=official,
        )
        self.judge = judge
        self.n_candidates = n_candidates
        self.wordnet_candidates = wordnet_candidates
        self.names_per_question = names_per_question
        self.filters = filters
        self.keep = keep
        self.drop = drop
        self.alpha = alpha
        self.k = k
        self.max_pairs = max_pairs

    def _check_parameters(self) -> None:
        super()._check_parameters()
        check_whole("k", self.k, 1)
        check_whole("n_candidates", self.n_candidates, 1)
        check_whole("names_per_question", self.names_per_question, 1)
        check_whole("max_pairs", self.max_pairs, 0)
        if not math.isfinite(self.alpha):
            raise InputError(f"alpha must be a finite number, not {self.alpha}.")
        check_filters(self.filters)
        resolve_judge(self.judge)

    def _refine(
        self,
        labels: list[NegativeLabel],
        features: FloatArray,
        class_names: list[str],
        *,
        progress: bool,
    ) -> tuple[list[NegativeLabel], FloatArray]:
        judge = resolve_judge(self.judge)
        if judge is None:
            mined = [
                replace(label, text=label.mined_text, kept=True, reason="") for label in labels
            ]
            refined, self.audit_ = apply_user_lists(mined, self.keep, self.drop), []
        else:
            cleaned = clean_labels(labels)
            texts = [label.text for label in cleaned]
            candidates = nearest_class_names(
                self.encoder, texts, class_names, self.n_candidates, progress=progress
            )
            if self.wordnet_candidates:
                candidates = with_wordnet_candidates(texts, candidates, class_names)
            refined, self.audit_ = refine(
                cleaned,
                candidates,
                judge,
                filters=self.filters,
                keep=self.keep,
                drop=self.drop,
                names_per_question=self.names_per_question,
                progress=progress,
            )
        if not any(label.kept for label in refined):
            raise InputError(
                f"The filter removed all {len(refined)} negative labels: check the judge, "
                "or use judge='none'."
            )
        return refined, self._encode_changed(labels, refined, features)

    def fit(self, class_names: Iterable[str], y: object = None, *, progress: bool = False) -> Self:
        """Mine and filter negative labels for a list of class names; see `Detector.fit`."""
        self._pair_memory = None
        return super().fit(class_names, y, progress=progress)

    def _encode_changed(
        self, before: list[NegativeLabel], after: list[NegativeLabel], features: FloatArray
    ) -> FloatArray:
        """Keep the features of the mined texts and encode again those that cleaning changed."""
        features = features.copy()
        for pos, templates in (("noun", self.prompts_.noun), ("adj", self.prompts_.adjective)):
            changed = [
                i
                for i, (old, new) in enumerate(zip(before, after, strict=True))
                if new.pos == pos and new.text != old.text
            ]
            if changed:
                texts = [after[i].text for i in changed]
                features[changed] = embed(self.encoder, texts, templates)
        return features

    def with_filter(
        self,
        judge: Judge | Unsaved | str | None = None,
        *,
        filters: Sequence[str] = FILTERS,
        keep: Iterable[str] = (),
        drop: Iterable[str] = (),
        progress: bool = False,
        **parameters: Any,
    ) -> NegRefine:
        """Return a fitted copy whose mined labels went through another filter.

        Nothing is mined again. The copy has no threshold, because its scores differ.

        Args:
            judge: As the parameter of the class.
            filters: As the parameter of the class.
            keep: As the parameter of the class.
            drop: As the parameter of the class.
            progress: Draw progress bars on a terminal.
            **parameters: `n_candidates`, `wordnet_candidates` and `names_per_question`, as the
                parameters of the class; those left out stay.

        Raises:
            NotFittedError: `fit` has not run.
            InputError: A parameter that cannot be used.
        """
        self._check_fitted()
        if unknown := sorted(set(parameters) - set(_FILTER_PARAMETERS)):
            raise InputError(
                f"with_filter has no parameter {unknown[0]!r}: give one of "
                f"{', '.join(_FILTER_PARAMETERS)}."
            )
        other = copy(self)
        other.set_params(judge=judge, filters=filters, keep=keep, drop=drop, **parameters)
        other._check_parameters()
        other._take_labels(
            *other._refine(
                self.negative_labels_, self._label_features, self.class_names_, progress=progress
            )
        )
        other.offset_ = other.calibration_scores_ = None
        return other

    def _embed_pairs(self) -> PairEmbeddings:
        if self._pair_memory is None:
            self._pair_memory = PairEmbeddings(self.encoder, self.prompts_.noun, self.max_pairs)
        return self._pair_memory

    def _match(
        self,
        features: Tensor,
        classes: Tensor,
        negatives: Tensor,
        ranks: slice = slice(None),
    ) -> MultiMatch:
        embed_pairs = self._embed_pairs()
        key = (embed_pairs, self.class_names_, self._kept_texts)
        if self._numbered is None or any(
            a is not b for a, b in zip(self._numbered[0], key, strict=True)
        ):
            numbers = embed_pairs.numbers(self.class_names_), embed_pairs.numbers(self._kept_texts)
            self._numbered = (key, *numbers)
        return match_pairs(
            features,
            classes,
            negatives,
            self.class_names_,
            self._kept_texts,
            embed_pairs,
            k=self.k,
            logit_scale=resolve_logit_scale(self.logit_scale, self.encoder),
            class_numbers=self._numbered[1],
            negative_numbers=self._numbered[2],
            ranks=ranks,
        )

    def _score_parts(self, features: Tensor) -> dict[str, Tensor]:
        classes, negatives = self._similarities(features)
        scale = resolve_logit_scale(self.logit_scale, self.encoder)
        parts = {"neglabel": neglabel_score(classes, negatives, self.groups_, scale)}
        if self.alpha != 0:
            parts["multi_match"] = self._match(features, classes, negatives).score()
        return parts

    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return S = S_NegLabel + alpha * S_MM."""
        if "multi_match" not in parts:
            return parts["neglabel"]
        return parts["neglabel"] + self.alpha * parts["multi_match"]

    @overload
    def score_samples(
        self,
        images: Sequence[ImageSource],
        *,
        batch_size: int = 64,
        progress: bool = False,
        threshold: None = None,
    ) -> NDArray[np.float64]: ...
    @overload
    def score_samples(
        self,
        images: Sequence[ImageSource],
        *,
        batch_size: int = 64,
        progress: bool = False,
        threshold: float,
    ) -> BoundedScores: ...
    def score_samples(
        self,
        images: Sequence[ImageSource],
        *,
        batch_size: int = 64,
        progress: bool = False,
        threshold: float | None = None,
    ) -> NDArray[np.float64] | BoundedScores:
        """Score images; larger is more in-distribution.

        Args and Raises as `Detector.score_samples`, and:

        Args:
            threshold: Leave S_MM, and so the encoding of pair texts, out for images whose side of
                this score is already clear; see `score_features`.

        Returns:
            float64 (n,), or `BoundedScores` with a threshold.
        """
        if threshold is None:
            return super().score_samples(images, batch_size=batch_size, progress=progress)
        self._check_fitted()
        return BoundedScores.concatenate(
            [
                self.score_features(features, threshold=threshold)
                for features, _ in self._encode_blocks(images, batch_size, progress=progress)
            ]
        )

    @overload
    def score_features(
        self, features: ArrayLike, patches: ArrayLike | None = None, *, threshold: None = None
    ) -> NDArray[np.float64]: ...
    @overload
    def score_features(
        self, features: ArrayLike, patches: ArrayLike | None = None, *, threshold: float
    ) -> BoundedScores: ...
    def score_features(
        self,
        features: ArrayLike,
        patches: ArrayLike | None = None,
        *,
        threshold: float | None = None,
    ) -> NDArray[np.float64] | BoundedScores:
        """Return float64 (n,) scores of image features (n, d), or bounds of them.

        S_MM lies in [0, 1], so S lies between S_NegLabel and S_NegLabel + alpha. With a threshold,
        images whose interval lies on one side of it need no pair embedding, and their score is
        the end of the interval nearest to the threshold. S_MM is the best of all pairs, so the
        other images are done as soon as the pairs of one of their class names, the most similar
        first, carry them over the threshold.

        Args:
            features: (n, d) from `encoder.encode_images`.
            patches: Not used by this method: None.
            threshold: A score whose sides are of interest, such as `offset_`.

        Raises:
            NotFittedError: `fit` has not run.
            InputError: The features have the wrong shape.
        """
        if threshold is None:
            return super().score_features(features, patches)
        bare = copy(self)
        bare.alpha = 0
        neglabel = bare.score_features(features, patches)
        lowest, highest = neglabel + min(self.alpha, 0), neglabel + max(self.alpha, 0)
        values = np.where(lowest >= threshold, lowest, highest)
        exact = lowest == highest
        (undecided,) = np.nonzero((lowest < threshold) & (highest >= threshold))
        array = np.asarray(features, dtype=np.float32)
        for start in range(0, len(undecided), _MATCH_ROWS):
            rows = undecided[start : start + _MATCH_ROWS]
            values[rows], exact[rows] = self._match_until(array[rows], neglabel[rows], threshold)
        return BoundedScores(values, exact, float(threshold))

    def _match_until(
        self, features: FloatArray, neglabel: NDArray[np.float64], threshold: float
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return the scores of features (n, d) or bounds that decide, and which are exact."""
        units = unit_rows(features)
        classes, negatives = self._similarities(units)
        s_mm = np.zeros(len(features))
        exact = np.zeros(len(features), dtype=np.bool_)
        left = np.arange(len(features))
        n_ranks = min(self.k, len(self.class_names_))
        for rank in range(n_ranks):
            exact[left] = rank == n_ranks - 1
            match = self._match(units[left], classes[left], negatives[left], slice(rank, rank + 1))
            s_mm[left] = np.maximum(s_mm[left], match.score().numpy())
            score = neglabel[left] + self.alpha * s_mm[left]
            left = left[score < threshold if self.alpha > 0 else score >= threshold]
            if not len(left):
                break
        return neglabel + self.alpha * s_mm, exact

    def predict(self, images: Sequence[ImageSource]) -> NDArray[np.int64]:
        """Return +1 for in-distribution and -1 for out-of-distribution images, int64 (n,).

        S_MM is left out where it cannot change the verdict; see `score_features`.
        """
        self._check_fitted()
        return self.score_samples(images, threshold=self._threshold()).verdicts

    def predict_features(self, features: ArrayLike) -> NDArray[np.int64]:
        """Return the verdicts of `predict` for image features (n, d), int64 (n,).

        Raises:
            NotFittedError: `fit` has not run, or no threshold is set.
            InputError: The features have the wrong shape.
        """
        self._check_fitted()
        return self.score_features(features, threshold=self._threshold()).verdicts

    def _threshold(self) -> float:
        if self.offset_ is None:
            raise NotFittedError(
                "No threshold is set: call calibrate(id_images, fpr=0.05), or set offset_."
            )
        return self.offset_

    def _explain_negatives(self, x: Tensor, top: int) -> dict[str, Any]:
        fields = super()._explain_negatives(x, top)
        if self.alpha == 0:
            return fields
        features = x.unsqueeze(0)
        classes, negatives = self._similarities(features)
        match = self._match(features, classes, negatives)
        ((row, column),) = match.winners()
        s_mm = float(match.score()[0])
        i, j = int(match.class_index[0, row]), int(match.negative_index[0, column])
        fields["pair"] = PairMatch(
            class_name=self.class_names_[i],
            negative=self.kept_negative_labels_[j].text,
            text=pair_text(self.class_names_[i], self.kept_negative_labels_[j].text),
            similarity=float(match.pair_similarities[0, row, column]),
            negative_similarity=float(match.negative_similarities[0, column]),
            added=self.alpha * s_mm,
        )
        return fields

    def _decided_by(self, parts: dict[str, float]) -> str | None:
        return decided_by(parts, self.alpha, self.offset_)

    def _explain_unfiltered(self, units: Tensor, top: int) -> Sequence[Unfiltered | None]:
        away = [i for i, label in enumerate(self.negative_labels_) if not label.kept]
        if not away:
            return [None] * len(units)
        if self._unfiltered is None:
            self._unfiltered = self.with_filter("none")
        everything = copy(self)
        everything._take_labels(self._unfiltered.negative_labels_, self._unfiltered._label_features)
        scores = everything.score_features(units.numpy())
        labels, features = [self.negative_labels_[i] for i in away], self._label_features[away]
        return [
            Unfiltered(
                score=float(score),
                verdict=verdict_of(float(score), self.offset_),
                n_removed=len(away),
                removed=label_matches(labels, features, x, top),
            )
            for score, x in zip(scores, units, strict=True)
        ]

    def _take_labels(self, labels: list[NegativeLabel], features: FloatArray) -> None:
        super()._take_labels(labels, features)
        self._kept_texts = [label.text for label in self.kept_negative_labels_]
        self._unfiltered = None

    def _saved_tables(self) -> Tables:
        return {**super()._saved_tables(), "audit": [asdict(line) for line in self.audit_]}

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        super()._restore(class_names, arrays, tables)
        self.audit_ = [Question(**row) for row in tables["audit"]]


def resolve_judge(judge: Judge | Unsaved | str | None) -> Judge | None:
    """Return the judge that the parameter of `NegRefine` means, or None for no filter."""
    if judge is None or judge == "wordnet":
        return WordNetJudge()
    if isinstance(judge, str):
        if judge == "none":
            return None
        raise InputError(f"judge must be 'wordnet', 'none' or a judge object, not {judge!r}.")
    if isinstance(judge, Unsaved):
        raise judge.error()
    methods = (getattr(judge, name, None) for name in ("is_proper_noun", "is_subcategory"))
    if isinstance(judge, type) or not all(map(callable, methods)):
        raise InputError(
            f"judge must be 'wordnet', 'none' or an object with the methods is_proper_noun and "
            f"is_subcategory, not {judge!r}."
        )
    return judge
