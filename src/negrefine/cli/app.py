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
from typing import NoReturn

import typer

from negrefine.cli.benchmark import benchmark
from negrefine.cli.bundles import option
from negrefine.cli.calibrate import calibrate
from negrefine.cli.convert_clipn import convert_clipn
from negrefine.cli.demo import demo
from negrefine.cli.encoders import encoders
from negrefine.cli.evaluate import evaluate
from negrefine.cli.explain import explain
from negrefine.cli.fit import fit
from negrefine.cli.groups import CommandGroup, UsageError, usage_sentence
from negrefine.cli.judge_cache import judge_cache
from negrefine.cli.labels import labels
from negrefine.cli.monitor import monitor
from negrefine.cli.output import say, warn
from negrefine.cli.refine import refine
from negrefine.cli.reproduce import reproduce
from negrefine.cli.score import score
from negrefine.cli.serve import serve
from negrefine.cli.sweep import sweep
from negrefine.errors import NegrefineError, is_out_of_memory

_SECTIONS: dict[str, tuple[Callable[..., None] | typer.Typer, ...]] = {
    "Detect": (fit, calibrate, refine, score, monitor, explain, serve, labels),
    "Compare": (evaluate, sweep, benchmark, reproduce),
    "More": (encoders, demo, judge_cache, convert_clipn),
}


_INTERRUPTED = 130


def _name(member: Callable[..., None] | typer.Typer) -> str:
    name = member.info.name if isinstance(member, typer.Typer) else member.__name__
    return str(name).replace("_", "-")


# What no more can be written to.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

app = CommandGroup(
    "negrefine",
    "Find the images that belong to none of your classes, from class names alone (zero-shot "
    "out-of-distribution detection).",
    {title: tuple(map(_name, members)) for title, members in _SECTIONS.items()},
)
for each in chain.from_iterable(_SECTIONS.values()):
    if isinstance(each, typer.Typer):
        app.add_typer(each)
    else:
        app.add(each)


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
    """Run the command line: exit code 0 if all went well, 1 on an error, 2 on wrong usage.

    `monitor --fail-on-alarm` has 3 for an alarm.
    """
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
        # Not standalone: otherwise Typer prints wrong usage in four lines.
        code = app(standalone_mode=False)
        if code == _INTERRUPTED:
            _fail("interrupted.")
        return int(code or 0)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except UsageError as error:
        sentence = usage_sentence(error)
        if sentence is None:
            error.show()
        else:
            _fail(sentence)
        return 2
    except NegrefineError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted.")
        return _INTERRUPTED
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
    return 1


def _fail(sentence: str) -> None:
    say(f"negrefine: error: {sentence}", err=True)
