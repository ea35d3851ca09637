"""The commands put together, and what happens to errors and warnings."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from io import TextIOWrapper
from itertools import chain
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from negrefine.cli.benchmark import benchmark
from negrefine.cli.bundles import option, takes_bundles
from negrefine.cli.calibrate import calibrate
from negrefine.cli.convert_clipn import convert_clipn
from negrefine.cli.demo import demo
from negrefine.cli.evaluate import evaluate
from negrefine.cli.explain import explain
from negrefine.cli.fit import fit
from negrefine.cli.judge_cache import judge_cache
from negrefine.cli.labels import labels
from negrefine.cli.output import say, warn
from negrefine.cli.refine import refine
from negrefine.cli.reproduce import reproduce
from negrefine.cli.score import score
from negrefine.cli.sweep import sweep
from negrefine.errors import NegrefineError, is_out_of_memory
from negrefine.shown_text import visible

# Wrong usage; of Click, or of the copy of it that some versions of Typer have.
_UsageError: Any = typer.BadParameter.__bases__[0]

_GROUPS = {
    "Detect": (fit, calibrate, refine, score, explain, labels),
    "Compare": (evaluate, sweep, benchmark, reproduce),
    "More": (demo, judge_cache, convert_clipn),
}


class _Grouped(TyperGroup):
    """Lists the commands in groups, with whole summaries."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, members in _GROUPS.items():
            with formatter.section(title):
                names = [_name(member) for member in members]
                found = [(name, self.get_command(ctx, name)) for name in names]
                formatter.write_dl(
                    [(name, each.get_short_help_str(limit=200)) for name, each in found if each]
                )


def _name(member: Callable[..., None] | typer.Typer) -> str:
    name = member.info.name if isinstance(member, typer.Typer) else member.__name__
    return str(name).replace("_", "-")


# What no more can be written to.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

app = typer.Typer(
    name="negrefine",
    cls=_Grouped,
    help=(
        "Find the images that belong to none of your classes, from class names alone "
        "(zero-shot out-of-distribution detection)."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for each in chain.from_iterable(_GROUPS.values()):
    if isinstance(each, typer.Typer):
        app.add_typer(each)
    else:
        app.command()(takes_bundles(each))


def _show_version(asked: bool) -> None:
    if asked:
        say(f"negrefine {version('negrefine')}")
        raise typer.Exit


@app.callback()
def _root(
    show_version: bool = option(
        False, "Show the version.", name="--version", callback=_show_version, is_eager=True
    ),
) -> None:
    del show_version


def main() -> NoReturn:
    """Run the command line: exit code 0 if all went well, 1 on an error, 2 on wrong usage."""
    warnings.showwarning = lambda message, *_, **__: warn(str(message))
    for stream in (sys.stdout, sys.stderr):
        # A name that the terminal or pipe cannot show must not cost the rows after it.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = _run()
    try:
        sys.stdout.flush()
    except OSError as error:
        # The reader (head, less) is gone; without this, Python would complain while it exits.
        if error.errno in _FULL and code == 0:
            _fail(f"standard output: {error.strerror}.")
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or 1
    sys.exit(code)


def _run() -> int:
    try:
        code = app(standalone_mode=False)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except _UsageError as error:
        # It repeats what was typed.
        error.message = visible(error.message)
        error.show()
        return int(error.exit_code)
    except NegrefineError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted.")
        return 130
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        _fail("the memory is full: give a smaller --batch-size, or a smaller model.")
    except UnicodeEncodeError as error:
        part = error.object[max(error.start - 40, 0) : error.end + 40]
        _fail(f"{part!r} is not valid Unicode: give another name.")
    except sqlite3.Error as error:
        _fail(f"a store of answers or embeddings cannot be used ({error}): move or remove it.")
    except OSError as error:
        # Files of results, stores and detectors are named where they are written.
        full = "standard output or a temporary file" if error.errno in _FULL else None
        where = error.filename or full
        _fail(f"{f'{where}: ' if where else ''}{error.strerror or error}.")
    else:
        return code if isinstance(code, int) else 0
    return 1


def _fail(sentence: str) -> None:
    say(f"negrefine: error: {sentence}", err=True)
