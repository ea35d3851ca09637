"""How commands print: lines, warnings, tables, JSON and summaries of detectors.

Nothing is printed elsewhere, so that no name or reply is obeyed by a terminal.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

from negrefine.shown_text import json_text, printed_cell, visible
from negrefine.text_tables import console_table

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table
    from rich.text import Text

    from negrefine.detectors import Detector, NegRefine
    from negrefine.detectors.pair_embeddings import PairLookups
    from negrefine.detectors.vision_checks import VisionReport
    from negrefine.encoders import Encoder
    from negrefine.evaluation.image_scores import CalibrationReport

# Classes to name in a line or in lines; JSON has them all.
_LISTED = 20
_GROUPED = {"by", "needed", "groups", "class_counts"}


def say(*lines: str, err: bool = False) -> None:
    """Print lines, on standard error if `err`."""
    for line in lines:
        typer.echo(visible(line), err=err)


def warn(*sentences: str) -> None:
    """Print warnings to standard error."""
    say(*(f"negrefine: warning: {sentence}" for sentence in sentences), err=True)


def warn_unreadable(
    errors: Sequence[object],
    n: int,
    image_set: str = "",
    *,
    n_unreadable: int | None = None,
    left_out: bool = True,
) -> None:
    """Warn if images, out of n in a set, could not be read.

    `errors` says for each why, or for some of `n_unreadable`.
    """
    if errors:
        count = len(errors) if n_unreadable is None else n_unreadable
        images = f"images of {image_set}" if image_set else "images"
        effect = " and were left out" if left_out else ""
        warn(f"{count} of {n} {images} could not be read{effect}; the first: {errors[0]}")


def say_vision(detector: Detector) -> None:
    """Say on standard error what a detector's vision model was asked, if it was asked anything."""
    total: VisionReport | None = getattr(detector, "total_", None)
    if total is not None and total.n:
        say(total.sentence(), err=True)


def warn_builtin(encoder: Encoder, paths: Sequence[Path]) -> None:
    """Warn if the built-in encoder is to see photographs, which it knows nothing about."""
    from negrefine.benchmarks.bundled import shows_photographs

    if encoder.name == "builtin" and shows_photographs(paths):
        warn(
            "the built-in encoder knows emoji and icons and tells nothing about photographs: give "
            "a CLIP model as encoder, such as 'openai/clip-vit-base-patch16', or 'builtin-photo'."
        )


def print_json(content: Any, indent: int | None = 2) -> None:
    """Print JSON to standard output."""
    typer.echo(json_text(content, indent=indent))


def print_json_line(content: Any) -> None:
    """Print JSON on one line that a reader has at once.

    Ends the process with code 1, and without a word, if there is no reader any more.
    """
    try:
        typer.echo(json_text(content))
        sys.stdout.flush()
    except BrokenPipeError as error:
        raise SystemExit(1) from error


def print_rows(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], delimiter: str, *, quote: bool = True
) -> None:
    """Print a table for programs, CSV or tab-separated; text in it is a `printed_cell`."""
    style: dict[str, Any] = {} if quote else {"quoting": csv.QUOTE_NONE, "quotechar": None}
    writer = csv.writer(sys.stdout, delimiter=delimiter, lineterminator="\n", **style)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([printed_cell(cell) if isinstance(cell, str) else cell for cell in row])


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str | Text]], *, err: bool = False, **style: Any
) -> None:
    """Print a table, on standard error if `err`; `style` as for `console_table`."""
    print_tables([console_table(columns, rows, **style)], err=err)


def print_tables(tables: Iterable[Table], *, err: bool = False) -> None:
    """Print rich tables."""
    from rich.console import Console

    console = Console(highlight=False, stderr=err)
    for table in tables:
        console.print(table)


def print_filter_summary(detector: NegRefine) -> None:
    """Print what the filter did, and what it cost, as a table on standard error."""
    from rich import box

    from negrefine.labels.negatives import Cause

    labels = detector.negative_labels_
    causes = [label.removed_by.cause for label in labels if label.removed_by is not None]
    nouns, subcategories = causes.count(Cause.PROPER_NOUN), causes.count(Cause.SUBCATEGORY)
    counts = {
        "labels kept": len(labels) - len(causes),
        "removed as proper nouns": nouns,
        "removed as subcategories": subcategories,
        "removed otherwise": len(causes) - nouns - subcategories,
        "questions answered": len(detector.audit_),
        "of them undecided": sum(question.yes is None for question in detector.audit_),
    }
    usage = getattr(detector.judge, "usage", None)
    if usage is not None:
        counts |= {
            "asked the model": usage.asked,
            "taken from the store": usage.cached,
            "tokens read": usage.prompt_tokens,
            "tokens written": usage.completion_tokens,
        }
    rows = [(name, f"{count:,}") for name, count in counts.items()]
    style = {"box": box.SIMPLE_HEAD, "title": "NegFilter", "title_justify": "left"}
    print_table(["", "count"], rows, err=True, **style)


