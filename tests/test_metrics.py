"""Metrics: the official functions' values, and their definitions written down a second time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from sklearn.metrics import roc_curve

from negrefine import metrics
from negrefine.errors import InputError

ALL = (
    metrics.auroc,
    metrics.aupr_in,
    metrics.aupr_out,
    metrics.fpr95,
    metrics.fpr95_interpolated,
    metrics.fpr95_ood_positive,
)
# Few distinct values make ties; many make none.
SCORES = st.one_of(
    st.lists(st.integers(0, 4).map(float), min_size=1, max_size=40),
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=40),
)


def roc(id_scores: list[float], ood_scores: list[float], **options: Any) -> Any:
    labels = [1] * len(id_scores) + [0] * len(ood_scores)
    return roc_curve(labels, id_scores + ood_scores, **options)


def test_values_of_the_official_functions(golden: dict[str, Any]) -> None:
    sets = golden["metrics"]["sets"]
    assert len(sets) == 13
    for name, case in sets.items():
        scores = case["in_scores"], case["out_scores"]
        expected = case["negrefine"]
        assert metrics.auroc(*scores) == pytest.approx(expected["auroc"], abs=1e-7), name
        assert metrics.aupr_in(*scores) == pytest.approx(expected["aupr_in"], abs=1e-7), name
        assert metrics.aupr_out(*scores) == pytest.approx(expected["aupr_out"], abs=1e-7), name
        assert metrics.fpr95(*scores) == pytest.approx(expected["fpr95"], abs=1e-7), name
        assert metrics.fpr95_interpolated(*scores) == pytest.approx(
            case["clipn"]["fpr95_interp"], abs=1e-7
        ), name


TEN = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05]
HUNDRED = np.linspace(1.0, 0.01, 100).tolist()


@pytest.mark.parametrize(
    ("id_scores", "ood_scores", "expected"),
    [
        (TEN, [0.85, 0.45, 0.15, 0.12, 0.07, 0.01], 5 / 6),
        (HUNDRED, [0.985, 0.505, 0.105, 0.0552, 0.0455, 0.005], 4 / 6),
        ([0.5] * 7, [0.5] * 3, 1.0),
    ],
)
def test_fpr95_by_hand(id_scores: list[float], ood_scores: list[float], expected: float) -> None:
    assert metrics.fpr95(id_scores, ood_scores) == pytest.approx(expected, abs=1e-12)


def test_the_three_fpr95_differ() -> None:
    id_scores, ood_scores = [1.0, 2.0, 2.0, 3.0], [0.0, 1.0, 2.0, 2.0]
    # Recall 1 (t = 1) is as close to 0.95 as any; three of four OOD scores are above.
    assert metrics.fpr95(id_scores, ood_scores) == 0.75
    # The ROC goes from (0.5, 0.75) to (0.75, 1): 0.95 lies four fifths of the way.
    assert metrics.fpr95_interpolated(id_scores, ood_scores) == pytest.approx(0.7, abs=1e-12)
    # All OOD scores are caught at t = 2, which rejects three of four ID scores.
    assert metrics.fpr95_ood_positive(id_scores, ood_scores) == 0.75
    assert metrics.fpr95_interpolated([0.5] * 4, [0.5] * 9) == pytest.approx(0.95, abs=1e-12)


def test_ood_positive_by_hand() -> None:
    ood_scores = [float(i) for i in range(20)]
    # 19 of 20 are at or below 18: exactly 95 %.
    assert metrics.fpr95_ood_positive([17.5, 18.0, 18.5, 30.0], ood_scores) == 0.5
    # 18 of 19 are fewer than 95 %, so the last one counts too.
    assert metrics.fpr95_ood_positive([17.5, 18.0, 18.5, 30.0], ood_scores[:19]) == 0.5
    assert metrics.fpr95_ood_positive([17.5, 17.9, 18.5, 30.0], ood_scores[:18]) == 0.0


@given(SCORES, SCORES)
@example([1.0] * 19 + [0.0], [0.0, 1.0])
def test_fpr95_is_its_definition(id_scores: list[float], ood_scores: list[float]) -> None:
    best_distance, best = 2.0, -1.0
    for t in sorted(set(id_scores + ood_scores)):
        if t < min(id_scores):
            continue
        recall = sum(s >= t for s in id_scores) / len(id_scores)
        if abs(recall - 0.95) < best_distance:
            best_distance = abs(recall - 0.95)
            best = sum(s >= t for s in ood_scores) / len(ood_scores)
    assert metrics.fpr95(id_scores, ood_scores) == best


@given(SCORES, SCORES)
@example([1.0] * 19 + [0.0], [0.0, 1.0])
@example([1.0] * 19 + [0.0], [2.0, 0.5, 0.0])
def test_interpolation_is_scipys(id_scores: list[float], ood_scores: list[float]) -> None:
    false_positives, recall, _ = roc(id_scores, ood_scores)
    expected = float(interp1d(recall, false_positives)(0.95))
    assert metrics.fpr95_interpolated(id_scores, ood_scores) == expected


@given(SCORES, SCORES)
def test_ood_positive_is_the_first_roc_point(
    id_scores: list[float], ood_scores: list[float]
) -> None:
    negated = [-s for s in ood_scores], [-s for s in id_scores]
    rejected, caught, _ = roc(*negated, drop_intermediate=False)
    result = metrics.fpr95_ood_positive(id_scores, ood_scores)
    assert result == rejected[np.argmax(caught >= 0.95)]
    if not set(id_scores) & set(ood_scores):
        # Without equal scores on both sides, OpenOOD's curve gives the same.
        rejected, caught, _ = roc(*negated)
        assert result == rejected[np.argmax(caught >= 0.95)]


@given(SCORES, SCORES)
def test_ranges_and_symmetry(id_scores: list[float], ood_scores: list[float]) -> None:
    for metric in ALL:
        assert 0 <= metric(id_scores, ood_scores) <= 1 + 1e-12
    both_ways = metrics.auroc(id_scores, ood_scores) + metrics.auroc(ood_scores, id_scores)
    assert both_ways == pytest.approx(1.0, abs=1e-12)
    negated = [-s for s in ood_scores], [-s for s in id_scores]
    assert metrics.auroc(id_scores, ood_scores) == pytest.approx(metrics.auroc(*negated), abs=1e-12)
    assert metrics.aupr_out(id_scores, ood_scores) == pytest.approx(
        metrics.aupr_in(*negated), abs=1e-12
    )


@given(
    st.lists(st.integers(-30, 30), min_size=1, max_size=40),
    st.lists(st.integers(-30, 30), min_size=1, max_size=40),
)
def test_only_the_order_of_scores_counts(id_scores: list[int], ood_scores: list[int]) -> None:
    def transform(scores: list[int]) -> list[float]:
        return [float(np.exp(s / 5)) - 100.0 for s in scores]

    for metric in ALL:
        before = metric(id_scores, ood_scores)
        assert metric(transform(id_scores), transform(ood_scores)) == before


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize(
    "bad",
    [[], [[1.0, 2.0]], [float("nan")], [1.0, float("inf")]],
    ids=["empty", "2d", "nan", "inf"],
)
def test_unusable_scores_are_refused(metric: Any, bad: list[Any]) -> None:
    with pytest.raises(InputError, match="id_scores"):
        metric(bad, [1.0])
    with pytest.raises(InputError, match="ood_scores"):
        metric([1.0], bad)
