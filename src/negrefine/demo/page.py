"""The demo as one HTML file that loads nothing else: the verdicts first, then the ablation."""

from __future__ import annotations

import base64
from pathlib import Path

from negrefine.demo.reading import NAMES, Reading
from negrefine.demo.verdicts import Verdicts, count_flagged
from negrefine.evaluation.paired import is_better, points
from negrefine.evaluation.results import Evaluation
from negrefine.evaluation.tables import Cell
from negrefine.files.writing import check_replaceable, write_text
from negrefine.report.templates import Inline, check_report_packages, template_environment

# How a page is known.
_MARK = '<meta name="generator" content="negrefine demo">'


def check_page(target: Path) -> None:
    """Raise InputError where no page can be written, or something else would be replaced."""
    check_report_packages()
    check_replaceable(target, _MARK)


def write_page(
    target: Path, verdicts: Verdicts, evaluation: Evaluation, reading: Reading, caveat: str
) -> None:
    """Write the page, atomically; the same inputs give the same bytes."""
    environment = template_environment()
    environment.filters |= {"picture": _picture, "cell": Cell, "points": points}
    environment.tests |= {"better": is_better}
    results = {(r.method, r.ood_set): r for r in [*evaluation.results, *evaluation.ablation]}
    text = environment.get_template("demo.html.jinja").render(
        verdicts=verdicts,
        n_flagged=count_flagged,
        reading=reading,
        results=results,
        sets=[each.name for each in evaluation.ood_sets],
        names=NAMES,
        caveat=caveat,
        style=Inline("base.css", "demo.css"),
    )
    write_text(target, text)


def _picture(path: Path) -> str:
    """Return a bundled picture, a small PNG file, as a data URI."""
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
