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
    """

    values: Mapping[str, Any]
    auroc: Measured
    fpr95: Measured
    auroc_gain: Measured | None
    fpr95_gain: Measured | None


@dataclass(frozen=True)
class TuningResult:
    """All candidates, the detector's own values first.

    Attributes:
        best: Position of the highest AUROC; of equal ones the lowest FPR95, then the first.
        p_value: Chance that the largest of all gains is as large as that of `best` if no candidate
            were better than the first, on the same images: White's reality check, *A reality check
            for data snooping*, Econometrica 2000, on the bootstrap of the table.
        detectors: The candidates as fitted detectors without thresholds.
    """

    rows: list[TunedRow]
    best: int
    p_value: float
    detectors: Sequence[Detector] = field(repr=False)

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
    if isinstance(n_bootstrap, int) and n_bootstrap < 1:
        raise InputError("Tuning needs resamples (--bootstrap), by which gains are told from luck.")
    Whole(1)("n_bootstrap", n_bootstrap)
    for name, features in (("in-distribution", id_features), ("validation", ood_features)):
        if not len(features):
            raise InputError(f"There are no {name} images: give some to tune on.")
    values = complete_grid(detector, grid)
    own = {name: plain(getattr(detector, name)) for name in values}
    candidates = [
        own,
        *(
            each
            for combination in itertools.product(*values.values())
            if (each := dict(zip(values, combination, strict=True))) != own
        ),
    ]
    if len(candidates) < 2:
        raise InputError("There is one candidate only, the detector's own values: give others.")
    parts = _SharedParts([id_features, ood_features], alpha_features, alpha_marks, known_parts)
    variants: list[Detector] = []
    scores = []
    with progress_bar("Tuning", 2 * len(candidates), enabled=progress) as advance:
        for each in candidates:
            variant, of_sets = parts.scored(detector, each)
            variants.append(variant)
            scores.append(of_sets)
            advance(1)
        drawn = []
        for inside, outside in scores:
            drawn.append(resampled_metrics(inside, [outside], n_bootstrap)[:, 0])
            advance(1)
    measured = np.array([metrics_of_scores(*each) for each in scores])
    rows = _rows(candidates, measured, np.array(drawn))
    order = range(len(rows))
    best = max(order, key=lambda i: (measured[i, _AUROC], -measured[i, _FPR95], -i))
    return TuningResult(rows, best, _p_value(measured, np.array(drawn), best), variants)


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
) -> list[TunedRow]:
    return [
        TunedRow(
            each,
            _interval(measured[i, _AUROC], drawn[i, :, _AUROC]),
            _interval(measured[i, _FPR95], drawn[i, :, _FPR95]),
            *(
                _interval(measured[i, j] - measured[0, j], drawn[i, :, j] - drawn[0, :, j])
                if i
                else None
                for j in (_AUROC, _FPR95)
            ),
        )
        for i, each in enumerate(candidates)
    ]


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
