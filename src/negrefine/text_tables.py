"""Tables as text: for terminals and as Markdown. Columns of numbers are aligned to the right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_NUMBERS = re.compile(r"[-+\d.,/ ±%\n]*")


def console_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    *,
    title: str | None = None,
    caption: str | None = None,
    sections: Sequence[int] = (),
    **style: Any,
) -> Table:
    """Return a table for `rich`; nothing in it is read as markup.

    Args:
        columns: Captions.
        rows: One cell for each column.
        title: A line above.
        caption: A line below.
        sections: Indices of rows that a line follows.
        **style: Further arguments of `rich.table.Table`.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title and Text(title), caption=caption and Text(caption), **style)
    for i, column in enumerate(columns):
        right = _all_numbers([str(row[i]) for row in rows])
        table.add_column(
            Text(column),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    for i, row in enumerate(rows):
        cells = [cell if isinstance(cell, Text) else Text(cell) for cell in row]
        table.add_row(*cells, end_section=i in sections)
    return table


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the lines of a Markdown table, "|" in cells escaped."""
    numbers = [_all_numbers([row[i].replace("*", "") for row in rows]) for i in range(len(columns))]
    lines = [columns, ["---:" if right else "---" for right in numbers], *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def _all_numbers(cells: Sequence[str]) -> bool:
    return all(_NUMBERS.fullmatch(re.sub(r"[\[\]]", "", cell)) for cell in cells)
