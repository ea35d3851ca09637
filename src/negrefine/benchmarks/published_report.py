"""Tables of measured beside published numbers: for the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from negrefine.benchmarks.catalogue import load_set
from negrefine.benchmarks.published import (
    MEAN,
    Cell,
    reason_texts,
    table_source,
    table_title,
)

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = ("method", "number", "published", "measured", "difference", "why")
_SHORT = {"published": "publ.", "measured": "meas.", "difference": "diff."}
_METRICS = {"auroc": "AUROC", "fpr95": "FPR95"}
_NO_NUMBER = "-"


def rich_tables(cells: Sequence[Cell]) -> list[Table]:
    """Return one table for the terminal for each table of published numbers."""
    from rich import box
    from rich.table import Table

    numbers = reason_numbers(cells)
    tables = []
    for name in dict.fromkeys(cell.table for cell in cells):
        chosen = [cell for cell in cells if cell.table == name]
        shared = _shared(chosen)
        caption = f"Published: {table_source(name)}."
        if shared:
            caption += f" Why, for every measured number: {_list(shared, numbers)}."
        table = Table(title=f"{table_title(name)} (percent)", caption=caption, box=box.SIMPLE_HEAD)
        for column in _COLUMNS:
            table.add_column(
                _SHORT.get(column, column),
                justify="right" if column in _SHORT else "left",
                no_wrap=column != "why",
            )
        for cell in chosen:
            table.add_row(*_row(cell, numbers, shared))
        tables.append(table)
    return tables


def reason_numbers(cells: Sequence[Cell]) -> dict[str, int]:
    """Number the reasons that occur, in the order of the catalogue."""
    used = {reason for cell in cells for reason in cell.reasons}
    return {key: i for i, key in enumerate((key for key in reason_texts() if key in used), 1)}


def reason_lines(cells: Sequence[Cell]) -> list[str]:
    """Return the numbered sentences."""
    texts = reason_texts()
    return [f"{number}. {texts[key]}" for key, number in reason_numbers(cells).items()]


def as_markdown(cells: Sequence[Cell], warnings: Sequence[str]) -> str:
    """Return a page with the tables, the reasons, and the warnings first."""
    numbers = reason_numbers(cells)
    lines = ["# Measured and published", ""]
    lines += [line for warning in warnings for line in (f"**{warning}**", "")]
    for name in dict.fromkeys(cell.table for cell in cells):
        chosen = [cell for cell in cells if cell.table == name]
        shared = _shared(chosen)
        lines += [f"## {table_title(name)}", "", f"In percent. Published: {table_source(name)}."]
        if shared:
            lines.append(f"Why, for every measured number: {_list(shared, numbers)}.")
        lines += ["", f"| {' | '.join(_COLUMNS)} |", "|---|---|---:|---:|---:|---|"]
        lines += [f"| {' | '.join(_row(cell, numbers, shared))} |" for cell in chosen]
        lines.append("")
    lines += ["## Known reasons for differences", "", *reason_lines(cells), ""]
    return "\n".join(lines)


def as_json(cells: Sequence[Cell], warnings: Sequence[str], settings: dict[str, Any]) -> str:
    """Return everything, with the sources of the published numbers."""
    content = {
        "comparable": not warnings,
        "warnings": list(warnings),
        "settings": settings,
        "sources": {table: table_source(table) for table in dict.fromkeys(c.table for c in cells)},
        "cells": [
            {
                "table": cell.table,
                "method": cell.method,
                "ood_set": cell.ood_set,
                "metric": cell.metric,
                "published": cell.published,
                "measured": cell.measured,
                "difference": cell.difference,
                "reasons": list(cell.reasons),
            }
            for cell in cells
        ],
        "reasons": {key: reason_texts()[key] for key in reason_numbers(cells)},
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _shared(cells: Sequence[Cell]) -> list[str]:
    """Return the reasons that hold for every measured number of a table."""
    measured = [cell for cell in cells if cell.measured is not None]
    return [key for key in reason_texts() if measured and all(key in c.reasons for c in measured)]


def _list(reasons: Iterable[str], numbers: dict[str, int]) -> str:
    return ", ".join(str(numbers[reason]) for reason in reasons)


def _row(cell: Cell, numbers: dict[str, int], shared: Sequence[str]) -> list[str]:
    ood_set = MEAN if cell.ood_set == MEAN else load_set(cell.ood_set).title
    missing = cell.measured is None or cell.difference is None
    return [
        cell.method,
        f"{ood_set} {_METRICS[cell.metric]}",
        f"{cell.published:.2f}",
        _NO_NUMBER if missing else f"{cell.measured:.2f}",
        _NO_NUMBER if missing else f"{cell.difference:+.2f}",
        _list((key for key in cell.reasons if missing or key not in shared), numbers),
    ]
