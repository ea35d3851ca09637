"""The commands put together, and what happens to errors and warnings."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from typing import Annotated, NoReturn

import typer

from negrefine.cli.demo import demo
from negrefine.cli.explain import explain
from negrefine.cli.fit import fit
from negrefine.cli.labels import labels
from negrefine.cli.score import score
from negrefine.errors import NegrefineError

app = typer.Typer(
    name="negrefine",
    help=(
        "Find the images that belong to none of your classes, from class names alone "
        "(zero-shot out-of-distribution detection)."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (fit, score, explain, labels, demo):
    app.command()(command)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"negrefine {version('negrefine')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    del show_version


def main() -> NoReturn:
    """Run the command line: exit code 0 if all went well, 1 on an error, 2 on wrong usage."""
    warnings.showwarning = _show_warning
    try:
        app()
    except NegrefineError as error:
        typer.echo(f"negrefine: error: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of a pipe (head, less) is gone; leaving stdout open would complain at exit.
        sys.stderr.close()
        sys.exit(1)
    sys.exit(0)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    typer.echo(f"negrefine: warning: {message}", err=True)
