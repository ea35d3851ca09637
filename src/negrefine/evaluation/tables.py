"""Results as tables: terminal, CSV, JSON, Markdown and LaTeX, in percent for people."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.evaluation.results import MEAN, Evaluation, Measured, Result
from negrefine.files import write_rows, write_text

if TYPE_CHECKING:
    from rich.table import Table

_LATEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
    }
)


@dataclass(frozen=True, slots=True)
class Metric:
    """One of the metrics of a `Result`.

    Attributes:
        name: The attribute of `Result`.
        caption: Its name in tables.
        larger_is_better: Whether the best value is the largest one.
    """

    name: str
    caption: str
    larger_is_better: bool = True


METRICS = (
    Metric("auroc", "AUROC"),
    Metric("fpr95", "FPR95", larger_is_better=False),
    Metric("aupr_in", "AUPR-in"),
    Metric("aupr_out", "AUPR-out"),
)
METRIC_PAIRS = (METRICS[:2], METRICS[2:])
"""Metrics that share a table where four have no room."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one method on one OOD set.

    Attributes:
        measured: The metric, a fraction.
        is_best: No other method has a better value, as far as the decimals shown tell.
    """

    measured: Measured
    is_best: bool = False

    @property
    def value(self) -> str:
        """The value in percent with two decimals."""
        return percent(self.measured.value)

    @property
    def std(self) -> str:
        """The standard deviation over seeds in percent, "" with one seed."""
        return "" if self.measured.std is None else percent(self.measured.std)

    def interval(self, pattern: str = "{} to {}") -> str:
        """Return the ends of the interval in percent with one decimal, "" without one."""
        if self.measured.low is None or self.measured.high is None:
            return ""
        return pattern.format(f"{100 * self.measured.low:.1f}", f"{100 * self.measured.high:.1f}")

    def text(self, plus_minus: str = " ± ", interval: str = " [{}, {}]") -> str:
        """Return everything as one text, such as "95.12 ± 0.10 [94.8, 95.5]"."""
        std = f"{plus_minus}{self.std}" if self.std else ""
        return f"{self.value}{std}{self.interval(interval)}"


@dataclass(frozen=True)
class ResultTable:
    """Results with the best of each column marked.

    Attributes:
        methods: Rows.
        sets: Names of the OOD sets and "mean", the last one.
        cells: Method, set and name of the metric to the cell.
    """

    methods: list[str]
    sets: list[str]
    cells: Mapping[tuple[str, str, str], Cell]

    def row(self, method: str, name: str, metrics: Sequence[Metric] = METRICS) -> list[Cell]:
        """Return the cells of one method on the set of this name."""
        return [self.cells[method, name, metric.name] for metric in metrics]


def percent(fraction: float) -> str:
    """Return a fraction in percent with two decimals."""
    return f"{100 * fraction:.2f}"


def result_table(results: Sequence[Result]) -> ResultTable:
    """Return the table of results of every method on every set."""
    methods = list(dict.fromkeys(result.method for result in results))
    sets = list(dict.fromkeys(result.ood_set for result in results))
    cells = {}
    for name in sets:
        column = [result for result in results if result.ood_set == name]
        for metric in METRICS:
            # Compared as shown, so that equal texts are marked alike.
            shown = [round(100 * getattr(row, metric.name).value, 2) for row in column]
            best = max(shown) if metric.larger_is_better else min(shown)
            for row, value in zip(column, shown, strict=True):
                cell = Cell(getattr(row, metric.name), value == best and len(column) > 1)
                cells[row.method, name, metric.name] = cell
    return ResultTable(methods, sets, cells)


def write_tables(evaluation: Evaluation) -> list[Path]:
    """Write results.csv, .json, .md and .tex beside the evaluation; return their paths."""
    rows = [*evaluation.results, *evaluation.ablation]
    target = evaluation.directory / "results"
    flat = [_flat(row) for row in rows]
    schema = {name: "string" if name in ("method", "ood_set") else "double" for name in flat[0]}
    paths = [target.with_suffix(suffix) for suffix in (".csv", ".json", ".md", ".tex")]
    write_rows(paths[0], flat, schema)
    accuracy = None if evaluation.accuracy is None else asdict(evaluation.accuracy)
    content = {"results": [asdict(row) for row in rows], "id_accuracy": accuracy}
    write_text(paths[1], json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    write_text(paths[2], markdown(evaluation))
    write_text(paths[3], latex(evaluation))
    return paths


def markdown(evaluation: Evaluation) -> str:
    """Return two Markdown tables in percent, the best of a column in bold."""
    text = ""
    for metrics in METRIC_PAIRS:
        header, body = _pair_table(
            evaluation, metrics, "**{}**".format, lambda text: text.replace("|", "\\|")
        )
        lines = [header, ["---"] + ["---:"] * (len(header) - 1), *body]
        text += "\n".join(f"| {' | '.join(line)} |" for line in lines)
        text += f"\n\n{caption(evaluation, metrics)}\n\n"
    return text + "".join(f"- {note}\n" for note in evaluation.settings["notes"])


def latex(evaluation: Evaluation) -> str:
    """Return the same as LaTeX tables for the package booktabs."""
    text = "".join(f"% {note}\n" for note in evaluation.settings["notes"])
    for metrics in METRIC_PAIRS:
        header, body = _pair_table(
            evaluation, metrics, "\\textbf{{{}}}".format, lambda text: text.translate(_LATEX)
        )
        rows = "\n".join(f"{' & '.join(row)} \\\\" for row in body)
        text += (
            f"% {caption(evaluation, metrics)}\n\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}\n"
            f"\\toprule\n{' & '.join(header)} \\\\\n\\midrule\n{rows}\n\\bottomrule\n"
            "\\end{tabular}\n"
        )
    return text


def rich_tables(evaluation: Evaluation) -> list[Table]:
    """Return the same for a terminal of 80 columns: a section for each OOD set and the mean."""
    from rich.table import Table
    from rich.text import Text

    tables = []
    for title, results in _groups(evaluation):
        found = result_table(results)
        table = Table(title=title or None, caption=Text(caption(evaluation)))
        table.add_column("method")
        for metric in METRICS:
            table.add_column(metric.caption, justify="right", no_wrap=True)
        for name in found.sets:
            heading = "mean over the sets" if name == MEAN else f"against {name}"
            table.add_row(Text(heading, style="italic"))
            for method in found.methods:
                cells = [Text(f"  {evaluation.title_of(method)}")]
                for cell in found.row(method, name):
                    shown = cell.text(" ±", "\n{} - {}") if name == MEAN else cell.value
                    cells.append(Text(shown, style="bold" if cell.is_best else ""))
                table.add_row(*cells, end_section=method == found.methods[-1])
        tables.append(table)
    return tables


def caption(evaluation: Evaluation, metrics: Sequence[Metric] = ()) -> str:
    """Say what the cells of a table hold, all of them or those of two metrics."""
    text = "In percent"
    if metrics:
        text = f"{'/'.join(metric.caption for metric in metrics)} in percent"
    if evaluation.settings["n_bootstrap"]:
        text += ", with 95 % bootstrap intervals over images"
    if len(evaluation.settings["seeds"]) > 1:
        text += f", ± standard deviation over {len(evaluation.settings['seeds'])} seeds"
    n_ood = sum(int(ood_set.readable.sum()) for ood_set in evaluation.ood_sets)
    text += f"; {int(evaluation.id_set.readable.sum())} ID and {n_ood} OOD images"
    if evaluation.accuracy is not None:
        text += f"; ID accuracy {Cell(evaluation.accuracy).text()}"
    return text + "."


def _groups(evaluation: Evaluation) -> list[tuple[str, list[Result]]]:
    groups = [(evaluation.title, evaluation.results), ("Ablation", evaluation.ablation)]
    return [(title, results) for title, results in groups if results]


def _pair_table(
    evaluation: Evaluation,
    metrics: Sequence[Metric],
    bold: Callable[[str], str],
    escape: Callable[[str], str],
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows; the mean has intervals, the sets only values."""
    sets = [*(ood_set.name for ood_set in evaluation.ood_sets), MEAN]
    header = ["method", *map(escape, sets), *(f"mean {metric.caption}" for metric in metrics)]
    body = []
    for _, results in _groups(evaluation):
        table = result_table(results)
        for method in table.methods:
            pairs = []
            for name in sets:
                cells = table.row(method, name, metrics)
                pairs.append("/".join(bold(c.value) if c.is_best else c.value for c in cells))
            means = [escape(cell.text()) for cell in table.row(method, MEAN, metrics)]
            body.append([escape(evaluation.title_of(method)), *pairs, *means])
    return header, body


def _flat(row: Result) -> dict[str, Any]:
    flat: dict[str, Any] = {"method": row.method, "ood_set": row.ood_set}
    for metric in METRICS:
        for field, value in asdict(getattr(row, metric.name)).items():
            flat[metric.name if field == "value" else f"{metric.name}_{field}"] = value
    return flat
