"""`negrefine demo`: the bundled pictures, start to end."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from negrefine.demo.run import DemoResult, Example
    from negrefine.evaluation.results import Result


def demo(
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to write the detector and the results.")
    ] = Path("demo-results"),
    full: Annotated[
        bool,
        typer.Option("--full", help="Mine all of WordNet instead of its common words (minutes)."),
    ] = False,
) -> None:
    """Run NegRefine and its ablation on bundled pictures with the built-in toy encoder.

    25 animals are the classes; food, vehicles, objects and plants are out-of-distribution.
    """
    from rich.console import Console

    from negrefine.demo.run import CAVEAT, FPR, run_demo

    result = run_demo(
        out,
        min_frequency=0 if full else 1,
        say=lambda line: typer.echo(f"{line} ...", err=True),
        progress=True,
    )
    console = Console(highlight=False)
    console.print(_table(result.rows, result))
    typer.echo(
        f"\nExamples; threshold set for a false-alarm rate of {FPR:.0%} on {result.n_calibration} "
        "other animal pictures:"
    )
    for example in result.examples:
        typer.echo(_line(example))
    typer.echo(f"\n{CAVEAT}")
    typer.echo(
        f"Results: {out / 'results.json'}, {out / 'scores.csv'}; detector: {out / 'detector'}"
    )
    # "make demo" installs into an environment that is not on the search path.
    command = "negrefine" if shutil.which("negrefine") else sys.argv[0]
    typer.echo(f"Next: {command} explain {out / 'detector'} YOUR_PICTURE.png")


def _table(rows: list[Result], result: DemoResult) -> Table:
    from rich.table import Table

    sets = list(dict.fromkeys(row.ood_set for row in rows))
    table = Table(
        title=f"AUROC/FPR95 in percent, {result.n_id} animals against {result.n_ood} others",
        caption="NegFilter + S_MM is NegRefine; no filter, no S_MM is CSP's score.",
    )
    table.add_column("method", no_wrap=True)
    for name in sets:
        table.add_column(name, justify="right", no_wrap=True)
    cells = {(row.method, row.ood_set): row for row in rows}
    for method in dict.fromkeys(row.method for row in rows):
        values = [cells[method, name] for name in sets]
        table.add_row(
            method, *(f"{100 * v.auroc.value:.1f}/{100 * v.fpr95.value:.0f}" for v in values)
        )
    return table


def _line(example: Example) -> str:
    truth = example.image.class_name or f"one of the {example.image.set_name}"
    explanation = example.explanation
    return (
        f"  {explanation.verdict:<3} {explanation.score:.3f}  {example.image.annotation} "
        f"({truth}): {explanation.summary()}"
    )
