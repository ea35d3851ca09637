"""Results as tables: terminal, CSV, JSON, Markdown and LaTeX, in percent for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from negrefine.evaluation import paired
from negrefine.evaluation.results import MEAN, Evaluation, Measured, Result
from negrefine.evaluation.submission import submission
from negrefine.files.writing import check_replaceable, write_rows, write_text
from negrefine.shown_text import json_text, visible
from negrefine.text_tables import console_table, latex_text, markdown_table, markdown_text

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


@dataclass(frozen=True, slots=True)
class Metric:
    """One of the metrics of a `Result`: the attribute `name`, and `caption` in tables."""

    name: str
    caption: str
    larger_is_better: bool = True


METRICS = (
    Metric("auroc", "AUROC"),
    Metric("fpr95", "FPR95", larger_is_better=False),
    Metric("aupr_in", "AUPR-in"),
    Metric("aupr_out", "AUPR-out"),
)
FPR95_NOTE = (
    "FPR95 is in-distribution positive, as in the papers: the share of OOD images accepted where "
    "95 % of ID images are; OpenOOD's, which is OOD positive, is another number"
)
"""Which of the two conventions tables have; results.json and results.csv have both."""
METRIC_PAIRS = (METRICS[:2], METRICS[2:])
"""Metrics that share a table where four have no room."""


DIFFERENCE_COLUMNS = ("difference", "set", "AUROC", "FPR95", "FPR95 (OOD positive)")
DIFFERENCE_NOTE = (
    "Percentage points with 95 % intervals of a paired bootstrap: each resample draws the same "
    f"images for both methods. {FPR95_NOTE}, and has the last column."
)


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of one method on one OOD set; `is_best` compares the decimals that are shown."""

    measured: Measured
    is_best: bool = False

    @property
    def value(self) -> str:
        """The value in percent with two decimals."""
        return percent(self.measured.value)

    def marked(self, bold: str) -> str:
        """Return the value, in the pattern `bold` if it is the best one."""
        return bold.format(self.value) if self.is_best else self.value

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


class ResultTable:
    """Results of every method on every set, "mean" the last, the best of each column marked."""

    def __init__(self, results: Sequence[Result]) -> None:
        """Make a table of one or more results."""
        self._results = {(result.method, result.ood_set): result for result in results}
        self.methods = list(dict.fromkeys(method for method, _ in self._results))
        self.sets = list(dict.fromkeys(name for _, name in self._results))

    def row(self, method: str, name: str, metrics: Sequence[Metric] = METRICS) -> list[Cell]:
        """Return the cells of one method on the set of this name."""
        return [self._cell(method, name, metric) for metric in metrics]

    def _cell(self, method: str, name: str, metric: Metric) -> Cell:
        column = {m: getattr(self._results[m, name], metric.name) for m in self.methods}
        # Compared as shown, so that equal texts are marked alike.
        shown = {m: round(100 * measured.value, 2) for m, measured in column.items()}
        best = max(shown.values()) if metric.larger_is_better else min(shown.values())
        return Cell(column[method], shown[method] == best and len(column) > 1)


def percent(fraction: float) -> str:
    """Return a fraction in percent with two decimals."""
    return f"{100 * fraction:.2f}"


def check_tables(directory: Path) -> None:
    """Raise InputError if a file stands where `write_tables` writes that it has not written."""
    target = directory / "results"
    for suffix, mark in {
        ".csv": "auroc",
        ".json": "auroc",
        ".md": "AUROC",
        ".tex": "AUROC",
    }.items():
        check_replaceable(target.with_suffix(suffix), mark)


def write_tables(evaluation: Evaluation) -> list[Path]:
    """Write results.csv, .json, .md and .tex beside the evaluation; return their paths."""
    rows = [*evaluation.results, *evaluation.ablation]
    target = evaluation.directory / "results"
    flat = pa.Table.from_pylist([asdict(row) for row in rows]).flatten()
    names = [name.removesuffix(".value").replace(".", "_") for name in flat.column_names]
    schema = {name: "string" if name in ("method", "ood_set") else "double" for name in names}
    write_rows(target.with_suffix(".csv"), flat.rename_columns(names).to_pylist(), schema)
    texts = {
        ".json": json_text(submission(evaluation), indent=2, default=asdict) + "\n",
        ".md": markdown(evaluation),
        ".tex": latex(evaluation),
    }
    for suffix, text in texts.items():
        write_text(target.with_suffix(suffix), text)
    return [target.with_suffix(suffix) for suffix in (".csv", *texts)]


