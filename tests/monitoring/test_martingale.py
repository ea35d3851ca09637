"""Wagers are fair, and grow where something has changed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from negrefine.monitoring.martingale import CLASS_BETS, ODDS, UNIFORM_BETS, Jumper, odds_bets

# Gauss-Legendre nodes on both halves of (0, 1): exact for what is linear on each.
NODES, WEIGHTS = np.polynomial.legendre.leggauss(6)
HALVES = np.concatenate([(NODES + 1) / 4, (NODES + 3) / 4]), np.tile(WEIGHTS / 4, 2)


@pytest.mark.parametrize("bets", [UNIFORM_BETS, CLASS_BETS])
def test_wealth_from_uniform_numbers_has_mean_one(bets: object) -> None:
    assert callable(bets)
    for u in (0.0, 0.5, 1.0):
        assert (bets(u) >= 0).all()
    total = 0.0
    for path in itertools.product(zip(*HALVES, strict=True), repeat=3):
        jumper = Jumper(len(bets(0.5)))
        for u, _ in path:
            jumper.bet(bets(float(u)))
        total += math.prod(weight for _, weight in path) * math.exp(jumper.log_wealth)
    assert total == pytest.approx(1.0, abs=1e-12)


def test_wealth_from_flags_of_an_urn_has_mean_one() -> None:
    rank, n, length = 2, 19, 9
    total, chances = 0.0, 0.0
    for path in itertools.product((False, True), repeat=length):
        jumper, chance, flagged = Jumper(len(ODDS)), 1.0, 0
        for t, flag in enumerate(path):
            share = (rank + flagged) / (n + 1 + t)
            jumper.bet(odds_bets(flag, share))
            chance *= share if flag else 1 - share
            flagged += flag
        chances += chance
        total += chance * math.exp(jumper.log_wealth)
    assert chances == pytest.approx(1.0, abs=1e-12)
    assert total == pytest.approx(1.0, abs=1e-12)


def test_a_long_quiet_stream_leaves_capital_for_a_late_change() -> None:
    rng = np.random.default_rng(0)
    jumper = Jumper(len(UNIFORM_BETS.slopes))
    for u in rng.random(10_000):
        jumper.bet(UNIFORM_BETS(float(u)))
    quiet = jumper.log_wealth
    assert quiet > math.log(0.05)
    assert not jumper.reaches(0.01)
    for u in rng.random(400) ** 2:
        jumper.bet(UNIFORM_BETS(float(u)))
    assert jumper.log_wealth > quiet + 15
    assert jumper.reaches(0.001)
    slope = UNIFORM_BETS.slopes[jumper.favourite()]
    assert slope < 0


def test_the_state_of_a_wager_is_exact() -> None:
    rng = np.random.default_rng(0)
    one, other = Jumper(len(ODDS)), Jumper(len(ODDS))
    other.restore(one.as_dict())
    for flag in rng.random(50) < 0.3:
        one.bet(odds_bets(bool(flag), 0.1))
        other.bet(odds_bets(bool(flag), 0.1))
        again = Jumper(len(ODDS))
        again.restore(other.as_dict())
        other = again
    assert other.as_dict() == one.as_dict()
    with pytest.raises(ValueError, match="of another form"):
        Jumper(len(ODDS) + 1).restore(one.as_dict())
