"""Ablation and sweep against detectors fitted one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_golden import Md5Judge

from negrefine import Lexicon, NegRefine, errors, metrics
from negrefine.encoders.remember import RememberedTexts
from negrefine.evaluation.ablation import ablation_scores, compare
from negrefine.evaluation.sweep import sweep


@pytest.fixture(scope="module")
def setup(shared: Path, golden: dict[str, Any], tiny_encoder: Any) -> dict[str, Any]:
    root = shared / "golden" / "open"
    files = [root / "images" / image["file"] for image in golden["images"]]
    return {
        "encoder": tiny_encoder,
        "class_names": golden["classes"],
        "features": tiny_encoder.encode_images(files),
        "lexicon": Lexicon.from_tsv(root / "lexicon.tsv"),
    }


def fitted(setup: dict[str, Any], **parameters: Any) -> NegRefine:
    detector = NegRefine(setup["encoder"], lexicon=setup["lexicon"], **parameters)
    return detector.fit(setup["class_names"])


def test_ablation_equals_separate_fits(setup: dict[str, Any]) -> None:
    judge = Md5Judge(31)
    x = setup["features"]
    scores = ablation_scores(fitted(setup, judge=judge), x, single_filters=True)
    variants = {
        "no filter": fitted(setup, judge="none"),
        "NegFilter (proper nouns)": fitted(setup, judge=judge, filters=("proper_noun",)),
        "NegFilter (subcategories)": fitted(setup, judge=judge, filters=("subcategory",)),
        "NegFilter": fitted(setup, judge=judge),
    }
    assert list(scores) == [f"{v}{tail}" for v in variants for tail in (", no S_MM", " + S_MM")]
    for name, detector in variants.items():
        with_s_mm = detector.score_features(x)
        without = detector.set_params(alpha=0).score_features(x)
        np.testing.assert_allclose(scores[f"{name} + S_MM"], with_s_mm, atol=1e-5)
        np.testing.assert_allclose(scores[f"{name}, no S_MM"], without, atol=1e-5)


def test_ablation_needs_s_mm(setup: dict[str, Any]) -> None:
    detector = fitted(setup, judge="none", alpha=0)
    with pytest.raises(errors.InputError, match="alpha"):
        ablation_scores(detector, setup["features"])


def test_compare_ends_with_the_mean() -> None:
    rows = compare("x", np.array([0.9, 0.8]), {"a": np.array([0.1]), "b": np.array([0.85])})
    assert [(row.ood_set, row.auroc) for row in rows] == [("a", 1.0), ("b", 0.5), ("mean", 0.75)]


def test_sweep_equals_separate_fits(setup: dict[str, Any]) -> None:
    judge = Md5Judge(31)
    x = setup["features"]
    sets = {"one": x[20:30], "two": x[30:]}
    grid = {
        "alpha": [0, 2],
        "k": [1, 5],
        "n_candidates": [3, 10],
        "n_groups": [5, 10],
        "top_fraction": [0.1, 0.15],
        "quantile": [0.95, 1],
    }
    rows = sweep(
        setup["encoder"],
        setup["class_names"],
        x[:20],
        sets,
        grid,
        judge=judge,
        lexicon=setup["lexicon"],
    )
    assert len(rows) == 2**6 * len(sets)
    assert len({(row.setting, row.ood_set) for row in rows}) == len(rows)
    for row in rows[5::29]:
        s = row.setting
        detector = fitted(
            setup,
            judge=judge,
            alpha=s.alpha,
            k=s.k,
            n_candidates=s.n_candidates,
            n_groups=s.n_groups,
            top_fraction=s.top_fraction,
            quantile=s.quantile,
        )
        assert row.n_labels == len(detector.kept_negative_labels_)
        ood = detector.score_features(sets[row.ood_set])
        id_scores = detector.score_features(x[:20])
        assert row.auroc == pytest.approx(metrics.auroc(id_scores, ood), abs=1e-9)
        assert row.fpr95 == pytest.approx(metrics.fpr95(id_scores, ood), abs=1e-9)


@pytest.mark.parametrize(
    ("grid", "word"), [({"beta": [1]}, "beta"), ({"k": []}, "no values for 'k'")]
)
def test_sweep_rejects_bad_grids(setup: dict[str, Any], grid: dict[str, Any], word: str) -> None:
    x = setup["features"]
    with pytest.raises(errors.InputError, match=word):
        sweep(setup["encoder"], setup["class_names"], x, {"a": x}, grid)


def test_sweep_needs_an_ood_set(setup: dict[str, Any]) -> None:
    with pytest.raises(errors.InputError, match="OOD set"):
        sweep(setup["encoder"], setup["class_names"], setup["features"], {}, {})


def test_remembered_texts_are_encoded_once(setup: dict[str, Any]) -> None:
    asked: list[str] = []

    class Counting(RememberedTexts):
        def encode_texts(self, texts: Any, batch_size: int = 1024) -> Any:
            asked.extend(texts)
            return super().encode_texts(texts, batch_size)

    memory = RememberedTexts(Counting(setup["encoder"]))
    first = memory.encode_texts(["a", "b", "a"])
    second = memory.encode_texts(["b", "c"])
    assert asked == ["a", "b", "c"]
    np.testing.assert_array_equal(first[0], first[2])
    np.testing.assert_array_equal(first[1], second[0])
    assert memory.encode_texts([]).shape == (0, 64)