def markdown(evaluation: Evaluation) -> str:
    """Return two Markdown tables in percent, the best of a column in bold."""
    text = ""
    for title, (header, *body) in _pair_tables(evaluation, "**{}**", markdown_text):
        text += f"{markdown_table(header, body)}\n{title}\n\n"
    if evaluation.differences:
        rows = difference_rows(evaluation)
        text += (
            f"{markdown_table(DIFFERENCE_COLUMNS, [list(map(markdown_text, r)) for r in rows])}\n"
        )
        text += f"{DIFFERENCE_NOTE}\n\n"
    notes = [*paired.sentences(evaluation), *evaluation.settings["notes"]]
    return text + "".join(f"- {markdown_text(note)}\n" for note in notes)


def latex(evaluation: Evaluation) -> str:
    """Return the same as LaTeX tables for the package booktabs."""
    text = "".join(f"% {visible(note)}\n" for note in evaluation.settings["notes"])
    tables = _pair_tables(evaluation, "\\textbf{{{}}}", latex_text)
    for title, rows in tables:
        header, *body = (f"{' & '.join(row)} \\\\\n" for row in rows)
        text += (
            f"% {title}\n\\begin{{tabular}}{{l{'r' * (len(rows[0]) - 1)}}}\n"
            f"\\toprule\n{header}\\midrule\n{''.join(body)}\\bottomrule\n\\end{{tabular}}\n"
        )
    return text


def difference_rows(evaluation: Evaluation) -> list[list[str]]:
    """Return the cells of `DIFFERENCE_COLUMNS` for each method and set that was compared."""
    return [
        [
            f"{evaluation.title_of(row.method)} - {evaluation.title_of(row.baseline)}",
            row.ood_set,
            *(paired.points(each) for each in (row.auroc, row.fpr95, row.fpr95_ood_positive)),
        ]
        for row in evaluation.differences
    ]


def rich_tables(evaluation: Evaluation) -> list[Table]:
    """Return the same for a terminal of 80 columns: a section for each OOD set and the mean."""
    from rich.text import Text

    tables = []
    titled = [(evaluation.title, evaluation.results), ("Ablation", evaluation.ablation)]
    for title, results in titled:
        if not results:
            continue
        found = ResultTable(results)
        rows: list[list[str | Text]] = []
        sections = []
        for name in found.sets:
            heading = "mean over the sets" if name == MEAN else f"against {name}"
            rows.append([Text(visible(heading), style="italic"), *[""] * len(METRICS)])
            for method in found.methods:
                rows.append([f"  {evaluation.title_of(method)}"])
                for cell in found.row(method, name):
                    shown = cell.text(" ±", "\n{} - {}") if name == MEAN else cell.value
                    rows[-1].append(Text(shown, style="bold" if cell.is_best else ""))
            sections.append(len(rows) - 1)
        columns = ["method", *(metric.caption for metric in METRICS)]
        tables.append(
            console_table(
                columns, rows, title=title or None, caption=caption(evaluation), sections=sections
            )
        )
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
    if not metrics or METRICS[1] in metrics:
        text += f". {FPR95_NOTE}"
    return text + "."


def _pair_tables(
    evaluation: Evaluation, bold: str, escape: Callable[[str], str]
) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield caption and rows for each of `METRIC_PAIRS`, the header first.

    The mean has intervals, the sets only values. `escape` is for names.
    """
    for metrics in METRIC_PAIRS:
        sets = [*(ood_set.name for ood_set in evaluation.ood_sets), MEAN]
        means = [f"mean {metric.caption}" for metric in metrics]
        rows = [["method", *map(escape, sets), *means]]
        for table in map(ResultTable, filter(None, (evaluation.results, evaluation.ablation))):
            for method in table.methods:
                by_set = (table.row(method, name, metrics) for name in sets)
                pairs = ["/".join(cell.marked(bold) for cell in cells) for cells in by_set]
                means = [cell.text() for cell in table.row(method, MEAN, metrics)]
                rows.append([escape(evaluation.title_of(method)), *pairs, *means])
        yield caption(evaluation, metrics), rows
