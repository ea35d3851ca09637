"""The report's plots, drawn by matplotlib (extra `report`) as SVG elements.

All names are in the page, not in the drawings: these hold numbers only, so that no name can be too
long, unprintable or mistaken for mathematics.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from negrefine.evaluation.results import Scores
from negrefine.metrics import OperatingPoint
from negrefine.report.curves import roc_points, shares
from negrefine.report.svg_markup import inline_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID, PAPER = "#1f2430", "#5b6270", "#d9dde5", "#ffffff"
ID_COLOUR, OOD_COLOUR = "#0072b2", "#b8470b"
# Distinguished by hue, brightness and line pattern; the first is for the main method.
LINES = (
    (ID_COLOUR, "none"),
    (OOD_COLOUR, "7 2"),
    ("#00785a", "2 2"),
    ("#8a3d86", "8 2 2 2"),
    ("#6d5c00", "4 1"),
    ("#3d3f46", "1 1.5"),
)
DARK = {
    INK: "#e6e8ee",
    FAINT: "#a4abba",
    GRID: "#3a404d",
    PAPER: "#14171d",
    ID_COLOUR: "#62b6ee",
    OOD_COLOUR: "#f0a04b",
    "#00785a": "#3ecba0",
    "#8a3d86": "#e39ade",
    "#6d5c00": "#e0cf4a",
    "#3d3f46": "#c4c8d2",
}
"""Each colour of the drawings on white, and its counterpart on black."""


@dataclass(frozen=True, slots=True)
class LineStyle:
    """How a method's curve looks.

    Attributes:
        colour: Hexadecimal.
        dashes: Lengths for `stroke-dasharray`, "none" for a solid line.
        width: In units of the drawing.
    """

    colour: str
    dashes: str
    width: float


def line_styles(methods: Sequence[str]) -> dict[str, LineStyle]:
    """Return a style for each method, the strongest for the first one."""
    styles = {methods[0]: LineStyle(*LINES[0], 2.4)}
    for i, method in enumerate(methods[1:]):
        styles[method] = LineStyle(*LINES[1:][i % (len(LINES) - 1)], 1.5)
    return styles


def roc_figure(
    id_scores: Mapping[str, Scores],
    ood_scores: Mapping[str, Scores],
    points: Mapping[str, OperatingPoint],
    styles: Mapping[str, LineStyle],
    *,
    name_of: Callable[[str], str],
    ood_name: str,
    key: str,
) -> str:
    """Return the ROC curves of all methods on one OOD set with their operating points.

    Args:
        id_scores: Method to (n,).
        ood_scores: Method to (m,).
        points: Method to its operating point.
        styles: From `line_styles`; the main method comes first.
        name_of: Returns the name of a method for people.
        ood_name: Name of the OOD set.
        key: Letters and digits that no other drawing on the page has.
    """
    with _drawing(3.4, 3.1) as (figure, axes):
        axes.axhline(0.95, color=FAINT, linewidth=0.8, dashes=(3, 3))
        axes.plot([0, 1], [0, 1], color=GRID, linewidth=0.8)
        # The main method last, on top.
        for method, style in reversed(list(styles.items())):
            fpr, tpr = roc_points(id_scores[method], ood_scores[method])
            line = axes.plot(fpr, tpr, color=style.colour, linewidth=style.width, clip_on=False)[0]
            if style.dashes != "none":
                line.set_dashes([float(length) / style.width for length in style.dashes.split()])
            axes.plot(
                *([points[method].fpr], [points[method].tpr]),
                marker="o",
                markersize=5 + style.width,
                markerfacecolor=style.colour,
                markeredgecolor=PAPER,
                clip_on=False,
                zorder=4,
            )
        axes.set(xlim=(0, 1), ylim=(0, 1))
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])
        axes.set_yticks([0, 0.25, 0.5, 0.75, 0.95], ["0", "25", "50", "75", "95"])
        axes.set_xlabel("OOD images accepted (FPR, %)")
        axes.set_ylabel("ID images accepted (TPR, %)")
        axes.grid(color=GRID, linewidth=0.6)
        figure.subplots_adjust(left=0.15, right=0.97, top=0.97, bottom=0.145)
        drawing = _svg(figure)
    numbers = "; ".join(
        f"{name_of(method)} accepts {_percent(points[method].fpr)} of the OOD images where it "
        f"accepts {_percent(points[method].tpr)} of the ID images"
        for method in styles
    )
    return inline_svg(
        drawing, key=key, label=f"ROC curves against {ood_name}", description=f"{numbers}."
    )


def histogram_figure(
    id_scores: Scores,
    ood_scores: Scores,
    point: OperatingPoint,
    edges: Scores,
    *,
    name: str,
    ood_name: str,
    key: str,
) -> str:
    """Return the distribution of a method's scores, ID against one OOD set, with the threshold.

    Args:
        id_scores: (n,).
        ood_scores: (m,).
        point: The operating point.
        edges: Edges of the bins, from `curves.shared_bins`.
        name: Name of the method.
        ood_name: Name of the OOD set.
        key: Letters and digits that no other drawing on the page has.
    """
    with _drawing(3.2, 2.05) as (figure, axes):
        for scores, colour, pattern in (
            (ood_scores, OOD_COLOUR, (3.0, 1.2)),
            (id_scores, ID_COLOUR, None),
        ):
            heights = 100 * shares(scores, edges)
            axes.stairs(heights, edges, fill=True, color=colour, alpha=0.22, linewidth=0)
            outline = axes.stairs(heights, edges, color=colour, linewidth=1.4)
            if pattern is not None:
                outline.set_linestyle((0, pattern))
        axes.axvline(point.threshold, color=INK, linewidth=1.3, dashes=(3, 2))
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("Score")
        axes.set_ylabel("Images (%)")
        axes.locator_params(axis="x", nbins=6)
        axes.locator_params(axis="y", nbins=5)
        axes.grid(axis="y", color=GRID, linewidth=0.6)
        figure.subplots_adjust(left=0.155, right=0.97, top=0.96, bottom=0.225)
        drawing = _svg(figure)
    return inline_svg(
        drawing,
        key=key,
        label=f"Scores of {name}: in-distribution against {ood_name}",
        description=(
            f"{len(id_scores)} ID images with scores {_spread(id_scores)}; {len(ood_scores)} OOD "
            f"images with scores {_spread(ood_scores)}. At the threshold {point.threshold:.4g}, "
            f"{_percent(point.tpr)} of the ID images and {_percent(point.fpr)} of the OOD images "
            "are accepted."
        ),
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _spread(scores: Scores) -> str:
    low, middle, high = np.quantile(scores, (0.05, 0.5, 0.95))
    return f"around {middle:.4g} (nine in ten from {low:.4g} to {high:.4g})"


@contextmanager
def _drawing(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """Yield an empty figure, in inches of 100 units, whose look no user setting changes."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "svg.fonttype": "none",
                "svg.hashsalt": "negrefine",
                "font.size": 8.6,
                "axes.edgecolor": FAINT,
                "axes.labelcolor": INK,
                "axes.linewidth": 0.8,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.axisbelow": True,
                "xtick.color": FAINT,
                "ytick.color": FAINT,
                "xtick.labelcolor": INK,
                "ytick.labelcolor": INK,
            }
        )
        figure = Figure(figsize=(width, height))
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        figure.patch.set_visible(False)
        axes.patch.set_visible(False)
        yield figure, axes


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=metadata)
    return buffer.getvalue()
