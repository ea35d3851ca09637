"""Coordinates of the report's plots, which the template draws as SVG.

All names are in the page, not in the drawings: these hold numbers only, so that no name can be too
long or unprintable.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from negrefine.evaluation.results import Scores
from negrefine.evaluation.stream_rows import Spread
from negrefine.report.curves import roc_points, shares

# Room for ticks and captions.
_LEFT, _RIGHT, _TOP, _BOTTOM = 51, 14, 9, 45


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing, `width` x `height` units, with axes from `x_low` to `x_high` and 0 to `y_high`."""

    width: int
    height: int
    x_low: float = 0.0
    x_high: float = 1.0
    y_high: float = 1.0

    def x(self, value: float) -> float:
        """Return the horizontal position of a value."""
        inside = self.width - _LEFT - _RIGHT
        return round(_LEFT + inside * (value - self.x_low) / (self.x_high - self.x_low), 2)

    def y(self, value: float) -> float:
        """Return the vertical position of a value."""
        inside = self.height - _TOP - _BOTTOM
        return round(_TOP + inside * (1 - value / self.y_high), 2)

    def path(self, *points: tuple[float, float]) -> str:
        """Return the line through points as the `d` of an SVG path."""
        return "M" + "L".join(f"{self.x(x):g} {self.y(y):g}" for x, y in points)

    def roc_path(self, id_scores: Scores, ood_scores: Scores) -> str:
        """Return the ROC curve of scores (n,) and (m,) as the `d` of an SVG path."""
        return self.path(*zip(*roc_points(id_scores, ood_scores), strict=True))

    def histogram_path(self, scores: Scores, edges: Scores) -> str:
        """Return the outline of a histogram in percent as the `d` of an SVG path."""
        heights = np.repeat(100 * shares(scores, edges), 2)
        return self.path(*zip(np.repeat(edges, 2), [0.0, *heights, 0.0], strict=True))


ROC_PLOT = Plot(340, 310)
"""The axes of ROC curves."""


def histogram_plot(edges: Scores, scores: Iterable[Scores]) -> Plot:
    """Return the axes of histograms of scores, each (n,), over bins with these edges."""
    highest = max(float(shares(values, edges).max()) for values in scores)
    return Plot(320, 205, float(edges[0]), float(edges[-1]), 105 * highest)


def row_plot(spreads: Sequence[Spread | None], *marks: float) -> Plot:
    """Return the axes of a row for each method, the first on top, in percent.

    They hold the means, the worst values and `marks`.
    """
    values = [100 * v for each in spreads if each is not None for v in (each.mean, each.worst)]
    return _rows_plot([*values, *(100 * mark for mark in marks)], len(spreads))


@dataclass(frozen=True, slots=True)
class Span:
    """A number in a row of its own and the ends of its interval, fractions.

    `is_marked` is for one that cannot be compared with the others.
    """

    low: float
    value: float
    high: float
    is_marked: bool = False


def span_plot(spans: Sequence[Span]) -> Plot:
    """Return the axes of a row for each span, the first on top, in percent."""
    return _rows_plot([100 * end for each in spans for end in (each.low, each.high)], len(spans))


def _rows_plot(values: Sequence[float], n_rows: int) -> Plot:
    low, high = min(values), max(values)
    room = max(0.06 * (high - low), 0.5)
    return Plot(
        340,
        _TOP + _BOTTOM + 17 * n_rows,
        max(0.0, low - room),
        min(100.0, high + room),
        float(n_rows),
    )


def spread(scores: Scores) -> str:
    """Return the centre and the range of scores (n,) in words."""
    low, middle, high = np.quantile(scores, (0.05, 0.5, 0.95))
    return f"around {middle:.4g} (nine in ten from {low:.4g} to {high:.4g})"


def ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Return round numbers along an axis and their labels."""
    finest = (high - low) / 7
    unit = 10.0 ** math.floor(math.log10(finest))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= finest)
    decimals = max(0, -math.floor(math.log10(step)))
    values = [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]
    return [(value, f"{value:.{decimals}f}") for value in values]
