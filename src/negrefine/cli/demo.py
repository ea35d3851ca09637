"""`negrefine demo`: the bundled pictures, start to end."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from negrefine.cli.bundles import option
from negrefine.cli.opening import open_page
from negrefine.cli.output import print_table, say
from negrefine.files.writing import check_folder

if TYPE_CHECKING:
    from negrefine.demo.reading import Reading
    from negrefine.demo.verdicts import Verdicts

_COSTS = (
    "Nothing is downloaded: encoder, words and pictures are in the package.",
    "The first run takes half a minute on an idle core and minutes on a busy machine, later ones "
    "5 s (embeddings of words are kept).",
)
# Importing, and those of `run_demo`.
_N_STEPS = 5
_FULL_COSTS = (
    _COSTS[0],
    "All of WordNet takes several minutes of processor time, less in later runs (embeddings of "
    "words are kept).",
)


def demo(
    out: Path = option(Path("demo-results"), "Folder for the detector and the results.", "DIR"),
    full: bool = option(
        False, "Mine all of WordNet instead of its common words (minutes).", name="--full"
    ),
    no_open: bool = option(
        False, "Do not open the page with the verdicts in a browser.", name="--no-open"
    ),
) -> None:
    """Show NegRefine's verdicts on bundled pictures, and what its two steps do.

    25 animals are the classes; food, vehicles, objects and plants are out-of-distribution. The
    encoder is the built-in toy. On a terminal with a browser, the page is opened at the end.
    """
    check_folder(out)
    say("negrefine demo: which pictures show none of 25 animals?", err=True)
    say(*(_FULL_COSTS if full else _COSTS), err=True)
    step = _steps()
    step("Importing")
    from negrefine.demo.run import CAVEAT, run_demo

    result = run_demo(out, min_frequency=0 if full else 1, say=step, progress=True)
    _print_verdicts(result.verdicts)
    _print_ablation(result.reading)
    say("", CAVEAT)
    # "make demo" installs into an environment that is not on the search path.
    command = "negrefine" if shutil.which("negrefine") else sys.argv[0]
    say(
        "",
        f"All pictures and verdicts: {result.page.resolve().as_uri()}",
        f"Results: {out / 'results.csv'}, {out / 'examples.json'}; detector: {out / 'detector'}",
        f"Next: {command} explain {out / 'detector'} YOUR_PICTURE.png",
    )
    if not no_open and open_page(result.page):
        say("The page was opened in a browser (--no-open leaves that out).", err=True)


def _steps() -> Callable[[str], None]:
    """Return what prints a numbered line before each step."""
    started, numbers = time.monotonic(), count(1)

    def step(text: str) -> None:
        seconds = time.monotonic() - started
        say(f"[{next(numbers)}/{_N_STEPS}, {seconds:.0f} s] {text} ...", err=True)

    return step


def _print_verdicts(verdicts: Verdicts) -> None:
    from negrefine.demo.verdicts import count_flagged

    say("", f"{verdicts.headline}.", verdicts.sentence, "")
    print_table(
        ["pictures of", "flagged", "of", "should be"],
        [
            (
                name,
                str(count_flagged(rows)),
                str(len(rows)),
                "none" if rows[0].image.class_name else "all",
            )
            for name, rows in verdicts.by_set.items()
        ],
    )
    say("", "For example:")
    for row, why in verdicts.examples:
        state = "flagged" if row.flagged else "passed "
        mark = "" if row.is_right else "  (wrong)"
        nearest = why.summary().partition(";")[0]
        say(f"  {state}  {row.image.annotation}{mark}: {nearest}")


def _print_ablation(reading: Reading) -> None:
    from negrefine.demo.reading import NAMES
    from negrefine.evaluation.tables import Cell

    say("")
    print_table(
        ["method", "AUROC", "95 % interval", "FPR95", "95 % interval"],
        [
            (
                name,
                *(
                    text
                    for measured in reading.means[row]
                    for text in (f"{100 * measured.value:.1f}", Cell(measured).interval())
                ),
            )
            for row, name in NAMES.items()
        ],
        title="What the two steps of NegRefine do here (means over the four sets, percent)",
        caption="FPR95 is in-distribution positive, as in the papers; smaller is better.",
    )
    say(reading.sentence, "Against CSP's score on the same pictures, in points:")
    say(*(f"  {line}" for line in reading.step_lines()))
