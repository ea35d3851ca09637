"""Measured beside published numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from negrefine import Lexicon
from negrefine.benchmarks.published import (
    as_json,
    as_markdown,
    compare_with_published,
    is_published_lexicon,
    reason_lines,
    reason_texts,
)
from negrefine.errors import InputError
from negrefine.evaluation.results import Evaluation, Measured, Result, SetScores

FOUR = ["iNaturalist", "OpenImage-O", "Clean", "NINCO"]


def evaluation_of(ood_sets: Sequence[str]) -> Evaluation:
    """The same numbers for NegRefine on each OOD set."""
    results = [
        Result("negrefine", name, *(Measured(value) for value in (0.9, 0.3, 0.5, 0.5)))
        for name in [*ood_sets, "mean"]
    ]
    no_images = SetScores("ID", [], np.zeros(0, int), np.zeros(0, int), [], [], {})
    return Evaluation(Path(), "", ["a"], ["negrefine"], no_images, [], results, [], None, {}, {})


def published(table: str, method: str, ood_set: str, metric: str) -> float:
    evaluation = evaluation_of(["NINCO"])
    (value,) = (
        cell.published
        for cell in compare_with_published(evaluation, set())
        if (cell.table, cell.method, cell.ood_set, cell.metric) == (table, method, ood_set, metric)
    )
    return value


def test_published_averages_are_the_means_of_the_published_sets() -> None:
    """The tables were typed by hand; a typing error would show in a mean."""
    for method in ("mcm", "glmcm", "clipn", "neglabel", "csp", "negrefine"):
        sets = ("inaturalist", "openimage-o", "clean", "ninco")
        mean = np.mean([published("main", method, name, "auroc") for name in sets])
        assert published("main", method, "mean", "auroc") == pytest.approx(mean, abs=0.0051)
    assert published("ablation", "NegFilter + S_MM", "mean", "fpr95") == 30.12
    assert published("main", "negrefine", "mean", "fpr95") == 30.12
    assert published("ablation", "no filter, no S_MM", "mean", "auroc") == 89.97
    assert published("seed0", "negrefine", "textures", "fpr95") == 21.15


def test_every_published_number_has_a_cell_with_its_difference() -> None:
    evaluation = evaluation_of(FOUR)
    cells = compare_with_published(evaluation, {"seed 0"})
    assert len(cells) == 36 + 8 + 14
    found = {(c.table, c.method, c.ood_set, c.metric): c for c in cells}
    cell = found["main", "negrefine", "clean", "auroc"]
    assert cell.measured == pytest.approx(90.0)
    assert cell.difference == pytest.approx(90.0 - 90.65)
    assert found["main", "negrefine", "mean", "fpr95"].measured == pytest.approx(30.0)
    # Not measured: another method, and a set that was not there.
    assert found["main", "clipn", "clean", "auroc"].difference is None
    assert found["main", "clipn", "clean", "auroc"].reasons == ("clipn",)
    assert found["main", "csp", "clean", "auroc"].reasons == ("not-run",)
    assert found["seed0", "negrefine", "sun", "auroc"].reasons == ("not-run",)


def test_no_mean_is_taken_over_fewer_sets_than_published() -> None:
    evaluation = evaluation_of(FOUR[:3])
    cells = compare_with_published(evaluation, set(), ["main"])
    means = [c for c in cells if c.method == "negrefine" and c.ood_set == "mean"]
    assert [cell.measured for cell in means] == [None, None]
    with pytest.raises(InputError, match="table must be one of main, ablation, seed0, not 'all'"):
        compare_with_published(evaluation, set(), ["all"])


def test_reasons_disappear_when_the_run_matches_the_published_one() -> None:
    evaluation = evaluation_of(FOUR)

    def reasons(facts: set[str], table: str = "main") -> set[str]:
        cells = compare_with_published(evaluation, facts, [table])
        (cell,) = (
            c for c in cells if (c.method, c.ood_set, c.metric) == ("negrefine", "ninco", "auroc")
        )
        return set(cell.reasons)

    assert {"lexicon", "judge", "seeds", "ninco-count"} <= reasons(set())
    assert not {"lexicon", "judge", "seeds"} & reasons({"lexicon", "replay", "ten seeds"})
    assert "bicubic" in reasons({"bilinear"}) - reasons(set())
    assert "not-seed-0" in reasons(set(), "seed0")
    assert "not-seed-0" not in reasons({"seed 0"}, "seed0")
    assert set().union(*(reasons({fact}) for fact in ("incomplete", "bilinear"))) <= set(
        reason_texts()
    )


def test_reports_give_each_reason_once_and_every_number() -> None:
    evaluation = evaluation_of(FOUR)
    cells = compare_with_published(evaluation, {"seed 0"})
    page = as_markdown(cells, ["Not comparable: a test."])
    assert "**Not comparable: a test.**" in page
    assert "| negrefine | Clean AUROC | 90.65 | 90.00 | -0.65 |" in page
    for line in reason_lines(cells):
        assert page.count(line) == 1
    content = json.loads(as_json(cells, [], {}))
    assert content["comparable"] is True
    assert len(content["cells"]) == len(cells)
    assert {r for cell in content["cells"] for r in cell["reasons"]} == set(content["reasons"])


def test_the_published_words_are_recognised(shared: Path) -> None:
    words = Lexicon.from_tsv(shared / "reference" / "lexicon_official.tsv.gz")
    assert is_published_lexicon(words)
    assert not is_published_lexicon(Lexicon.wordnet(min_frequency=1))
