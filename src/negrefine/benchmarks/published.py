"""Measured numbers beside published ones, with the known reasons for a difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from negrefine.benchmarks.catalogue import load_benchmark, load_set, read_data
from negrefine.benchmarks.draws import undrawn
from negrefine.constraints import OneOf
from negrefine.evaluation.results import MEAN, Evaluation, Result
from negrefine.labels.lexicon import Lexicon
from negrefine.shown_text import json_text
from negrefine.text_tables import console_table, markdown_table, markdown_text

if TYPE_CHECKING:
    from rich.table import Table

_NOT_MEASURED = "not measured"
_CONVENTION = "FPR95 is in-distribution positive, as in the papers; OpenOOD's is another number."
_COLUMNS = (
    *("method", "number", "published", "measured", "difference", "tolerance", "check", "why"),
)
_SHORT = {"published": "publ.", "measured": "meas.", "difference": "diff.", "tolerance": "tol."}
AGREES, DIFFERS, NOT_COMPARED, NOT_RUN = "agrees", "differs", "not comparable", "not measured"
STATES = (AGREES, DIFFERS, NOT_COMPARED, NOT_RUN)
"""What `Cell.state` can be."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One published number and the measured one, in percent, None if it was not measured.

    Attributes:
        table: One of `table_names()`.
        method: Method or ablation variant.
        ood_set: Name of the set in the catalogue, or "mean": over the four sets of the main table.
        metric: "auroc" or "fpr95".
        reasons: Keys of `reason_texts` that can explain a difference, or why nothing was measured.
        tolerance: How much the two may differ, in percentage points; None if they cannot be
            compared.
    """

    table: str
    method: str
    ood_set: str
    metric: str
    published: float
    measured: float | None
    reasons: tuple[str, ...]
    tolerance: float | None

    @property
    def state(self) -> str:
        """One of `STATES`."""
        if self.difference is None:
            return NOT_RUN
        if self.tolerance is None:
            return NOT_COMPARED
        return AGREES if abs(self.difference) <= self.tolerance else DIFFERS

    @property
    def difference(self) -> float | None:
        """Measured minus published, in percentage points."""
        return None if self.measured is None else self.measured - self.published


def table_names() -> list[str]:
    """Return the names of the tables of published numbers."""
    return list(_published("tables"))


def reason_texts() -> dict[str, str]:
    """Return key to sentence of all known reasons for a difference."""
    return {key: reason["text"] for key, reason in _published("reasons").items()}


def is_published_lexicon(lexicon: Lexicon) -> bool:
    """Return whether a lexicon has as many words in each file as the published one."""
    words: dict[str, int] = _published("words")
    return Counter(entry.lexname for entry in lexicon.entries) == Counter(words)


def compare_with_published(
    evaluation: Evaluation, facts: Collection[str], tables: Sequence[str] | None = None
) -> list[Cell]:
    """Return a cell for each published number, in the order of the tables.

    Args:
        evaluation: Of `benchmarks.locate`'s images, with the ablation if that table is wanted.
        facts: What is true of the run and decides which reasons apply: "lexicon" (the authors'
            words), "replay" (recorded answers), "replay of other seeds" than 0, "bilinear"
            (resize), "ten seeds", "seed 0" (is among them), "float16", "incomplete" (images
            missing), "other encoder", "random weights".
        tables: Of `table_names()`, by default all; InputError for another name.
    """
    cells = []
    for table in dict.fromkeys(table_names() if tables is None else tables):
        OneOf(tuple(table_names()))("table", table)
        results = evaluation.ablation if table == "ablation" else evaluation.results
        for entry in _published("tables")[table]["cells"]:
            method, ood_set, metric = entry["method"], entry["ood_set"], entry["metric"]
            rows = list(dict.fromkeys(r.method for r in results if undrawn(r.method) == method))
            if table == "seed0":
                rows = _seed_zero(evaluation, rows) or rows
            values = [_measured(results, row, ood_set, metric) for row in rows]
            known = [100 * value for value in values if value is not None]
            percent = sum(known) / len(known) if known else None
            reasons = tuple(_reasons(table, method, ood_set, facts, percent is not None))
            tolerance = None if percent is None else _tolerance(reasons, ood_set, metric)
            cells.append(
                Cell(table, method, ood_set, metric, entry["value"], percent, reasons, tolerance)
            )
    return cells


def _seed_zero(evaluation: Evaluation, rows: Sequence[str]) -> list[str]:
    """Return the rows, out of those of several draws, that were drawn with seed 0."""
    settings = evaluation.settings.get("methods", {})
    return [row for row in rows if settings.get(row, {}).get("seed") == 0]


def _tolerance(reasons: Sequence[str], ood_set: str, metric: str) -> float | None:
    """Return what the reasons of a cell allow together, None if one of them has no bound."""
    rule, known = _published("tolerance"), _published("reasons")
    allowed = [known[reason].get("allows") for reason in reasons]
    if None in allowed:
        return None
    total = sum((each[metric] for each in allowed), 0.0)
    times = 1 if ood_set == MEAN else rule["one_set"]
    return round(float(rule["rounding"] + times * total), 4)


def tolerance_text() -> str:
    """Return how a tolerance is made."""
    return str(_published("tolerance")["text"])


def summary(cells: Sequence[Cell]) -> str:
    """Return in one sentence how many published numbers were checked, and with what result."""
    counts = Counter(cell.state for cell in cells)
    found = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    return f"Of {len(cells)} published numbers: {found}."


def _measured(results: Iterable[Result], row: str, ood_set: str, metric: str) -> float | None:
    """Return a fraction; a mean only if all four sets of the main table were measured."""
    values = {r.ood_set: getattr(r, metric).value for r in results if r.method == row}
    if ood_set != MEAN:
        return values.get(load_set(ood_set).title)
    four = [dataset.title for dataset in load_benchmark("imagenet-1k").ood_sets]
    return sum(values[title] for title in four) / len(four) if values.keys() >= set(four) else None


def _reasons(
    table: str, method: str, ood_set: str, facts: Collection[str], measured: bool
) -> list[str]:
    """Return what can explain the difference, or why there is none."""
    true = {*facts} if measured else {*facts, _NOT_MEASURED}

    def applies(reason: dict[str, Any]) -> bool:
        return (
            method in reason.get("methods", [method])
            and ood_set in reason.get("ood_sets", [ood_set])
            and table in reason.get("tables", [table])
            and reason.get("unless") not in true
            and ("when" not in reason or reason["when"] in true)
            and (measured or reason.get("when") == _NOT_MEASURED)
        )

    keys = [key for key, reason in _published("reasons").items() if applies(reason)]
    # The first, more specific reason says more than that the method was not part of the run.
    return keys if measured else keys[:1]


def reason_lines(cells: Sequence[Cell]) -> list[str]:
    """Return the reasons of some cells as numbered sentences."""
    texts = reason_texts()
    return [f"{number}. {texts[key]}" for key, number in _reason_numbers(cells).items()]


def rich_tables(cells: Sequence[Cell]) -> list[Table]:
    """Return a table for the terminal for each table of published numbers."""
    from rich import box

    columns = [_SHORT.get(column, column) for column in _COLUMNS]
    return [
        console_table(
            columns,
            rows,
            title=f"{title} (percent)",
            caption=f"{_CONVENTION} {source} {why}",
            box=box.SIMPLE_HEAD,
        )
        for title, source, why, rows in _text_tables(cells)
    ]


def as_markdown(cells: Sequence[Cell], warnings: Sequence[str]) -> str:
    """Return a page with the warnings, the tables and the reasons."""
    lines = ["# Measured and published", "", f"{summary(cells)} {tolerance_text()}", ""]
    lines += [line for warning in warnings for line in (f"**{markdown_text(warning)}**", "")]
    for title, source, why, rows in _text_tables(cells):
        lines += [
            f"## {title}",
            "",
            f"In percent. {_CONVENTION} {source}",
            *([why] if why else []),
            "",
        ]
        lines.append(markdown_table(_COLUMNS, rows))
    lines += ["## Known reasons for differences", "", *reason_lines(cells), ""]
    return "\n".join(lines)


def as_json(cells: Sequence[Cell], warnings: Sequence[str], settings: dict[str, Any]) -> str:
    """Return everything, with the sources of the published numbers."""
    tables = _published("tables")
    content = {
        "comparable": not warnings,
        "warnings": list(warnings),
        "settings": settings,
        "sources": {cell.table: tables[cell.table]["source"] for cell in cells},
        "summary": summary(cells),
        "tolerances": tolerance_text(),
        "states": {state: sum(cell.state == state for cell in cells) for state in STATES},
        "cells": [
            asdict(cell) | {"difference": cell.difference, "state": cell.state} for cell in cells
        ],
        "reasons": {key: reason_texts()[key] for key in _reason_numbers(cells)},
    }
    return json_text(content, indent=2) + "\n"


def _text_tables(cells: Sequence[Cell]) -> Iterator[tuple[str, str, str, list[list[str]]]]:
    """Yield title, source, the reasons that hold for every measured number, and rows of text."""
    numbers = _reason_numbers(cells)
    for name in dict.fromkeys(cell.table for cell in cells):
        members = [cell for cell in cells if cell.table == name]
        content = _published("tables")[name]
        measured = [set(cell.reasons) for cell in members if cell.measured is not None]
        shared = set.intersection(*measured) if measured else set()
        why = f"Why, for every measured number: {_list(shared, numbers)}." if shared else ""
        rows = [_row(cell, numbers, shared) for cell in members]
        yield content["title"], f"Published: {content['source']}.", why, rows


def _row(cell: Cell, numbers: dict[str, int], shared: Collection[str]) -> list[str]:
    ood_set = MEAN if cell.ood_set == MEAN else load_set(cell.ood_set).title
    row = [cell.method, f"{ood_set} {cell.metric.upper()}", f"{cell.published:.2f}"]
    if cell.measured is None:
        return [*row, "-", "-", "-", "-", _list(cell.reasons, numbers)]
    why = _list(set(cell.reasons) - set(shared), numbers)
    checked = "-", "-"
    if cell.tolerance is not None:
        checked = f"{cell.tolerance:.2f}", cell.state
    return [*row, f"{cell.measured:.2f}", f"{cell.difference:+.2f}", *checked, why]


def _reason_numbers(cells: Sequence[Cell]) -> dict[str, int]:
    """Number the reasons that occur, in the order of the catalogue."""
    used = {reason for cell in cells for reason in cell.reasons}
    return {key: i for i, key in enumerate((key for key in reason_texts() if key in used), 1)}


def _list(reasons: Iterable[str], numbers: dict[str, int]) -> str:
    return ", ".join(map(str, sorted(numbers[reason] for reason in reasons)))


def _published(part: str) -> Any:
    return read_data("published.json")[part]
