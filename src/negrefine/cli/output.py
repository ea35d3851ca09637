"""What commands print: warnings, tables, JSON and the summaries that several of them share."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from negrefine.detectors import Detector, NegRefine
    from negrefine.evaluation.image_scores import CalibrationReport


def warn(*sentences: str) -> None:
    """Print warnings to standard error."""
    for sentence in sentences:
        typer.echo(f"negrefine: warning: {sentence}", err=True)


def warn_unreadable(errors: Sequence[object], n: int, image_set: str = "") -> None:
    """Warn about images that could not be read, if there are any.

    Args:
        errors: One sentence or exception for each of them.
        n: Number of images, the readable ones included.
        image_set: Name of their set, if there are several.
    """
    if errors:
        images = f"images of {image_set}" if image_set else "images"
        warn(f"{len(errors)} of {n} {images} could not be read; the first: {errors[0]}")


def print_json(content: Any, indent: int | None = 2) -> None:
    """Print JSON to standard output."""
    typer.echo(json.dumps(content, indent=indent, ensure_ascii=False))


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Collection[str] = (),
    title: str = "",
    caption: str = "",
) -> None:
    """Print a table to standard output.

    Args:
        columns: Their headings.
        rows: A text for each column.
        right: Headings of the columns of numbers, which are aligned to the right.
        title: A line above.
        caption: A line below.
    """
    print_tables([_table(columns, rows, right, title=title or None, caption=caption or None)])


def print_tables(tables: Iterable[Table]) -> None:
    """Print rich tables to standard output."""
    from rich.console import Console

    console = Console(highlight=False)
    for table in tables:
        console.print(table)


def print_filter_summary(detector: NegRefine) -> None:
    """Print what the filter did, and what it cost, as a table on standard error."""
    from rich import box
    from rich.console import Console

    rows = [(name, f"{count:,}") for name, count in _filter_summary(detector).items()]
    style = {"box": box.SIMPLE_HEAD, "title": "NegFilter", "title_justify": "left"}
    Console(stderr=True).print(_table(["", "count"], rows, ["count"], **style))


def _table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str], **style: Any
) -> Table:
    from rich.table import Table

    table = Table(**style)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _filter_summary(detector: NegRefine) -> dict[str, int]:
    from negrefine.labels.negatives import Cause

    labels = detector.negative_labels_
    causes = [label.removed_by.cause for label in labels if label.removed_by is not None]
    nouns, subcategories = causes.count(Cause.PROPER_NOUN), causes.count(Cause.SUBCATEGORY)
    rows = {
        "labels kept": len(labels) - len(causes),
        "removed as proper nouns": nouns,
        "removed as subcategories": subcategories,
        "removed otherwise": len(causes) - nouns - subcategories,
        "questions answered": len(detector.audit_),
        "of them undecided": sum(question.yes is None for question in detector.audit_),
    }
    usage = getattr(detector.judge, "usage", None)
    if usage is not None:
        rows |= {
            "asked the model": usage.asked,
            "taken from the store": usage.cached,
            "tokens read": usage.prompt_tokens,
            "tokens written": usage.completion_tokens,
        }
    return rows


def describe_detector(detector: Detector) -> str:
    """Return the numbers of class names and negative labels as a phrase."""
    words = f"{len(detector.class_names_)} class names"
    if detector.negatives_ is None:
        return words
    kept, removed = detector.negatives_.kept, detector.negatives_.removed[0]
    return f"{words}, {len(kept)} negative labels ({len(removed)} removed)"


def describe_calibration(report: CalibrationReport) -> str:
    """Return threshold, number of images and guarantee as a phrase."""
    if report.delta is None:
        bound = f"false-alarm rate <= {report.fpr:g} (mean over calibrations)"
    else:
        bound = f"false-alarm rate <= {report.fpr:g} with probability {1 - report.delta:g}"
    return f"threshold {report.threshold:.4f} from {report.n} images, {bound}"
