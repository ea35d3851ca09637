"""Options of the commands that evaluate several methods at once, and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from negrefine.cli.fit import read_lexicon
from negrefine.errors import InputError

MINING = ("neglabel", "csp", "negrefine")
"""Methods with negative labels."""

Methods: TypeAlias = Annotated[
    str, typer.Option(metavar="LIST", help="Methods, separated by commas.")
]
Seeds: TypeAlias = Annotated[
    str,
    typer.Option(
        metavar="LIST", help="Seeds of the methods' random draws, such as '0', '0,1,2' or '0-9'."
    ),
]
Bootstrap: TypeAlias = Annotated[
    int, typer.Option(min=0, help="Resamples for the confidence intervals; 0 for none.")
]
LexiconFile: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="FILE", help="As for 'negrefine fit'.")
]
MinFrequency: TypeAlias = Annotated[int, typer.Option(min=0, help="As for 'negrefine fit'.")]
Report: TypeAlias = Annotated[
    bool | None,
    typer.Option(
        "--report/--no-report",
        help="Write report.html with plots and galleries; by default if the extra 'report' is "
        "installed.",
    ),
]
Resample: TypeAlias = Annotated[
    str | None,
    typer.Option(help="'bicubic' or 'bilinear' instead of the model's own resize filter."),
]


def split_list(option: str, text: str) -> list[str]:
    """Return the parts between commas.

    Raises:
        InputError: None.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts:
        raise InputError(f"--{option} is empty: give at least one, separated by commas.")
    return list(dict.fromkeys(parts))


def read_seeds(text: str) -> list[int]:
    """Return seeds from "0,1,2" or "0-9".

    Raises:
        InputError: Neither.
    """
    seeds: list[int] = []
    for part in split_list("seeds", text):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()):
            raise InputError(f"--seeds takes whole numbers such as '0,1,2' or '0-9', not {text!r}.")
        seeds += range(int(first), int(last if dash else first) + 1)
    if not seeds:
        raise InputError(f"--seeds {text!r} holds no number: write the smaller one first.")
    return list(dict.fromkeys(seeds))


def parameters_of(
    methods: Sequence[str], *, judge: Any, lexicon: Path | None, min_frequency: int
) -> dict[str, dict[str, Any]]:
    """Return keyword arguments for the detector of each method.

    Args:
        methods: Those that will run.
        judge: From `parse_judge`, None for NegRefine's default.
        lexicon: As for `read_lexicon`.
        min_frequency: As for `read_lexicon`.

    Raises:
        InputError: As `read_lexicon`; an option means nothing to any of the methods.
    """
    if judge is not None and "negrefine" not in methods:
        raise InputError("--judge means nothing without the method negrefine: leave it out.")
    words = read_lexicon(lexicon, min_frequency)
    parameters: dict[str, dict[str, Any]] = {}
    if words is not None:
        if not set(MINING) & set(methods):
            raise InputError(
                f"--lexicon and --min-frequency mean nothing without one of {', '.join(MINING)}: "
                "leave them out."
            )
        parameters = {method: {"lexicon": words} for method in methods if method in MINING}
    if judge is not None:
        parameters.setdefault("negrefine", {})["judge"] = judge
    return parameters
