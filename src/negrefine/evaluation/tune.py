"""Parameters of the score, chosen on an OOD set that is named and recorded.

The papers' constants were chosen by others on other images, and stay unless a candidate is better
by more than the best of so many candidates would seem by chance.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from negrefine.constraints import Whole
from negrefine.detectors import Detector
from negrefine.detectors.alpha_rules import FACTOR, AlphaRules
from negrefine.detectors.selection import Marks
from negrefine.detectors.vision_checked import VisionChecked
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError
from negrefine.evaluation.measure import metrics_of_scores, resampled_metrics
from negrefine.evaluation.results import Measured, Scores
from negrefine.evaluation.tunables import complete_grid, plain, tunables_of
from negrefine.progress import progress_bar

LEVEL = 0.05
"""A candidate is better if chance alone gives the best of all its gain less often than this."""

# Positions in `metrics_of_scores`.
_AUROC, _FPR95 = 0, 1


@dataclass(frozen=True, slots=True)
class TunedRow:
    """One candidate, measured against the validation set.

    Attributes:
        values: Parameter to value.
        auroc: Fraction with a 95 % bootstrap interval over images, as `fpr95`.
        auroc_gain: AUROC minus that of the first candidate, with the 95 % interval of a paired
            bootstrap; None for the first. Not corrected for the number of candidates.
        fpr95_gain: The same of FPR95, better where negative.
        id_questions: Questions to the vision model about each in-distribution image, on average;
            None for detectors without one.
        ood_questions: The same of the validation set.
    """

    values: Mapping[str, Any]
    auroc: Measured
    fpr95: Measured
    auroc_gain: Measured | None
    fpr95_gain: Measured | None
    id_questions: float | None = None
    ood_questions: float | None = None


@dataclass(frozen=True)
class TuningResult:
    """All candidates, the detector's own values first.

    Attributes:
        best: Position of the highest AUROC; of equal ones the lowest FPR95, then the first.
        p_value: Chance that the largest of all gains is as large as that of `best` if no candidate
            were better than the first, on the same images: White's reality check, *A reality check
            for data snooping*, Econometrica 2000, on the bootstrap of the table.
        detectors: The candidates as fitted detectors without thresholds.
        n_questions: What the vision model was asked, once for all candidates; None without one.
    """

    rows: list[TunedRow]
    best: int
    p_value: float
    detectors: Sequence[Detector] = field(repr=False)
    n_questions: int | None = None

    @property
    def improved(self) -> bool:
        """Whether the best candidate is better than the first by more than chance."""
        return self.best > 0 and self.p_value < LEVEL


def tune(
    detector: Detector,
    id_features: FloatArray,
    ood_features: FloatArray,
    grid: Mapping[str, Sequence[Any]] | None = None,
    *,
    alpha_features: FloatArray | None = None,
    alpha_marks: Marks | None = None,
    known_parts: Mapping[str, tuple[Scores, Scores]] | None = None,
    n_bootstrap: int = 1000,
    progress: bool = False,
) -> TuningResult:
    """Measure all combinations of parameters of a fitted detector against one OOD set.

    Nothing is fitted again and nothing chosen: `TuningResult` says what is best and how clearly.
    Each part of the score is computed once for all candidates that share it. The result of the
    chosen candidate on these images looks better than it is; measure it on others.

    Args:
        detector: Fitted; its own values are the first candidate.
        id_features: Features (n, d) of in-distribution images, which must not calibrate.
        ood_features: Features (m, d) of the validation set.
        grid: Values by parameter (see `tunables`); None tries those that are declared.
        alpha_features: Features of further in-distribution images, on which rules by class choose
            their alphas for each candidate; without them, alphas that the detector has are used.
        alpha_marks: Marks of these images (`negrefine.detectors.selection`).
        known_parts: Parts of the score that no feature tells, by name, each of the in-distribution
            images (n,) and the validation set (m,); the same for all candidates.
        n_bootstrap: Resamples of intervals and of `p_value`.

    Raises:
        NotFittedError: The detector is not fitted.
        InputError: A grid that cannot be used, a set without images, a rule by class without images
            of its own, no resamples, or a single candidate.
    """
    detector._check_fitted()
    if isinstance(detector, VisionChecked):
        raise InputError(
            "The vision model of this detector must see the images: tune it with "
            "negrefine.evaluation.tune_vision.tune_vision."
        )
    for name, features in (("in-distribution", id_features), ("validation", ood_features)):
        if not len(features):
            raise InputError(f"There are no {name} images: give some to tune on.")
    candidates = candidates_of(detector, grid, n_bootstrap)
    parts = _SharedParts([id_features, ood_features], alpha_features, alpha_marks, known_parts)
    variants: list[Detector] = []
    scores = []
    with progress_bar("Scoring candidates", len(candidates), enabled=progress) as advance:
        for each in candidates:
            variant, of_sets = parts.scored(detector, each)
            variants.append(variant)
            scores.append(of_sets)
            advance(1)
    return compared(candidates, variants, scores, n_bootstrap, progress=progress)


def candidates_of(
    detector: Detector, grid: Mapping[str, Sequence[Any]] | None, n_bootstrap: int
) -> list[dict[str, Any]]:
    """Return all combinations of values, the detector's own first; InputError for only one."""
    if isinstance(n_bootstrap, int) and n_bootstrap < 1:
        raise InputError("Tuning needs resamples (--bootstrap), by which gains are told from luck.")
    Whole(1)("n_bootstrap", n_bootstrap)
    values = complete_grid(detector, grid)
    own = {name: plain(getattr(detector, name)) for name in values}
    candidates = [own]
    for combination in itertools.product(*values.values()):
        each = dict(zip(values, combination, strict=True))
        if each.get("weight") == 0:
            # No question is asked, whatever the band and the number of names.
            each |= {name: own[name] for name in ("band", "k")}
        if each not in candidates:
            candidates.append(each)
    if len(candidates) < 2:
        raise InputError("There is one candidate only, the detector's own values: give others.")
    return candidates


