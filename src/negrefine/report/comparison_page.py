"""One self-contained HTML file about several results files: `write_comparison_page`."""

from __future__ import annotations

from pathlib import Path

from negrefine.evaluation.comparison import SHOWN, Comparison, caption
from negrefine.evaluation.results import MEAN
from negrefine.evaluation.tables import percent
from negrefine.files.writing import check_replaceable, write_text
from negrefine.report import figures
from negrefine.report.templates import Inline, check_report_packages, template_environment

# How such a page is known.
_MARK = '<p class="kind">Comparison of out-of-distribution evaluations</p>'


def write_comparison_page(comparison: Comparison, target: Path) -> Path:
    """Write a comparison as one HTML file that loads nothing else, atomically; return `target`.

    Raises InputError if the extra `report` is not installed, or the file cannot be written.
    """
    check_comparison_page(target)
    environment = template_environment()
    # The drawings of all pages are in one template, which uses these.
    environment.filters |= {"name": str, "percent": percent, "spread": figures.spread}
    environment.globals |= {"figures": figures}
    plots = []
    for i, metric in enumerate(SHOWN):
        spans = []
        for row in comparison.rows:
            cell = row.cells[MEAN][i]
            measured = cell.cell.measured
            ends = [measured.value if end is None else end for end in (measured.low, measured.high)]
            spans.append(figures.Span(ends[0], measured.value, ends[1], bool(cell.marks)))
        plots.append((metric, spans, figures.span_plot(spans)))
    text: str = environment.get_template("comparison.html.jinja").render(
        comparison=comparison,
        metrics=SHOWN,
        plots=plots,
        caption=caption(comparison),
        style=Inline("base.css", "page.css"),
        mean=MEAN,
    )
    write_text(target, text)
    return target


def check_comparison_page(target: Path) -> None:
    """Raise InputError without the extra `report`, or for a file that is no such page."""
    check_report_packages()
    check_replaceable(target, _MARK)
