"""What thresholds by class promise, in the simulations of `benchmarks/class_thresholds.py`.

The draws are seeded, so these tests always have the same outcome; tolerances are four standard
errors of the mean over draws.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from negrefine.detectors.conformal import images_needed, threshold_rank

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "class_thresholds.py"
EASY, MEDIUM, HARD = 0, 1, 2


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("class_thresholds", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def rates(outcome: Any, images: Any) -> tuple[float, float, float, float]:
    """Return the rate by class, four standard errors, the exact value, and the plain rate."""
    rate, error = outcome.rate(outcome.by_class, images)
    return (
        rate,
        4 * error,
        outcome.rate(outcome.exact, images)[0],
        outcome.rate(outcome.plain, images)[0],
    )


def test_the_rate_holds_in_each_class_and_is_used_up(script: ModuleType) -> None:
    outcome = script.simulate(script.Setting("", 200, fpr=0.1), draws=500, seed=1)
    for index in (EASY, MEDIUM, HARD):
        images = outcome.class_images(index)
        assert (images.sum(axis=1) > 0).mean() > 0.99
        rate, tolerance, exact, _ = rates(outcome, images)
        assert tolerance < 0.01
        assert rate <= 0.1 + tolerance
        # rank / (n_c + 1) > fpr - 1 / (n_c + 1) in each draw, and the rate is its mean.
        assert rate == pytest.approx(exact, abs=tolerance)
        assert exact > 0.1 - 1 / (0.24 * 200)
    # One threshold keeps the rate of all images, and neither that of the easy nor of the hard ones.
    everything = np.broadcast_to(outcome.setting.shares, outcome.plain.shape)
    assert outcome.rate(outcome.plain, everything)[0] == pytest.approx(0.1, abs=0.01)
    assert rates(outcome, outcome.class_images(EASY))[3] < 0.01
    assert rates(outcome, outcome.class_images(HARD))[3] > 0.3
    # Pooled classes, all together.
    rate, tolerance, exact, plain = rates(outcome, outcome.images_of("pooled"))
    assert rate == pytest.approx(exact, abs=tolerance)
    assert exact <= 0.1 < plain - 0.05


def test_the_rate_holds_with_ties(script: ModuleType) -> None:
    setting = script.Setting("", 200, fpr=0.1, grid=0.5)
    outcome = script.simulate(setting, draws=300, seed=2)
    for index in (EASY, MEDIUM, HARD):
        rate, tolerance, _, _ = rates(outcome, outcome.class_images(index))
        # A whole value is flagged or none of it, and none has a share of more than 0.2.
        assert 0.1 - 0.2 - tolerance < rate <= 0.1 + tolerance
        assert rate > 0.03
    rate, tolerance, _, _ = rates(outcome, outcome.images_of("pooled"))
    assert rate <= 0.1 + tolerance
    assert rates(outcome, outcome.class_images(HARD))[3] > 0.2


def test_the_pool_treats_test_and_calibration_images_alike(script: ModuleType) -> None:
    """Without the classes that have exactly as many images as are needed, the rate is exceeded."""
    setting = script.NEAR_THE_LIMIT
    outcome = script.simulate(setting, draws=600, seed=3)
    rate, tolerance, exact, _ = rates(outcome, outcome.images_of("pooled"))
    assert rate == pytest.approx(exact, abs=tolerance)
    assert 0.09 < exact <= 0.1
    # The same draws with the other pool.
    rng, needed = np.random.default_rng(3), images_needed(setting.fpr)
    flagged, images = [], []
    for _ in range(600):
        scores, classes = setting.draw(rng)
        few = np.bincount(classes, minlength=20) < needed
        pool = np.sort(scores[few[classes]])
        threshold = pool[threshold_rank(len(pool), setting.fpr) - 1]
        own = setting.shares * few
        flagged.append(float(own @ norm.cdf(threshold - setting.means)))
        images.append(float(own.sum()))
    assert np.mean(flagged) / np.mean(images) > 0.1 + tolerance / 2


def test_without_a_pool_nothing_is_promised_for_the_rare_classes(script: ModuleType) -> None:
    outcome = script.simulate(script.Setting("", 60, fpr=0.1), draws=300, seed=4)
    others = outcome.images_of("all")
    assert (others.sum(axis=1) > 0).mean() > 0.8
    rate, tolerance, _, plain = rates(outcome, others)
    assert rate == plain > 0.1 + tolerance
    # What is promised: P(flagged by this threshold) <= fpr, over images of all classes.
    assert (outcome.by_class * others).sum(axis=1).mean() <= 0.1
    for index in (EASY, MEDIUM, HARD):
        rate, tolerance, exact, _ = rates(outcome, outcome.class_images(index))
        assert rate == pytest.approx(exact, abs=tolerance)
        assert exact <= 0.1


def test_delta_bounds_the_rate_of_each_threshold(script: ModuleType) -> None:
    draws = 200
    setting = script.Setting("", 400, fpr=0.1, delta=0.1)
    outcome = script.simulate(setting, draws=draws, seed=5)
    for index in (EASY, MEDIUM, HARD):
        above = script.exceeded(outcome, outcome.by_class, outcome.class_images(index))
        assert 0 < above <= 0.1 + 3 * math.sqrt(0.1 * 0.9 / draws)
    hard = outcome.class_images(HARD)
    assert script.exceeded(outcome, outcome.plain, hard) == 1
    assert script.exceeded(outcome, outcome.by_class, outcome.images_of("pooled")) < 0.2
