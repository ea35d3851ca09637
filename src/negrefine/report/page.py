"""One self-contained HTML file about an evaluation: `write_report`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from negrefine.detectors.base import Detector
from negrefine.encoders.base import Encoder
from negrefine.errors import InputError
from negrefine.evaluation.paired import sentences
from negrefine.evaluation.results import Evaluation
from negrefine.evaluation.stream_tables import COLUMNS, cells
from negrefine.evaluation.tables import (
    DIFFERENCE_COLUMNS,
    DIFFERENCE_NOTE,
    METRIC_PAIRS,
    Cell,
    difference_rows,
    percent,
)
from negrefine.files.writing import check_replaceable, write_text
from negrefine.labels.negatives import removal_counts
from negrefine.report import figures
from negrefine.report.card import explanation_sentences
from negrefine.report.content import ReportContent
from negrefine.report.templates import Inline, check_report_packages, template_environment

# How a report is known: by the policy at its head.
_MARK = "default-src 'none'; img-src data:; style-src 'sha256-"


def write_report(
    evaluation: Evaluation,
    target: Path,
    *,
    detectors: Mapping[str, Detector] | None = None,
    encoder: Encoder | None = None,
    n_mistakes: int = 12,
) -> Path:
    """Write an evaluation as one HTML file that loads nothing else, atomically.

    The same inputs give the same bytes. Figures, mistakes and AUROC of classes and folders are of
    each method's first seed.

    Args:
        evaluation: From `evaluate` or `load_evaluation`.
        target: The file; a report that exists is replaced, another file is not.
        detectors: What was given to `evaluate`, to explain the mistakes.
        encoder: The encoder of the detectors, to load the saved detector where `detectors` does
            not hold it; without either the explanations are left out.
        n_mistakes: Number of images to show on each side.

    Returns:
        `target`.

    Raises:
        InputError: The extra `report` is not installed, the file cannot be written, or
            `n_mistakes` is negative.
    """
    check_report_packages()
    if n_mistakes < 0:
        raise InputError(f"n_mistakes must be 0 or more, not {n_mistakes}.")
    check_report(target)
    write_text(target, _render(ReportContent(evaluation, detectors or {}, encoder, n_mistakes)))
    return target


def check_report(target: Path) -> None:
    """Raise InputError for a file that exists and is no report, which is never replaced."""
    check_replaceable(target, _MARK)


def _render(content: ReportContent) -> str:
    environment = template_environment()
    environment.filters |= {
        "name": content.evaluation.title_of,
        "percent": percent,
        "cell": Cell,
        "sentences": explanation_sentences,
        "spread": figures.spread,
        "stream_cells": cells,
        "difference_rows": difference_rows,
        "difference_sentences": sentences,
        "removal_counts": lambda labels: removal_counts(labels).items(),
    }
    environment.globals |= {"figures": figures, "stream_columns": COLUMNS} | {
        "difference_columns": DIFFERENCE_COLUMNS,
        "difference_note": DIFFERENCE_NOTE,
    }
    # The main method has a style of its own; the other five take turns.
    lines = {m: f"line{i and 1 + (i - 1) % 5}" for i, m in enumerate(content.methods)}
    text: str = environment.get_template("page.html.jinja").render(
        content=content,
        evaluation=content.evaluation,
        metric_pairs=METRIC_PAIRS,
        settings=_flat(content.evaluation.settings),
        style=Inline("base.css", "page.css"),
        lines=lines,
    )
    return text


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as one list of dotted names and texts."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{prefix}{name}.")
        else:
            text = (
                value
                if isinstance(value, str)
                else json.dumps(value, ensure_ascii=False, default=str)
            )
            rows.append((f"{prefix}{name}", text))
    return rows
