"""`negrefine demo`: the bundled pictures, start to end."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from negrefine.cli.bundles import option
from negrefine.cli.output import print_table, say

if TYPE_CHECKING:
    from negrefine.evaluation.results import Evaluation


def demo(
    out: Path = option(Path("demo-results"), "Folder for the detector and the results.", "DIR"),
    full: bool = option(
        False, "Mine all of WordNet instead of its common words (minutes).", name="--full"
    ),
) -> None:
    """Run NegRefine and its ablation on bundled pictures with the built-in toy encoder.

    25 animals are the classes; food, vehicles, objects and plants are out-of-distribution.
    """
    from negrefine.demo.run import CAVEAT, FPR, run_demo

    result = run_demo(
        out,
        min_frequency=0 if full else 1,
        say=lambda line: say(f"{line} ...", err=True),
        progress=True,
    )
    _print_results(result.evaluation)
    say(
        "",
        f"Examples; threshold set for a false-alarm rate of {FPR:.0%} on {result.n_calibration} "
        "other animal pictures:",
    )
    for image, explanation in result.examples:
        truth = image.class_name or f"one of the {image.set_name}"
        say(
            f"  {explanation.verdict:<3} {explanation.score:.3f}  {image.annotation} ({truth}): "
            f"{explanation.summary()}"
        )
    say("", CAVEAT)
    results = ", ".join(str(out / name) for name in ("results.csv", "examples.json", "scores"))
    say(f"Results: {results}; detector: {out / 'detector'}")
    # "make demo" installs into an environment that is not on the search path.
    command = "negrefine" if shutil.which("negrefine") else sys.argv[0]
    say(f"Next: {command} explain {out / 'detector'} YOUR_PICTURE.png")


def _print_results(evaluation: Evaluation) -> None:
    n_id, *n_ood = (len(image_set.paths) for image_set in evaluation.sets)
    rows: dict[str, dict[str, str]] = {}
    for result in [*evaluation.results, *evaluation.ablation]:
        cell = f"{100 * result.auroc.value:.1f}/{100 * result.fpr95.value:.0f}"
        rows.setdefault(evaluation.title_of(result.method), {})[result.ood_set] = cell
    sets = list(next(iter(rows.values())))
    print_table(
        ["method", *sets],
        [(method, *cells.values()) for method, cells in rows.items()],
        title=f"AUROC/FPR95 in percent, {n_id} animals against {sum(n_ood)} others",
        caption="NegFilter + S_MM is NegRefine; no filter, no S_MM is CSP's score. FPR95 is "
        "in-distribution positive, as in the papers.",
    )
