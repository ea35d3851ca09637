"""Differences between methods, on the same images."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negrefine import metrics
from negrefine.errors import InputError
from negrefine.evaluation import paired
from negrefine.evaluation.paired import SameImages, differences_from, paired_differences
from negrefine.evaluation.results import Difference, Evaluation, Measured, load_evaluation
from negrefine.evaluation.tables import write_tables

METRICS = {
    "auroc": metrics.auroc,
    "fpr95": metrics.fpr95,
    "fpr95_ood_positive": metrics.fpr95_ood_positive,
}


def scores_of(seed: int, shift: float, *, n_seeds: int = 1) -> SameImages:
    """Return rounded scores, so that some tie, of 40 ID and of 30 and 25 OOD images."""
    rng = np.random.default_rng(seed)

    def drawn(mean: float, n: int) -> list[np.ndarray]:
        return [np.round(rng.normal(mean, 1, n), 1) for _ in range(n_seeds)]

    return SameImages(drawn(shift, 40), {"a": drawn(0, 30), "b": drawn(0.5, 25)})


def test_differences_are_those_of_a_plain_loop() -> None:
    one, other = scores_of(1, 1.5, n_seeds=2), scores_of(2, 1.0)
    found = paired_differences("x", one, "y", other, 7, seed=3)
    assert [row.ood_set for row in found] == ["a", "b", "mean"]
    for name, metric in METRICS.items():

        def difference(
            inside: np.ndarray, outside: np.ndarray, ood_set: str, metric: Any = metric
        ) -> float:
            means = []
            for each in (one, other):
                pairs = zip(each.id_scores, each.ood_scores[ood_set], strict=True)
                means.append(np.mean([metric(i[inside], o[outside]) for i, o in pairs]))
            return float(means[0] - means[1])

        drawn: dict[str, list[float]] = {"a": [], "b": []}
        for b in range(7):
            inside = np.random.default_rng([3, b, 0]).integers(0, 40, 40)
            for i, (ood_set, n) in enumerate({"a": 30, "b": 25}.items()):
                outside = np.random.default_rng([3, b, 1 + i]).integers(0, n, n)
                drawn[ood_set].append(difference(inside, outside, ood_set))
        means = np.mean([drawn["a"], drawn["b"]], axis=0)
        everything = np.arange(40)
        values = {s: difference(everything, np.arange(n), s) for s, n in (("a", 30), ("b", 25))}
        values["mean"] = np.mean(list(values.values()))
        for row, draws in zip(found, [drawn["a"], drawn["b"], means], strict=True):
            each = getattr(row, name)
            assert each.value == pytest.approx(values[row.ood_set], abs=1e-12)
            expected = np.quantile(draws, (0.025, 0.975))
            assert (each.low, each.high) == pytest.approx(tuple(expected), abs=1e-12)


def test_the_same_scores_differ_by_nothing_and_a_paired_interval_is_narrower() -> None:
    one = scores_of(1, 1.0)
    same = paired_differences("x", one, "y", one, 50)
    assert all(row.auroc == row.fpr95 == Measured(0.0, 0.0, 0.0) for row in same)
    rng = np.random.default_rng(5)
    noisy = SameImages(
        [s + rng.normal(0, 0.1, len(s)) for s in one.id_scores],
        {n: [s + rng.normal(0, 0.1, len(s)) for s in each] for n, each in one.ood_scores.items()},
    )
    near = paired_differences("x", noisy, "y", one, 200)[-1].auroc
    unrelated = paired_differences("x", scores_of(9, 1.0), "y", one, 200)[-1].auroc
    assert near.high - near.low < 0.3 * (unrelated.high - unrelated.low)


def test_needs_the_same_images_and_resamples() -> None:
    one, other = scores_of(1, 1.0), scores_of(2, 1.0)
    fewer = replace(other, id_scores=[other.id_scores[0][:-1]])
    with pytest.raises(InputError, match="'x' and 'y' were not scored on the same images"):
        paired_differences("x", one, "y", fewer, 5)
    with pytest.raises(InputError, match="at least one resample"):
        paired_differences("x", one, "y", other, 0)


@pytest.mark.parametrize(
    ("auroc", "fpr95", "expected"),
    [
        (
            Measured(0.004, 0.001, 0.007),
            Measured(-0.021, -0.04, -0.001),
            [
                "CSP is better than NegLabel by 0.40 [0.10, 0.70] points of AUROC on average.",
                "CSP is better than NegLabel by 2.10 [0.10, 4.00] points of FPR95 on average.",
            ],
        ),
        (
            Measured(-0.004, -0.007, -0.001),
            Measured(0.001, -0.002, 0.005),
            [
                "CSP is worse than NegLabel by 0.40 [0.10, 0.70] points of AUROC on average.",
                "CSP and NegLabel are not distinguishable by FPR95 (0.10 [-0.20, 0.50] points) on "
                "average.",
            ],
        ),
    ],
)
def test_the_sentence_that_a_reader_needs(
    run: Callable[..., Evaluation],
    tmp_path: Path,
    auroc: Measured,
    fpr95: Measured,
    expected: list[str],
) -> None:
    row = Difference("csp", "neglabel", "mean", auroc, fpr95, fpr95)
    evaluation = replace(
        run(tmp_path, ("mcm",), n_bootstrap=0),
        differences=[row],
        titles={"csp": "CSP", "neglabel": "NegLabel"},
    )
    assert list(paired.sentences(evaluation)) == expected


def test_an_evaluation_with_a_baseline_says_so_everywhere(
    run: Callable[..., Evaluation], tmp_path: Path
) -> None:
    found = run(tmp_path / "out", ("mcm", "csp"), n_bootstrap=20, baseline="mcm")
    assert {(row.method, row.baseline) for row in found.differences} == {("csp", "mcm")}
    assert found.differences == differences_from(found, "mcm", 20)
    assert load_evaluation(tmp_path / "out").differences == found.differences
    by_set = {(row.method, row.ood_set): row for row in found.results}
    for row in found.differences:
        for name in METRICS:
            pair = [getattr(by_set[m, row.ood_set], name).value for m in ("csp", "mcm")]
            assert getattr(row, name).value == pytest.approx(pair[0] - pair[1], abs=1e-12)
    paths = {path.suffix: path.read_text(encoding="utf-8") for path in write_tables(found)}
    content = json.loads(paths[".json"])
    assert [each["auroc"]["value"] for each in content["differences"]] == [
        row.auroc.value for row in found.differences
    ]
    assert content["conventions"]["fpr95"] == "id-positive"
    assert all("fpr95_ood_positive" in row for row in content["results"])
    assert next(paired.sentences(found)).split(" [")[0] in paths[".md"].replace("\\", "")
    for wrong, match in (("csp", "none of the methods"), ("mcm", "no method beside")):
        with pytest.raises(InputError, match=match):
            differences_from(replace(found, methods=["mcm"]), wrong, 20)
