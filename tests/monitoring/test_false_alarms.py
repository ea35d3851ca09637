"""Streams without drift raise few alarms, whatever is naive raises many, and drift is found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from monitoring.streams import Floats, Indices, kept, monitor, p_values_of
from negrefine.monitoring.martingale import UNIFORM_BETS, Jumper
from negrefine.monitoring.two_sample import binomial_p_value

ALPHA = 0.2


def at_most(n_streams: int) -> int:
    """Return a number of alarms that streams with rate ALPHA exceed once in a thousand times."""
    return int(binom.ppf(0.999, n_streams, ALPHA))


def drawn(rng: np.random.Generator, n: int, n_classes: int = 3) -> tuple[Floats, Indices]:
    """Return scores and classes, of which some are more frequent and have larger scores."""
    classes = rng.choice(n_classes, n, p=np.arange(1, n_classes + 1) / sum(range(n_classes + 1)))
    return rng.normal(size=n) + classes / 2, classes.astype(np.intp)


def test_without_drift_the_monitor_is_quiet_and_naive_tests_are_not() -> None:
    n_streams, length = 60, 500
    alarms = {"monitor": 0, "naive martingale": 0, "naive binomial": 0}
    for seed in range(n_streams):
        rng = np.random.default_rng(seed)
        calibration = kept(rng.gumbel(size=19), fpr=0.1)
        p = p_values_of(calibration, rng.gumbel(size=length), None)
        watching = monitor(calibration, alpha=ALPHA, seed=seed, window=50)
        watching.update(p)
        alarms["monitor"] += bool(watching.alarms)
        jumper = Jumper(len(UNIFORM_BETS.slopes))
        for u in (p - rng.random(length) / 20).tolist():
            jumper.bet(UNIFORM_BETS(u))
        alarms["naive martingale"] += jumper.reaches(ALPHA)
        plain = binomial_p_value(int((p <= 0.1).sum()), length, 0.1)
        alarms["naive binomial"] += plain <= ALPHA
    assert alarms["monitor"] <= at_most(n_streams)
    assert alarms["naive martingale"] > at_most(n_streams)
    assert alarms["naive binomial"] > at_most(n_streams)


@pytest.mark.parametrize("kind", ["plain", "by class", "pooled", "tied"])
def test_without_drift_classes_and_ties_are_quiet(kind: str) -> None:
    n_streams, length = 16, 400
    n = 45 if kind == "pooled" else 150
    found = 0
    for seed in range(n_streams):
        rng = np.random.default_rng([seed, 1])
        scores, classes = drawn(rng, n + length)
        if kind == "tied":
            scores = np.minimum(scores, 1.0)
        by = "class" if kind in {"by class", "pooled"} else None
        calibration = kept(scores[:n], classes[:n], fpr=0.06, by=by)
        p = p_values_of(calibration, scores[n:], classes[n:])
        watching = monitor(calibration, alpha=ALPHA, window=60)
        watching.update(p, classes[n:])
        found += bool(watching.alarms)
        if kind == "pooled":
            assert watching.status().notes
        assert ("ranks are told apart" in "".join(watching.status().notes)) == (kind == "tied")
    assert found <= at_most(n_streams)


def test_a_shift_is_found_soon_and_named() -> None:
    rng = np.random.default_rng(3)
    scores, classes = drawn(rng, 4000)
    scores[1500:] -= 0.7
    calibration = kept(scores[:500], classes[:500])
    watching = monitor(calibration)
    watching.update(p_values_of(calibration, scores[500:], classes[500:]), classes[500:])
    first = {alarm.detector: alarm for alarm in reversed(watching.alarms)}
    assert set(first) == {"flag share", "p-values", "windows", "class p-values"}
    assert all(1000 < alarm.image < 2600 for alarm in first.values())
    assert first["p-values"].image < 1200
    assert first["flag share"].what == "more images are flagged than calibration leads to expect"
    assert first["p-values"].what == "p-values are smaller than in calibration"
    status = watching.status()
    assert status.alarm
    assert status.sentences()[0].startswith("ALARM after 3,500 images")
    assert status.flags.share == pytest.approx(0.15, abs=0.05)
    assert max(status.flags.exact_p_value or 1, status.flags.binomial_p_value or 1) < 1e-3


def test_only_the_class_that_shifts_is_named() -> None:
    rng = np.random.default_rng(4)
    scores, classes = drawn(rng, 3600, 4)
    scores[600:][classes[600:] == 1] -= 1.5
    calibration = kept(scores[:600], classes[:600], by="class")
    watching = monitor(calibration)
    watching.update(p_values_of(calibration, scores[600:], classes[600:]), classes[600:])
    assert watching.status().drifting_classes == ("class 1",)
    assert {a.detector for a in watching.alarms if a.class_name} == {"class p-values"}


def test_a_class_that_becomes_frequent_is_named() -> None:
    rng = np.random.default_rng(5)
    scores, classes = drawn(rng, 2600, 4)
    classes[1600:][rng.random(1000) < 0.3] = 0
    calibration = kept(scores[:600], classes[:600])
    watching = monitor(calibration)
    watching.update(p_values_of(calibration, scores[600:], classes[600:]), classes[600:])
    shares = [a for a in watching.alarms if a.detector == "class shares"]
    assert shares[0].class_name == "class 0"
    assert shares[0].what == "more images than in calibration"
    assert 1000 < shares[0].image <= 1400
    (row,) = [row for row in watching.status().classes or () if row.name == "class 0"]
    assert row.share > 1.5 * row.calibration_share
    assert row.n_images == int((classes[600:] == 0).sum())


def test_fewer_flags_than_promised_are_found_too() -> None:
    rng = np.random.default_rng(6)
    calibration = kept(rng.normal(size=2000), fpr=0.1)
    watching = monitor(calibration)
    watching.update(p_values_of(calibration, rng.normal(0.4, 1, size=3000), None))
    flags = [alarm.what for alarm in watching.alarms if alarm.detector == "flag share"]
    assert flags == ["fewer images are flagged than calibration leads to expect"]
