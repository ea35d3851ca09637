"""What `negrefine tune` prints: all candidates, and how clear the choice is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from negrefine.cli.output import print_table

if TYPE_CHECKING:
    from negrefine.evaluation.results import Difference, Measured
    from negrefine.evaluation.tune import TuningResult

_ASKED = " Asked: questions to the vision model about an ID image, and one of the validation set."


def numbers(result: TuningResult) -> dict[str, Any]:
    rows = [asdict(row) for row in result.rows]
    of_vision = {} if result.n_questions is None else {"questions": result.n_questions}
    return {"candidates": rows, "best": result.best, "p_value": result.p_value, **of_vision}


def print_candidates(result: TuningResult, name: str) -> None:
    from rich.text import Text

    from negrefine.detectors.tuning import shown
    from negrefine.evaluation.tables import FPR95_NOTE

    varied = [
        name for name in result.rows[0].values if len({row.values[name] for row in result.rows}) > 1
    ]
    # A column more leaves less room for the others.
    asks = result.n_questions is not None
    rows = []
    for i, row in enumerate(result.rows):
        measured = (row.auroc, row.auroc_gain, row.fpr95)
        cells = [Text(_percent(each, "\n")) for each in measured]
        cells.append(Text(_percent(row.fpr95_gain, "\n", interval=not asks)))
        values = ("\n" if asks else ", ").join(
            f"{name} {shown(row.values[name])}" for name in varied
        )
        marks = [text for text, on in (("as it was", i == 0), ("best", i == result.best)) if on]
        said = f"\n({', '.join(marks)})" if marks else ""
        if "alpha_rule" in varied:
            values = values.removeprefix("alpha_rule ").replace(", ", "\n", 1)
        if asks:
            cells.append(Text(f"{row.id_questions or 0:.2f}\n{row.ood_questions or 0:.2f}"))
        rows.append([Text(f"{values}{said}"), *cells])
    print_table(
        ["candidate", "AUROC", "gain", "FPR95", "change", *(["asked"] if asks else [])],
        rows,
        title=f"Against the validation set {name}",
        caption="In percent with 95 % intervals over images; gains and changes are from the first "
        f"row, on the same images, each by itself. {FPR95_NOTE}."
        f"{_ASKED if asks else ''}",
    )


def _percent(measured: Measured | None, between: str = " ", *, interval: bool = True) -> str:
    if measured is None:
        return ""
    text = f"{100 * measured.value:.2f}"
    if not interval or measured.low is None or measured.high is None:
        return text
    return f"{text}{between}[{100 * measured.low:.1f}, {100 * measured.high:.1f}]"


def sentences(result: TuningResult, position: int, name: str) -> list[str]:
    from negrefine.detectors.tuning import shown

    n, best = len(result.rows), result.rows[result.best]
    values = ", ".join(f"{each} {shown(value)}" for each, value in best.values.items())
    asked = []
    if result.n_questions is not None:
        asked = [f"The vision model was asked {result.n_questions:,} questions for all of them."]
    if result.best == 0:
        return [
            *asked,
            f"No candidate of {n} has a higher AUROC on {name} than the detector as it was.",
        ]
    luck = f"p = {result.p_value:.2g}, which allows for the choice among {n} candidates"
    found = f"The best on {name} is {values}: {_percent(best.auroc_gain)} points of AUROC"
    if result.improved:
        kept = f"Chosen on {name}, where it looks better than it is."
    elif position:
        kept = f"Chosen on {name} as you asked (--best)."
    else:
        kept = "The detector keeps its values; --best takes the best one all the same."
    clear = "clearly better" if result.improved else "not clearly better"
    return [*asked, f"{found}, {clear} ({luck}). {kept}"]


def on_tests(
    differences: Sequence[Difference], position: int, tests: Mapping[str, Any]
) -> list[str]:
    from negrefine.evaluation.results import MEAN

    if tests and not position:
        return ["Nothing was chosen, so there is nothing to test."]
    return [
        f"On {'the mean of the test sets' if each.ood_set == MEAN else each.ood_set}, which had no "
        f"part in it: {_percent(each.auroc)} points of AUROC and {_percent(each.fpr95)} of FPR95."
        for each in differences
        if len(tests) > 1 or each.ood_set != MEAN
    ]