def counted(n: int, noun: str) -> str:
    """Return a number with its noun: "1 row", "2 rows"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def describe_detector(detector: Detector) -> str:
    """Return the numbers of class names and negative labels as a phrase."""
    words = counted(len(detector.class_names_), "class name")
    if detector.negatives_ is None:
        return words
    kept, removed = detector.negatives_.kept, detector.negatives_.removed[0]
    return f"{words}, {counted(len(kept), 'negative label')} ({len(removed)} removed)"


def describe_left_out(detector: Detector) -> list[str]:
    """Return a sentence about what was left out of the lexicon, nothing if nothing was."""
    left_out = getattr(detector, "left_out_", None)
    return [] if left_out is None else [str(left_out)]


def describe_proposals(detector: Detector) -> list[str]:
    """Return a sentence about what was proposed, nothing if nothing was."""
    proposals = getattr(detector, "proposals_", None)
    if not proposals:
        return []
    n_kept = sum(each.kept for each in proposals)
    return [
        f"Proposed by {proposals[0].by}: {len(proposals)}, of which {n_kept} are negative labels "
        "('negrefine labels' says why the others went)."
    ]


def describe_lookups(lookups: PairLookups) -> str:
    """Return where the pair embeddings of scores came from as a sentence."""
    return (
        f"Pairs of names: {lookups.asked:,} asked, {lookups.from_memory:,} from memory, "
        f"{lookups.from_disk:,} from disk, {lookups.encoded:,} encoded "
        f"({lookups.hit_rate:.1%} were there)."
    )


def describe_calibration(report: CalibrationReport) -> str:
    """Return threshold, number of images and guarantee as a phrase."""
    images, rate = counted(report.n, "image"), f"false-alarm rate <= {report.fpr:g}"
    if report.delta is None:
        bound = "mean over calibrations"
    else:
        bound = f"with probability {1 - report.delta:g}"
    if report.by is not None:
        unbounded = any(group.kind == "all" for group in report.groups)
        each = "for each class that has its own" if unbounded else "each"
        return f"thresholds by predicted class from {images}, {rate} {each} ({bound})"
    bound = f" {bound}" if report.delta is not None else f" ({bound})"
    return f"threshold {report.threshold:.4f} from {images}, {rate}{bound}"


def describe_groups(report: CalibrationReport, class_names: Sequence[str]) -> list[str]:
    """Return lines that say which class has what threshold, and why; none without classes."""
    if report.by is None:
        return []
    own = [group for group in report.groups if group.kind == "class"]
    lines = [f"No class has the {report.needed} images that a threshold of its own needs."]
    if own:
        lines = [
            f"{len(own)} of {len(class_names)} classes have the {report.needed} images that a "
            "threshold of their own needs:"
        ]
    for group in own[:_LISTED]:
        name = class_names[group.classes[0]]
        lines.append(f"  {name!r}: threshold {group.threshold:.4f} from {group.n} images")
    if len(own) > _LISTED:
        lines.append(f"  and {len(own) - _LISTED} more ('negrefine calibrate --json' lists all)")
    for group in report.groups:
        if group.kind == "class":
            continue
        names = [f"{class_names[k]!r} ({report.class_counts[k]})" for k in group.classes]
        more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        shared = f"threshold {group.threshold:.4f} from {group.n} images"
        if group.kind == "pooled":
            lines.append(
                f"The others share the {shared}, those of all classes with at most "
                f"{report.needed}; the rate is that of their images together, not of each class:"
            )
        else:
            lines.append(
                f"The others have too few together, so they use the {shared}, all there are: its "
                "rate is that of images of all classes, and nothing is guaranteed for these:"
            )
        lines.append(f"  {', '.join(names[:_LISTED])}{more}")
    return lines


def calibration_as_dict(report: CalibrationReport, class_names: Sequence[str]) -> dict[str, Any]:
    """Return a report as JSON data: classes by name, and groups only with thresholds by class."""
    content = asdict(report)
    groups = [
        {
            **asdict(group),
            "classes": [class_names[k] for k in group.classes],
            "class_counts": [report.class_counts[k] for k in group.classes],
        }
        for group in report.groups
    ]
    grouped = {"by": report.by, "needed": report.needed, "groups": groups}
    plain = {name: value for name, value in content.items() if name not in _GROUPED}
    return plain if report.by is None else plain | grouped
