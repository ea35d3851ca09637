"""A sweep against detectors fitted one by one."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import LetterJudge, fitted
from negrefine import errors, metrics
from negrefine.evaluation.sweep import sweep


def test_sweep_equals_separate_fits(setup: dict[str, Any]) -> None:
    judge = LetterJudge()
    x = setup["features"]
    sets = {"one": x[20:30], "two": x[30:]}
    grid = {
        "alpha": [0, 2],
        "k": [1, 5],
        "n_candidates": [3, 10],
        "n_groups": [5, 10],
        "top_fraction": [0.1, 0.15],
        "quantile": [0.95, 1],
    }
    rows = sweep(
        setup["encoder"],
        setup["class_names"],
        x[:20],
        sets,
        grid,
        judge=judge,
        lexicon=setup["lexicon"],
    )
    assert len(rows) == 2**6 * len(sets)
    assert len({(row.setting, row.ood_set) for row in rows}) == len(rows)
    for row in rows[5::29]:
        s = row.setting
        detector = fitted(
            setup,
            judge=judge,
            alpha=s.alpha,
            k=s.k,
            n_candidates=s.n_candidates,
            n_groups=s.n_groups,
            top_fraction=s.top_fraction,
            quantile=s.quantile,
        )
        assert row.n_labels == len(detector.kept_negative_labels_)
        ood = detector.score_features(sets[row.ood_set])
        id_scores = detector.score_features(x[:20])
        assert row.auroc == pytest.approx(metrics.auroc(id_scores, ood), abs=1e-9)
        assert row.fpr95 == pytest.approx(metrics.fpr95(id_scores, ood), abs=1e-9)


@pytest.mark.parametrize(
    ("grid", "word"), [({"beta": [1]}, "beta"), ({"k": []}, "no values for 'k'")]
)
def test_sweep_rejects_bad_grids(setup: dict[str, Any], grid: dict[str, Any], word: str) -> None:
    x = setup["features"]
    with pytest.raises(errors.InputError, match=word):
        sweep(setup["encoder"], setup["class_names"], x, {"a": x}, grid)


def test_sweep_needs_an_ood_set(setup: dict[str, Any]) -> None:
    with pytest.raises(errors.InputError, match="OOD set"):
        sweep(setup["encoder"], setup["class_names"], setup["features"], {}, {})
