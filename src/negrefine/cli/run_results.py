"""What the commands that evaluate write and show at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.encoders.base import Encoder
    from negrefine.evaluation.results import Evaluation

REPORT = "report.html"


def check_report(wanted: bool | None) -> bool:
    """Return whether a report can and shall be written, before anything else is done.

    Args:
        wanted: What --report or --no-report says; None writes one if its packages are installed.

    Raises:
        InputError: It is wanted and its packages are missing.
    """
    from negrefine.report.page import check_report_packages

    try:
        check_report_packages()
    except InputError as error:
        if wanted:
            raise
        if wanted is None:
            typer.echo(f"negrefine: warning: no {REPORT} will be written. {error}", err=True)
        return False
    return wanted is not False


def write_results(evaluation: Evaluation, encoder: Encoder, *, report: bool) -> None:
    """Write the tables and the report beside an evaluation, and print the tables."""
    from rich.console import Console

    from negrefine.evaluation.tables import rich_tables, write_tables
    from negrefine.report.page import write_report

    for image_set in evaluation.sets:
        errors = [error for error in image_set.errors if error is not None]
        if errors:
            typer.echo(
                f"negrefine: warning: {len(errors)} of {len(image_set.paths)} images of "
                f"{image_set.name} are left out; the first: {errors[0]}",
                err=True,
            )
    paths = write_tables(evaluation)
    if report:
        paths.append(write_report(evaluation, evaluation.directory / REPORT, encoder=encoder))
    console = Console(highlight=False)
    for table in rich_tables(evaluation):
        console.print(table)
    for note in evaluation.settings["notes"]:
        typer.echo(f"Note: {note}")
    names = ", ".join(path.name for path in paths)
    typer.echo(f"Wrote {names} to {evaluation.directory}.", err=True)
