"""Pieces of HTML for notebooks: escaped, without scripts, in colours for light and dark themes.

Styles are attributes, since notebooks put many outputs on one page; where they are stripped, as on
pages that show stored notebooks, tables and texts remain. Nothing here needs a package.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from negrefine.shown_text import visible

# Half transparent, or of middle lightness: legible on white and on black.
_LINE, _FAINT = "rgba(128,128,128,.35)", "opacity:.75;"
GREEN, RED, GREY = "#2e9e62", "#dc5a4a", "#8a8f98"
BLUE, ORANGE = "rgba(58,130,246,.75)", "rgba(234,128,50,.8)"
_CELL = "padding:.2em .8em .2em 0;text-align:left;vertical-align:top;background:none;border:0;"
_LONGEST = 300


def escaped(text: object) -> str:
    """Return text of others as HTML, cut after 300 letters: nothing in it is obeyed or hidden."""
    shown = visible(str(text))
    if len(shown) > _LONGEST:
        shown = f"{shown[:_LONGEST]}… ({len(shown) - _LONGEST:,} more letters)"
    return html.escape(shown)


def some_of(names: Sequence[str], most: int = 12) -> str:
    """Return the first names, escaped, and how many more there are."""
    text = ", ".join(map(escaped, names[:most]))
    return text if len(names) <= most else f"{text} and {len(names) - most:,} more"


def coloured(content: str, colour: str) -> str:
    """Return HTML in bold type of a colour."""
    return f'<strong style="color:{colour}">{content}</strong>'


def small(content: str) -> str:
    """Return HTML in small, faint type."""
    return f'<small style="{_FAINT}">{content}</small>'


def paragraph(content: str, *, faint: bool = False) -> str:
    """Return HTML as a paragraph."""
    return f'<p style="margin:.4em 0;{_FAINT if faint else ""}">{content}</p>'


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    """Return a table of two columns, names and HTML."""
    lines = [
        f'<tr style="background:none"><th scope="row" style="{_CELL}{_FAINT}font-weight:normal;'
        f'white-space:nowrap">{escaped(name)}</th>'
        f'<td style="{_CELL}overflow-wrap:anywhere">{content}</td></tr>'
        for name, content in rows
    ]
    return f'<table style="border-collapse:collapse;margin:.4em 0">{"".join(lines)}</table>'


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table: the first column has names, the others numbers. Cells are HTML."""
    wide = f"{_CELL}border-bottom:1px solid {_LINE};"
    right = wide.replace("text-align:left", "text-align:right").replace("0;text", ".2em;text")

    def line(tag: str, cells: Sequence[str]) -> str:
        styles = [wide] + [right] * (len(cells) - 1)
        done = [f'<{tag} style="{s}">{c}</{tag}>' for s, c in zip(styles, cells, strict=True)]
        return f'<tr style="background:none">{"".join(done)}</tr>'

    body = "".join(line("td", row) for row in rows)
    return (
        '<div style="overflow-x:auto"><table style="border-collapse:collapse;margin:.4em 0">'
        f"<thead>{line('th', head)}</thead><tbody>{body}</tbody></table></div>"
    )


def bars(heading: str, rows: Sequence[tuple[str, float]], colour: str, longest: float) -> str:
    """Return names with their values as bars; a bar of `longest` has the whole length."""
    lines = []
    for name, value in rows:
        width = 100 * max(0.0, value) / longest if longest > 0 else 0.0
        lines.append(
            f'<tr style="background:none"><td style="{_CELL}">{escaped(name)}</td>'
            f'<td style="{_CELL}width:11em;min-width:4em"><div style="height:.9em;margin-top:.2em;'
            f'border-radius:3px;background:{colour};width:{width:.1f}%"></div></td>'
            f'<td style="{_CELL}">{value:.3f}</td></tr>'
        )
    return (
        f'<div style="display:inline-block;vertical-align:top;margin-right:2em">'
        f"{paragraph(escaped(heading), faint=True)}"
        f'<table style="border-collapse:collapse">{"".join(lines)}</table></div>'
    )


def frame(title: str, *parts: str) -> str:
    """Return parts of HTML below a title, in a frame."""
    return (
        f'<div style="border:1px solid {_LINE};border-radius:6px;padding:.6em 1em;'
        f'max-width:60em;overflow:auto;overflow-wrap:break-word">'
        f'<div style="font-size:1.1em">{title}</div>'
        f"{''.join(parts)}</div>"
    )
