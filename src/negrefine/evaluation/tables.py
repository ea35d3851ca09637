"""Results as tables: terminal, CSV, JSON, Markdown and LaTeX, in percent for people."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.evaluation.results import Evaluation, Measured, Result
from negrefine.files import write_rows, write_text

if TYPE_CHECKING:
    from rich.table import Table

METRICS = {"auroc": "AUROC", "fpr95": "FPR95", "aupr_in": "AUPR-in", "aupr_out": "AUPR-out"}
_PAIRS = (("auroc", "fpr95"), ("aupr_in", "aupr_out"))
_LATEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
    }
)


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
    for pair in _PAIRS:
        header, body = _cells(evaluation, pair, "**{}**")
        clean = [[cell.replace("|", "\\|") for cell in row] for row in (header, *body)]
        lines = [clean[0], ["---"] + ["---:"] * (len(header) - 1), *clean[1:]]
        text += "\n".join(f"| {' | '.join(line)} |" for line in lines)
        text += f"\n\n{caption(evaluation, pair)}\n\n"
    return text + "".join(f"- {note}\n" for note in evaluation.settings["notes"])


def latex(evaluation: Evaluation) -> str:
    """Return the same as LaTeX tables for the package booktabs."""
    text = "".join(f"% {note}\n" for note in evaluation.settings["notes"])
    for pair in _PAIRS:
        header, body = _cells(
            evaluation, pair, "\\textbf{{{}}}", str_=lambda text: text.translate(_LATEX)
        )
        rows = "\n".join(f"{' & '.join(row)} \\\\" for row in body)
        text += (
            f"% {caption(evaluation, pair)}\n\\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}\n"
            f"\\toprule\n{' & '.join(header)} \\\\\n\\midrule\n{rows}\n\\bottomrule\n"
            "\\end{tabular}\n"
        )
    return text


def rich_tables(evaluation: Evaluation) -> list[Table]:
    """Return the same for a terminal of 80 columns: a section for each OOD set and the mean."""
    from rich.table import Table
    from rich.text import Text

    tables = []
    for title, rows in (
        (evaluation.title or None, evaluation.results),
        ("NegRefine's ablation", evaluation.ablation),
    ):
        if not rows:
            continue
        table = Table(title=title, caption=Text(caption(evaluation)))
        for name in ("method", *METRICS.values()):
            left = name == "method"
            table.add_column(name, justify="left" if left else "right", no_wrap=not left)
        for name in dict.fromkeys(row.ood_set for row in rows):
            some = [row for row in rows if row.ood_set == name]
            heading = "mean over the sets" if name == "mean" else f"against {name}"
            table.add_row(Text(heading, style="italic"))
            for row in some:
                cells = []
                for metric in METRICS:
                    measured = getattr(row, metric)
                    shown = f"{100 * measured.value:.2f}"
                    if name == "mean":
                        shown = cell(measured).replace(" ± ", " ±").replace(" [", "\n[")
                        shown = shown.replace("[", "").replace("]", "").replace(", ", " - ")
                    best = _best([getattr(r, metric).value for r in some], metric)
                    bold = best == round(100 * measured.value, 2)
                    cells.append(Text(shown, style="bold" if bold else ""))
                table.add_row(Text(f"  {row.method}"), *cells, end_section=row is some[-1])
        tables.append(table)
    return tables


def caption(evaluation: Evaluation, metrics: tuple[str, str] | None = None) -> str:
    """Say what the cells of a table hold, all of them or those of two metrics."""
    text = "In percent"
    if metrics is not None:
        text = f"{'/'.join(METRICS[metric] for metric in metrics)} in percent"
    if evaluation.settings["n_bootstrap"]:
        text += ", with 95 % bootstrap intervals over images"
    if len(evaluation.settings["seeds"]) > 1:
        text += f", ± standard deviation over {len(evaluation.settings['seeds'])} seeds"
    n_ood = sum(int(one.readable.sum()) for one in evaluation.ood_sets)
    text += f"; {int(evaluation.id_set.readable.sum())} ID and {n_ood} OOD images"
    if evaluation.accuracy is not None:
        text += f"; ID accuracy {cell(evaluation.accuracy)}"
    return text + "."


def cell(measured: Measured) -> str:
    """Return a metric in percent, such as "95.12 ± 0.10 [94.80, 95.50]"."""
    text = f"{100 * measured.value:.2f}"
    if measured.std is not None:
        text += f" ± {100 * measured.std:.2f}"
    if measured.low is not None and measured.high is not None:
        text += f" [{100 * measured.low:.1f}, {100 * measured.high:.1f}]"
    return text


def _cells(
    evaluation: Evaluation,
    metrics: tuple[str, str],
    best: str,
    str_: Any = lambda text: text,
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows; the mean has intervals, the sets only values."""
    sets = [*(one.name for one in evaluation.ood_sets), "mean"]
    header = ["method", *map(str_, sets), *(f"mean {METRICS[metric]}" for metric in metrics)]
    body = []
    for rows in filter(None, [evaluation.results, evaluation.ablation]):
        cells = {(r.method, r.ood_set): [getattr(r, metric) for metric in metrics] for r in rows}
        methods = list(dict.fromkeys(row.method for row in rows))
        columns = {}
        for name in sets:
            shown = []
            for i, metric in enumerate(metrics):
                values = [round(100 * cells[method, name][i].value, 2) for method in methods]
                top = _best([cells[method, name][i].value for method in methods], metric)
                shown.append([best.format(f"{v:.2f}") if v == top else f"{v:.2f}" for v in values])
            columns[name] = [f"{a}/{b}" for a, b in zip(*shown, strict=True)]
        for i, method in enumerate(methods):
            means = [str_(cell(measured)) for measured in cells[method, "mean"]]
            body.append([str_(method), *(columns[name][i] for name in sets), *means])
    return header, body


def _best(values: Sequence[float], metric: str) -> float:
    shown = [round(100 * value, 2) for value in values]
    return min(shown) if metric == "fpr95" else max(shown)


def _flat(row: Result) -> dict[str, Any]:
    flat: dict[str, Any] = {"method": row.method, "ood_set": row.ood_set}
    for metric in METRICS:
        for field, value in asdict(getattr(row, metric)).items():
            flat[metric if field == "value" else f"{metric}_{field}"] = value
    return flat
