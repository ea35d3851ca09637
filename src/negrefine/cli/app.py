"""The commands put together, and what happens to errors and warnings."""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
import warnings
from io import TextIOWrapper
from typing import NoReturn

import typer

from negrefine.cli.bundles import option
from negrefine.cli.groups import CommandGroup, Later, UsageError, usage_sentence
from negrefine.cli.output import say, warn
from negrefine.errors import NegrefineError, is_out_of_memory

_SECTIONS = {
    "Detect": {
        "fit": Later("Fit a detector on class names, optionally set its threshold, and save it."),
        "calibrate": Later(
            "Set the threshold of a saved detector from in-distribution images, with a guarantee."
        ),
        "refine": Later(
            "Filter the mined labels of a NegRefine detector again, with another judge or other "
            "lists."
        ),
        "add-vision": Later(
            "Let a vision-language model look at the images that a NegRefine detector doubts."
        ),
        "score": Later("Score images; larger means more in-distribution."),
        "monitor": Later("Tell whether scored images still look like the calibration images."),
        "explain": Later(
            "Show the class names, negative labels and pair of names that decide an image's score."
        ),
        "serve": Later("Serve detectors over HTTP: scores, explanations, a page, and metrics."),
        "export": Later(
            "Write a detector as an ONNX model, whose metadata say how to prepare its pixels."
        ),
        "labels": Later(
            "List the negative labels, kept and removed, each with its reason, as a tab-separated "
            "table."
        ),
    },
    "Compare": {
        "evaluate": Later(
            "Compare methods: AUROC, FPR95 and AUPR with intervals, from one pass over the images."
        ),
        "compare": Later(
            "Put several results files in one table; numbers on other images or terms are marked."
        ),
        "sweep": Later(
            "Score every combination of NegRefine's constants, encoding each image and text once."
        ),
        "tune": Later(
            "Choose alpha, its rule and k of a saved detector on a validation set, which is "
            "recorded."
        ),
        "judge-compare": Later(
            "Compare judges on the same labels: agreement, labels that flip, and what that does to "
            "scores."
        ),
        "benchmark": Later(
            "List the published benchmarks, check what is missing of their images, and run them.",
            below=("list", "check", "run"),
        ),
        "reproduce": Later(
            "Run NegRefine's main table and ablation, and print measured beside published numbers."
        ),
    },
    "Share": {
        "push": Later("Push a saved detector with a card to a repository of the Hugging Face hub."),
        "pull": Later(
            "Copy a detector from the hub into a directory, to calibrate it on your own images."
        ),
        "card": Later(
            "Write the card of a saved detector: what it is, its threshold, and what it promises."
        ),
    },
    "More": {
        "encoders": Later(
            "List models that --encoder takes, with their sizes, languages and licences."
        ),
        "demo": Later("Show NegRefine's verdicts on bundled pictures, and what its two steps do."),
        "cache": Later(
            "Look at, export and import the stored embeddings of prompts.",
            below=("info", "export", "import"),
        ),
        "judge-cache": Later(
            "Look at, export and import the stored answers of language models.",
            below=("stats", "export", "import"),
        ),
        "convert-clipn": Later(
            "Convert a CLIPN checkpoint into safetensors, so that 'fit --method clipn' can use it."
        ),
    },
}

_INTERRUPTED = 130
# What no more can be written to.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

app = CommandGroup(
    "negrefine",
    "Find the images that belong to none of your classes, from class names alone (zero-shot "
    "out-of-distribution detection).",
    "negrefine.cli",
    _SECTIONS,
    completion=True,
)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

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
