"""The numbers behind the figures are those of the metrics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negrefine import metrics
from negrefine.report.curves import class_aurocs, group_aurocs, mean_rank, roc_points

scores = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=30).map(np.array)


@settings(max_examples=100, deadline=None)
@given(inside=scores, outside=scores)
def test_figures_show_what_the_metrics_measure(inside: np.ndarray, outside: np.ndarray) -> None:
    assert metrics.operating_point(inside, outside).fpr == metrics.fpr95(inside, outside)
    fpr, tpr = roc_points(inside, outside)
    assert np.trapezoid(tpr, fpr) == pytest.approx(metrics.auroc(inside, outside))
    ranks = mean_rank(inside, np.sort(outside))
    assert ranks.mean() == pytest.approx(metrics.auroc(inside, outside))


@settings(max_examples=50, deadline=None)
@given(inside=scores, outside=scores, data=st.data())
def test_parts_are_measured_one_by_one(
    inside: np.ndarray, outside: np.ndarray, data: st.DataObject
) -> None:
    part = st.lists(st.integers(0, 2), min_size=len(inside), max_size=len(inside))
    labels = np.array(data.draw(part), dtype=np.int64)
    by_class = class_aurocs(inside, labels, outside)
    by_group = group_aurocs(outside, inside, labels)
    for i in range(int(labels.max()) + 1):
        part_scores = inside[labels == i]
        if not len(part_scores):
            assert np.isnan(by_class[i])
            continue
        assert by_class[i] == pytest.approx(metrics.auroc(part_scores, outside))
        assert by_group[i] == pytest.approx(metrics.auroc(outside, part_scores))


def test_a_thinned_curve_stays_near_the_whole_one() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(1, 1, 4000), rng.normal(0, 1, 3000)
    fpr, tpr = roc_points(inside, outside)
    assert len(fpr) <= 500
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(tpr, fpr) == pytest.approx(metrics.auroc(inside, outside), abs=2e-3)
