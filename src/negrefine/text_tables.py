"""Tables as text: terminal, Markdown and LaTeX. Columns of numbers are aligned to the right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from negrefine.shown_text import visible

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_NUMBERS = re.compile(r"[-+\d.,/ ±%\n]*")
# What Markdown takes for code, emphasis, links, images, mathematics and cells, and addresses that
# GitHub makes links of. Within words "_" is a letter like others.
_MARKDOWN = re.compile(
    r"""[`*\[\]|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|:(?=//)|(?<=www)\.
    |\\(?=[!-/:-@\[-`{-~]|$)""",
    re.VERBOSE | re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?=#?\w+;)")
_PIPE = re.compile(r"(?<!\\)((?:\\\\)*)\|")
_LATEX = {ord(character): f"\\{character}" for character in "&%$#_{}"} | {
    ord("~"): r"\textasciitilde{}",
    ord("^"): r"\textasciicircum{}",
    ord("\\"): r"\textbackslash{}",
    ord("<"): r"\textless{}",
    ord(">"): r"\textgreater{}",
    ord("|"): r"\textbar{}",
    # After the end of a row they would be its arguments.
    ord("["): "{[}",
    ord("]"): "{]}",
    ord("*"): "{*}",
}


def console_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Text]],
    *,
    title: str | None = None,
    caption: str | None = None,
    sections: Sequence[int] = (),
    **style: Any,
) -> Table:
    """Return a table for `rich`; nothing in it is read as markup, and all text is `visible`.

    Args:
        columns: Captions.
        rows: One cell for each column; a `Text` is taken as it is.
        title: A line above.
        caption: A line below.
        sections: Indices of rows that a line follows.
        **style: Further arguments of `rich.table.Table`.
    """
    from rich.table import Table
    from rich.text import Text

    def shown(text: str | None) -> Text | None:
        return Text(visible(text)) if text else None

    table = Table(title=shown(title), caption=shown(caption), **style)
    for i, column in enumerate(columns):
        right = _all_numbers([str(row[i]) for row in rows])
        table.add_column(
            Text(visible(column)),
            justify="right" if right else "left",
            no_wrap=right,
            overflow="fold",
        )
    for i, row in enumerate(rows):
        cells = [cell if isinstance(cell, Text) else Text(visible(cell)) for cell in row]
        table.add_row(*cells, end_section=i in sections)
    return table


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the lines of a Markdown table of cells in Markdown, "|" in them escaped."""
    numbers = [_all_numbers([row[i].replace("*", "") for row in rows]) for i in range(len(columns))]
    lines = [columns, ["---:" if right else "---" for right in numbers], *rows]
    escaped = ([_PIPE.sub(r"\1\\|", visible(cell)) for cell in line] for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in escaped)


def markdown_text(text: str) -> str:
    """Return Markdown that shows this text, `visible`, on one line and as nothing but text."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", visible(text))
    return _ENTITY.sub("&amp;", escaped).replace("<", "&lt;")


def latex_text(text: str) -> str:
    """Return LaTeX that shows this text, `visible`, on one line and as nothing but text."""
    return visible(text).translate(_LATEX)


def _all_numbers(cells: Sequence[str]) -> bool:
    return all(_NUMBERS.fullmatch(re.sub(r"[\[\]]", "", cell)) for cell in cells)
