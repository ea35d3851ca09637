"""The metrics of counts and of resamples are those of `negrefine.metrics`."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negrefine import metrics
from negrefine.evaluation.measure import (
    measure,
    measure_accuracy,
    metrics_of_scores,
    resampled_metrics,
)

scores = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=25).map(np.array)


@settings(max_examples=200, deadline=None)
@given(inside=scores, outside=scores)
def test_counted_metrics_are_the_metrics(inside: np.ndarray, outside: np.ndarray) -> None:
    expected = [
        metrics.auroc(inside, outside),
        metrics.fpr95(inside, outside),
        metrics.aupr_in(inside, outside),
        metrics.aupr_out(inside, outside),
        metrics.fpr95_ood_positive(inside, outside),
    ]
    np.testing.assert_allclose(metrics_of_scores(inside, outside), expected, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(inside=scores, outside=scores, seed=st.integers(0, 99))
def test_resamples_are_those_of_a_plain_loop(
    inside: np.ndarray, outside: np.ndarray, seed: int
) -> None:
    found = resampled_metrics(inside, [outside, outside[:1]], 3, seed)
    for b in range(3):
        i = np.random.default_rng([seed, b, 0]).integers(0, len(inside), len(inside))
        j = np.random.default_rng([seed, b, 1]).integers(0, len(outside), len(outside))
        drawn = inside[i], outside[j]
        expected = [f(*drawn) for f in (metrics.auroc, metrics.fpr95, metrics.aupr_in)]
        np.testing.assert_allclose(found[b, 0, :3], expected, atol=1e-12)


def test_ends_with_the_mean() -> None:
    inside = [np.array([0.9, 0.8])]
    rows = measure("x", inside, {"a": [np.array([0.1])], "b": [np.array([0.85])]})
    found = [(row.method, row.ood_set, row.auroc.value) for row in rows]
    assert found == [("x", "a", 1.0), ("x", "b", 0.5), ("x", "mean", 0.75)]
    assert rows[0].auroc.std is rows[0].auroc.low is None


def test_averages_seeds_and_resamples_the_first() -> None:
    rng = np.random.default_rng(0)
    inside = [rng.normal(1, 1, 50) for _ in range(3)]
    outside = [rng.normal(0, 1, 40) for _ in range(3)]
    row, mean = measure("x", inside, {"a": outside}, 100)
    each = [metrics.fpr95(i, o) for i, o in zip(inside, outside, strict=True)]
    assert row.fpr95.value == pytest.approx(np.mean(each))
    assert row.fpr95.std == pytest.approx(np.std(each, ddof=1))
    drawn = resampled_metrics(inside[0], [outside[0]], 100)[:, 0, 1]
    assert (row.fpr95.low, row.fpr95.high) == tuple(np.quantile(drawn, (0.025, 0.975)))
    assert mean.fpr95 == row.fpr95


def test_accuracy_has_an_interval() -> None:
    is_correct = np.array([True] * 30 + [False] * 10)
    found = measure_accuracy(is_correct, 2000)
    assert found.value == 0.75
    assert found.low == pytest.approx(0.61, abs=0.02)
    assert found.high == pytest.approx(0.88, abs=0.02)
    assert measure_accuracy(is_correct).low is None
