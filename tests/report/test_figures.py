"""The numbers behind the figures are those of the metrics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from negrefine import metrics
from negrefine.report.curves import (
    class_aurocs,
    mean_rank,
    roc_points,
    shared_bins,
    shares,
)
from negrefine.report.figures import ROC_PLOT, histogram_plot, ticks

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
    by_group = class_aurocs(-inside, labels, -outside)
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


def points(path: str) -> np.ndarray:
    """Return the points of a path that consists of straight lines, float64 (n, 2)."""
    return np.array([point.split() for point in path[1:].split("L")], dtype=np.float64)


def test_curves_are_drawn_to_scale() -> None:
    inside, outside = np.array([0.9, 0.8, 0.4]), np.array([0.5, 0.3])
    plot = ROC_PLOT
    drawn = points(plot.roc_path(inside, outside))
    fpr, tpr = roc_points(inside, outside)
    corner, opposite = points(plot.path((0, 0), (1, 1)))
    scaled = (drawn - corner) / (opposite - corner)
    np.testing.assert_allclose(scaled, np.stack([fpr, tpr], axis=1), atol=1e-4)
    assert 0 < corner[0] < opposite[0] < plot.width
    assert 0 < opposite[1] < corner[1] < plot.height


@settings(max_examples=50, deadline=None)
@given(inside=scores, outside=scores, scale=st.sampled_from([1e-6, 1.0, 3e5]))
def test_histograms_fill_their_axes(inside: np.ndarray, outside: np.ndarray, scale: float) -> None:
    inside, outside = inside * scale, outside * scale
    edges = shared_bins([inside, outside])
    plot = histogram_plot(edges, (inside, outside))
    tops = []
    for side in (inside, outside):
        drawn = points(plot.histogram_path(side, edges))
        assert drawn[0, 1] == drawn[-1, 1] == plot.y(0)
        assert (drawn[0, 0], drawn[-1, 0]) == (plot.x(edges[0]), plot.x(edges[-1]))
        tops.append(drawn[:, 1].min())
    assert min(tops) == plot.y(100 * max(shares(inside, edges).max(), shares(outside, edges).max()))
    for low, high in ((plot.x_low, plot.x_high), (0.0, plot.y_high)):
        marks = ticks(low, high)
        assert 2 <= len(marks) <= 8
        assert all(low <= value <= high for value, _ in marks)
        assert len({label for _, label in marks}) == len(marks)
        spacing = abs(marks[1][0] - marks[0][0])
        assert all(abs(float(label) - value) <= 1e-6 * spacing for value, label in marks)
