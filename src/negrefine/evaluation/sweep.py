"""Results of NegRefine over grids of its constants, from one extraction of the images."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from negrefine.detectors.negrefine import NegRefine
from negrefine.encoders.base import Encoder, FloatArray
from negrefine.errors import InputError
from negrefine.judges.base import Judge
from negrefine.progress import progress_bar
from negrefine.real_arrays import as_real


class RememberedTexts:
    """An encoder with all its attributes that keeps the features of every text it has encoded.

    Memory grows with the texts: mining WordNet with eight templates at d = 512 takes about 1 GB.
    """

    name: str
    options: dict[str, Any]
    fingerprint: str
    logit_scale: float
    encode_images: Callable[..., FloatArray]

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[str, FloatArray] = {}

    def __sklearn_clone__(self) -> RememberedTexts:
        """Share the memory between clones of a detector."""
        return self

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._encoder, name)

    def encode_texts(self, texts: Sequence[str], batch_size: int = 1024) -> FloatArray:
        """Return float32 (m, d), encoding only texts that are new."""
        if not texts:
            return self._encoder.encode_texts([], batch_size)
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self._encoder.encode_texts(new, batch_size), strict=True))
        return np.stack([self._known[text] for text in texts])


@dataclass(frozen=True, slots=True)
class Setting:
    """One point of the grid; the defaults are the published constants."""

    alpha: float = 2.0
    k: int = 5
    n_candidates: int = 10
    n_groups: int = 100
    top_fraction: float = 0.15
    quantile: float = 1.0


@dataclass(frozen=True, slots=True)
class SweepRow:
    """Results of one setting on one OOD set, as fractions.

    `n_labels` counts the negative labels left after the filter. AUROC is in-distribution positive,
    FPR95 is the papers' definition.
    """

    setting: Setting
    ood_set: str
    n_labels: int
    auroc: float
    fpr95: float


def sweep(
    encoder: Encoder,
    class_names: Iterable[str],
    id_features: ArrayLike,
    ood_features: Mapping[str, ArrayLike],
    grid: Mapping[str, Sequence[float]],
    *,
    judge: Judge | str | None = None,
    progress: bool = False,
    **parameters: Any,
) -> list[SweepRow]:
    """Score every combination of the grid.

    Images come as features that `encoder` made, in-distribution (n, d) and of each OOD set (m, d),
    so they are encoded once, and no text is encoded twice. Labels are mined again only for another
    `top_fraction` or `quantile`, and filtered again only for another `n_candidates`.

    The grid has values for fields of `Setting`; the others keep their published value. `judge` and
    `parameters` are those of `NegRefine`, the same for all settings. Returns one row for each
    setting and OOD set, in the order of the grid, alpha varying fastest. Raises InputError for
    unknown or empty grid entries, or without OOD sets.
    """
    from negrefine import metrics

    values = _complete(grid)
    if not ood_features:
        raise InputError("A sweep needs at least one OOD set.")
    if str(parameters.get("alpha_rule", "")).startswith("class"):
        raise InputError(
            "A sweep mines labels anew and has no images to choose alphas of classes on: use "
            "negrefine.evaluation.tune with alpha_features, or another alpha_rule."
        )
    names = list(class_names)
    remembered = RememberedTexts(encoder)
    sets = [
        as_real(features, "Image features") for features in (id_features, *ood_features.values())
    ]
    rows: list[SweepRow] = []
    total = math.prod(len(v) for name, v in values.items() if name != "alpha")
    with progress_bar("Sweeping", total, enabled=progress) as advance:
        for quantile, top_fraction in itertools.product(values["quantile"], values["top_fraction"]):
            mining = {"quantile": quantile, "top_fraction": top_fraction, **parameters}
            mined = NegRefine(remembered, judge="none", **mining).fit(names)
            own: dict[str, Any] = {"filters": mined.filters, "keep": mined.keep, "drop": mined.drop}
            for n_candidates in values["n_candidates"]:
                filtered = mined.with_filter(judge, n_candidates=n_candidates, **own)
                for n_groups, k in itertools.product(values["n_groups"], values["k"]):
                    detector = filtered.with_params(n_groups=n_groups, k=k, alpha=1.0)
                    parts = [detector.score_feature_parts(features) for features in sets]
                    for alpha in values["alpha"]:
                        sizes = k, n_candidates, n_groups
                        setting = Setting(alpha, *sizes, top_fraction, quantile)
                        variant = detector.with_params(alpha=alpha)
                        n_labels = len(variant.negative_features_)
                        inside, *outside = (variant.combine(of_set) for of_set in parts)
                        for name, scores in zip(ood_features, outside, strict=True):
                            pair = metrics.auroc(inside, scores), metrics.fpr95(inside, scores)
                            rows.append(SweepRow(setting, name, n_labels, *pair))
                    advance()
    return rows


def chosen_setting(rows: Sequence[SweepRow], validation: str) -> Setting:
    """Return the setting with the highest AUROC on the validation set of this name.

    Of equal ones the lowest FPR95 decides, then the order of the grid. Raises InputError if no row
    is of this set.
    """
    of_set = [row for row in rows if row.ood_set == validation]
    if not of_set:
        raise InputError(f"The sweep has no set {validation!r} to choose a setting on.")
    return max(of_set, key=lambda row: (row.auroc, -row.fpr95)).setting


def _complete(grid: Mapping[str, Sequence[float]]) -> dict[str, list[Any]]:
    """Return the values of all fields of `Setting`, each of the type of its field."""
    published = asdict(Setting())
    unknown = sorted(set(grid) - set(published))
    if unknown:
        raise InputError(f"Nothing named {unknown[0]!r} can be swept: use {', '.join(published)}.")
    empty = sorted(name for name, values in grid.items() if not len(values))
    if empty:
        raise InputError(f"The grid has no values for {empty[0]!r}: give at least one.")
    return {name: [*map(type(value), grid.get(name, [value]))] for name, value in published.items()}
