"""The ablation against detectors fitted one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from conftest import LetterJudge, fitted
from negrefine import errors
from negrefine.evaluation.ablation import ablation_of


def test_ablation_equals_separate_fits(setup: dict[str, Any]) -> None:
    judge = LetterJudge()
    x = setup["features"]
    ablation = ablation_of(fitted(setup, judge=judge), single_filters=True)
    scores = {name: detector.score_features(x) for name, detector in ablation.items()}
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
        ablation_of(detector)