def compared(
    candidates: Sequence[Mapping[str, Any]],
    detectors: Sequence[Detector],
    scores: Sequence[Sequence[Scores]],
    n_bootstrap: int,
    questions: Sequence[tuple[float, float]] | None = None,
    *,
    progress: bool = False,
) -> TuningResult:
    """Return what is best from the scores of each candidate, of both sets of images.

    `questions` are those that each candidate asks about an image of each set.
    """
    resampled = []
    with progress_bar("Resampling", len(scores), enabled=progress) as advance:
        for inside, outside in scores:
            resampled.append(resampled_metrics(inside, [outside], n_bootstrap)[:, 0])
            advance(1)
    drawn = np.array(resampled)
    measured = np.array([metrics_of_scores(*each) for each in scores])
    rows = _rows(candidates, measured, drawn, questions)
    order = range(len(rows))
    best = max(order, key=lambda i: (measured[i, _AUROC], -measured[i, _FPR95], -i))
    return TuningResult(rows, best, _p_value(measured, drawn, best), detectors)


class _SharedParts:
    """Scores of candidates from parts that are computed once for all that share them."""

    def __init__(
        self,
        features: Sequence[FloatArray],
        alpha_features: FloatArray | None,
        alpha_marks: Marks | None,
        known_parts: Mapping[str, Sequence[Scores]] | None,
    ) -> None:
        self._features = features
        self._alpha_features, self._alpha_marks = alpha_features, alpha_marks
        self._given = dict(known_parts or {})
        self._known: dict[tuple[Any, ...], list[Scores]] = {}

    def scored(
        self, detector: Detector, values: Mapping[str, Any]
    ) -> tuple[Detector, list[Scores]]:
        """Return the candidate with these values, and its scores of each set of images."""
        variant = detector.with_params(**values)
        if isinstance(variant, AlphaRules) and variant.chooses_alphas:
            if self._alpha_features is not None:
                variant.choose_alphas_features(self._alpha_features, marks=self._alpha_marks)
            elif variant.alpha_factors_ is None:
                raise InputError(
                    f"alpha_rule {variant.alpha_rule!r} needs in-distribution images of its own to "
                    "choose alphas on (--alpha-images): give some, or leave the rule out."
                )
        parts = {name: self._part(variant, name, values) for name in variant.part_names_}
        return variant, [
            variant.combine({name: of_sets[i] for name, of_sets in parts.items()})
            for i in range(len(self._features))
        ]

    def _part(self, variant: Detector, name: str, values: Mapping[str, Any]) -> Sequence[Scores]:
        if name in self._given:
            return self._given[name]
        known = tunables_of(variant)
        key: tuple[Any, ...] = (name, *(v for n, v in values.items() if name in known[n].parts))
        if name == FACTOR and isinstance(variant, AlphaRules):
            factors = variant.alpha_factors_
            key += () if factors is None else (factors.tobytes(),)
        if key not in self._known:
            self._known[key] = [
                variant.score_feature_parts(each, only=[name])[name] for each in self._features
            ]
        return self._known[key]


def _rows(
    candidates: Sequence[Mapping[str, Any]],
    measured: NDArray[np.float64],
    drawn: NDArray[np.float64],
    questions: Sequence[tuple[float, float]] | None,
) -> list[TunedRow]:
    rows = []
    for i, each in enumerate(candidates):
        auroc, fpr95 = (_interval(measured[i, j], drawn[i, :, j]) for j in (_AUROC, _FPR95))
        gains: list[Measured | None] = [
            _interval(measured[i, j] - measured[0, j], drawn[i, :, j] - drawn[0, :, j])
            if i
            else None
            for j in (_AUROC, _FPR95)
        ]
        asked = (None, None) if questions is None else questions[i]
        rows.append(TunedRow(each, auroc, fpr95, gains[0], gains[1], *asked))
    return rows


def _interval(value: float, drawn: NDArray[np.float64]) -> Measured:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return Measured(float(value), float(low), float(high))


def _p_value(measured: NDArray[np.float64], drawn: NDArray[np.float64], best: int) -> float:
    """Return how often the largest of the centred gains in AUROC reaches that of the best."""
    gains = measured[1:, _AUROC] - measured[0, _AUROC]
    resampled = drawn[1:, :, _AUROC] - drawn[0, :, _AUROC]
    largest = (resampled - gains[:, None]).max(axis=0)
    gain = measured[best, _AUROC] - measured[0, _AUROC]
    return float((1 + (largest >= gain).sum()) / (1 + len(largest)))
