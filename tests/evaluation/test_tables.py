"""All tables say the same."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest
from rich.console import Console

from negrefine.evaluation.results import Evaluation, Measured, Result
from negrefine.evaluation.tables import Cell, ResultTable, rich_tables, write_tables


@pytest.fixture(scope="module")
def evaluation(
    run: Callable[..., Evaluation], tmp_path_factory: pytest.TempPathFactory
) -> Evaluation:
    return run(
        tmp_path_factory.mktemp("tables"),
        ("mcm", "negrefine"),
        with_ablation=True,
        seeds=(0, 1),
        notes=["50 % of a & b"],
    )


def test_tables_say_the_same(evaluation: Evaluation) -> None:
    results = [*evaluation.results, *evaluation.ablation]
    paths = {path.suffix: path for path in write_tables(evaluation)}
    with paths[".csv"].open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["auroc"]) for row in rows] == [r.auroc.value for r in results]
    assert [row["method"] for row in rows] == [r.method for r in results]
    content = json.loads(paths[".json"].read_text(encoding="utf-8"))
    assert [r["fpr95"]["value"] for r in content["results"]] == [r.fpr95.value for r in results]
    terminal = io.StringIO()
    for table in rich_tables(evaluation):
        Console(width=80, file=terminal).print(table)
    texts = [paths[".md"].read_text(encoding="utf-8"), paths[".tex"].read_text(encoding="utf-8")]
    for text in [*texts, terminal.getvalue()]:
        for result in results:
            assert f"{100 * result.auroc.value:.2f}" in text
            assert f"{100 * result.aupr_out.value:.2f}" in text
        assert "MCM" in text
        assert "± standard deviation over 2 seeds" in " ".join(text.split())
    assert "no filter, no S\\_MM" in texts[1]
    assert all("50 % of a & b" in text for text in texts)


def test_marks_the_best_as_shown() -> None:
    def result(method: str, auroc: float, fpr95: float) -> Result:
        other = Measured(0.5)
        return Result(method, "a", Measured(auroc), Measured(fpr95), other, other)

    rows = [result("x", 0.91001, 0.2), result("y", 0.91002, 0.1), result("z", 0.8, 0.3)]
    table = ResultTable(rows)
    best = {m: [cell.is_best for cell in table.row(m, "a")[:2]] for m in table.methods}
    assert best == {"x": [True, False], "y": [True, True], "z": [False, False]}
    assert not any(cell.is_best for cell in ResultTable(rows[:1]).row("x", "a"))


def test_a_cell_in_one_line() -> None:
    assert Cell(Measured(0.95123)).text() == "95.12"
    assert Cell(Measured(0.95123, 0.948, 0.955, 0.001)).text() == "95.12 ± 0.10 [94.8, 95.5]"
    assert Cell(Measured(0.95123, 0.948, 0.955)).interval() == "94.8 to 95.5"
