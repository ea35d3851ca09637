"""The report's tables: measured fractions as the texts that stand in the cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from negrefine.evaluation.results import Evaluation, Measured, Result

MEAN = "mean"
_DISPLAY = {
    "mcm": "MCM",
    "glmcm": "GL-MCM",
    "neglabel": "NegLabel",
    "csp": "CSP",
    "negrefine": "NegRefine",
    "clipn": "CLIPN",
}
# Attribute of `Result`, caption, larger is better.
AUROC_FPR = (("auroc", "AUROC", True), ("fpr95", "FPR95", False))
AUPR = (("aupr_in", "AUPR-In", True), ("aupr_out", "AUPR-Out", True))


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a table, in percent.

    Attributes:
        value: With two decimals.
        interval: "low to high" with one decimal, "" without one.
        std: Standard deviation over seeds, "" with one seed.
        best: No other row has a better one.
    """

    value: str
    interval: str = ""
    std: str = ""
    best: bool = False


@dataclass(frozen=True, slots=True)
class ResultTable:
    """Methods x (OOD sets x metrics).

    Attributes:
        metrics: Caption and arrow of each column below an OOD set.
        ood_sets: Captions of the groups of columns.
        rows: Method and its cells, from left to right.
    """

    metrics: list[tuple[str, str]]
    ood_sets: list[str]
    rows: list[tuple[str, list[Cell]]]


def display_name(method: str) -> str:
    """Return what the papers call a method; other names stay."""
    return _DISPLAY.get(method, method)


def main_method(evaluation: Evaluation) -> str:
    """Return the method whose mistakes are shown: NegRefine, or the last one without it."""
    return "negrefine" if "negrefine" in evaluation.methods else evaluation.methods[-1]


def result_table(
    results: Sequence[Result], metrics: Sequence[tuple[str, str, bool]]
) -> ResultTable | None:
    """Return the table of some metrics, best values marked, or None without results.

    The mean over the sets is left out where there is only one. Values are compared as they are
    shown, so that equal texts are marked alike.
    """
    if not results:
        return None
    methods = list(dict.fromkeys(result.method for result in results))
    ood_sets = list(dict.fromkeys(result.ood_set for result in results))
    if MEAN in ood_sets:
        # First: on a narrow screen the columns at the right are out of sight.
        ood_sets.remove(MEAN)
        ood_sets = [MEAN, *ood_sets] if len(ood_sets) > 1 else ood_sets
    found = {(result.method, result.ood_set): result for result in results}
    columns = []
    for ood_set in ood_sets:
        for name, _, larger in metrics:
            measured = [
                getattr(found[method, ood_set], name) if (method, ood_set) in found else None
                for method in methods
            ]
            columns.append(_column(measured, larger=larger))
    return ResultTable(
        metrics=[(caption, "\u2191" if larger else "\u2193") for _, caption, larger in metrics],
        ood_sets=ood_sets,
        rows=[
            (display_name(method), [column[i] for column in columns])
            for i, method in enumerate(methods)
        ],
    )


def cell(measured: Measured, *, best: bool = False) -> Cell:
    """Return the texts of one measured fraction."""
    interval = ""
    if measured.low is not None and measured.high is not None:
        interval = f"{100 * measured.low:.1f} to {100 * measured.high:.1f}"
    std = "" if measured.std is None else percent(measured.std)
    return Cell(percent(measured.value), interval, std, best)


def percent(fraction: float) -> str:
    """Return a fraction in percent with two decimals."""
    return f"{100 * fraction:.2f}"


def summary(evaluation: Evaluation) -> list[str]:
    """Return sentences that say what the tables show, plain text."""
    means = _mean_results(evaluation)
    if not means:
        return []
    n_sets = len(evaluation.ood_sets)
    over = f"over {n_sets} OOD sets" if n_sets > 1 else f"on {evaluation.ood_sets[0].name}"
    ranked = sorted(means, key=lambda result: -result.auroc.value)
    best = ranked[0]
    average = "mean " if n_sets > 1 else ""
    sentences = [
        f"{display_name(best.method)} has the highest {average}AUROC {over}: "
        f"{percent(best.auroc.value)} %. With the threshold that accepts 95 % of the "
        f"in-distribution images it accepts {percent(best.fpr95.value)} % of the "
        "out-of-distribution images."
    ]
    if len(ranked) > 1:
        sentences.append(_against_next(best, ranked[1]))
        lowest = min(means, key=lambda result: result.fpr95.value)
        if percent(lowest.fpr95.value) != percent(best.fpr95.value):
            sentences.append(
                f"{display_name(lowest.method)} has the lowest {average}FPR95: "
                f"{percent(lowest.fpr95.value)} %."
            )
    hard = [r for r in evaluation.results if r.method == best.method and r.ood_set != MEAN]
    if len(hard) > 1:
        worst = min(hard, key=lambda result: result.auroc.value)
        sentences.append(
            f"The hardest set for {display_name(best.method)} is {worst.ood_set}: AUROC "
            f"{percent(worst.auroc.value)} %, FPR95 {percent(worst.fpr95.value)} %."
        )
    return sentences


def _against_next(best: Result, second: Result) -> str:
    gap = best.auroc.value - second.auroc.value
    text = (
        f"Next is {display_name(second.method)} with {percent(second.auroc.value)} %, "
        f"{percent(gap)} points less"
    )
    if best.auroc.low is None or second.auroc.high is None:
        return f"{text}."
    if best.auroc.low > second.auroc.high:
        return f"{text}; the bootstrap intervals of the two do not overlap."
    return (
        f"{text}; their bootstrap intervals overlap, so do not read an order of the two from "
        "these images alone."
    )


def _mean_results(evaluation: Evaluation) -> list[Result]:
    means = [result for result in evaluation.results if result.ood_set == MEAN]
    return means or (evaluation.results if len(evaluation.ood_sets) == 1 else [])


def _column(measured: Sequence[Measured | None], *, larger: bool) -> list[Cell]:
    shown = [float(percent(m.value)) for m in measured if m is not None]
    top = max(shown) if larger else min(shown)
    return [
        Cell("\u2013")
        if m is None
        else cell(m, best=len(shown) > 1 and float(percent(m.value)) == top)
        for m in measured
    ]
