"""`negrefine compare`: several results files in one table."""

from __future__ import annotations

from pathlib import Path

import typer

from negrefine.cli.bundles import option
from negrefine.cli.options import AS_JSON
from negrefine.cli.output import print_json, print_tables, say


def compare(
    *,
    results: list[Path] = typer.Argument(
        ..., help="Two or more results.json, or folders that hold one.", metavar="RESULTS"
    ),
    as_json: bool = AS_JSON,
    html: Path | None = option(None, "Also write a page with plots.", "FILE"),
) -> None:
    """Put several results files in one table; numbers on other images or terms are marked.

    The first file is what the others are compared with.
    """
    from negrefine.evaluation import comparison
    from negrefine.report.comparison_page import check_comparison_page, write_comparison_page

    if html is not None:
        check_comparison_page(html)
    found = comparison.compare(results)
    if as_json:
        print_json(found.as_dict())
    else:
        print_tables([comparison.rich_table(found)])
        say(*(f"[{mark.number}] {mark.text}" for mark in found.marks))
        say(*(f"Note: {note}" for note in found.notes))
    if html is not None:
        write_comparison_page(found, html)
        say(f"Wrote {html}.", err=True)
