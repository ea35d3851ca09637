"""Evaluations, and comparisons of several, as notebooks show them."""

from __future__ import annotations

from negrefine.evaluation.comparison import SHOWN, Comparison, MarkedCell, caption
from negrefine.evaluation.results import MEAN, Evaluation
from negrefine.evaluation.tables import FPR95_NOTE, METRIC_PAIRS, Cell, ResultTable
from negrefine.notebook_html import escaped, frame, paragraph, small, table


def evaluation_html(evaluation: Evaluation) -> str:
    """Return AUROC and FPR95 of every method on every set, with intervals, and how to read them."""
    metrics = METRIC_PAIRS[0]
    results = ResultTable(evaluation.results)
    # Of one set the mean says nothing more.
    sets = [name for name in results.sets if name != MEAN or len(evaluation.ood_sets) > 1]
    head = ["in percent", *(f"{escaped(name)}<br>{m.caption}" for name in sets for m in metrics)]
    rows = [
        [
            escaped(evaluation.title_of(method)),
            *(_cell(cell) for name in sets for cell in results.row(method, name, metrics)),
        ]
        for method in results.methods
    ]
    n_ood = sum(int(image_set.readable.sum()) for image_set in evaluation.ood_sets)
    n_id = int(evaluation.id_set.readable.sum())
    unreadable = sum(len(each.paths) for each in evaluation.sets) - n_id - n_ood
    counts = f"{n_id:,} in-distribution and {n_ood:,} out-of-distribution images"
    if unreadable:
        counts += f"; {unreadable:,} more could not be read"
    notes = evaluation.settings.get("notes") or []
    return frame(
        f"<strong>{escaped(evaluation.title or 'Evaluation')}</strong>",
        table(head, rows),
        paragraph(f"{counts}. {escaped(FPR95_NOTE)}.", faint=True),
        *(paragraph(escaped(note)) for note in notes),
        paragraph(f"Everything else is in {escaped(evaluation.directory)}", faint=True),
    )


def comparison_html(comparison: Comparison) -> str:
    """Return the numbers of several results files, the marks on them, and what else differs."""
    names = comparison.sets
    head = ["in percent", *(f"{escaped(name)}<br>{m.caption}" for name in names for m in SHOWN)]
    rows = []
    for row in comparison.rows:
        title = f"{escaped(row.title)}<br>{small(escaped(comparison.label_of(row)))}"
        # A set that the file has not measured has empty cells.
        cells = [row.cells.get(name, (None,) * len(SHOWN)) for name in names]
        rows.append([title, *(_marked(each) for pair in cells for each in pair)])
    marks = (f"[{mark.number}] {mark.text}" for mark in comparison.marks)
    return frame(
        f"<strong>{len(comparison.files)} results</strong>",
        table(head, rows),
        *(paragraph(escaped(text)) for text in (*marks, *comparison.notes)),
        paragraph(escaped(caption(comparison)), faint=True),
    )


def _marked(each: MarkedCell | None) -> str:
    return "" if each is None else _cell(each.cell, each.signs)


def _cell(cell: Cell, signs: str = "") -> str:
    interval = cell.interval()
    below = f"<br>{small(interval)}" if interval else ""
    return cell.marked("<strong>{}</strong>") + signs + below
