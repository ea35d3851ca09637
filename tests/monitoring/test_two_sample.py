"""Exact laws against SciPy and against counting all orders."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from negrefine.monitoring.two_sample import (
    beta_binomial_tails,
    binomial_p_value,
    holm,
    hypergeometric_tails,
    smirnov_tail,
    spent,
)


def statistic(x: np.ndarray, y: np.ndarray) -> int:
    """Return n m D."""
    everything = np.concatenate([x, y])
    a = (x[:, None] <= everything).sum(axis=0) * len(y)
    b = (y[:, None] <= everything).sum(axis=0) * len(x)
    return int(abs(a - b).max())


def test_smirnovs_law_is_that_of_all_orders() -> None:
    n, m = 5, 4
    found = []
    for own in itertools.combinations(range(n + m), n):
        others = np.setdiff1d(np.arange(n + m), own)
        found.append(statistic(np.array(own), others))
    for d in range(n * m + 2):
        assert smirnov_tail(d, n, m) == pytest.approx(np.mean(np.array(found) >= d), abs=1e-14)


def test_smirnovs_law_is_scipys() -> None:
    rng = np.random.default_rng(0)
    for n, m, shift in [(19, 200, 0.3), (95, 50, 0.0), (300, 40, 1.0), (60, 60, 2.0)]:
        x, y = rng.normal(size=n), rng.normal(size=m) - shift
        expected = stats.ks_2samp(x, y, method="exact").pvalue
        assert smirnov_tail(statistic(x, y), n, m) == pytest.approx(expected, rel=1e-6)
    # No overlap at all: one of the orders on each side.
    assert smirnov_tail(30 * 20, 30, 20) == pytest.approx(2 / math.comb(50, 20), rel=1e-9)


def test_tails_of_counts_are_scipys() -> None:
    for x, marked, drawn, total in [(0, 5, 10, 40), (7, 30, 20, 100), (20, 20, 40, 41)]:
        law = stats.hypergeom(total, marked, drawn)
        tails = hypergeometric_tails(x, marked, drawn, total)
        assert tails == pytest.approx((law.cdf(x), law.sf(x - 1)), rel=1e-9)
    for flagged, n_images, rank, n in [(0, 30, 1, 19), (9, 300, 5, 99), (40, 200, 5, 99)]:
        law = stats.betabinom(n_images, rank, n + 1 - rank)
        tails = beta_binomial_tails(flagged, n_images, rank, n)
        assert tails == pytest.approx((law.cdf(flagged), law.sf(flagged - 1)), rel=1e-7)
    for flagged in (0, 3, 12, 30):
        law = stats.binom(30, 0.2)
        expected = min(1.0, 2 * min(law.cdf(flagged), law.sf(flagged - 1)))
        assert binomial_p_value(flagged, 30, 0.2) == pytest.approx(expected, rel=1e-9)
    # Ten million images take no memory.
    assert beta_binomial_tails(500_000, 10_000_000, 50, 999)[0] == pytest.approx(0.52, abs=0.02)


def test_shares_of_alpha_sum_to_alpha() -> None:
    assert sum(spent(0.01, j) for j in range(1, 20_001)) == pytest.approx(0.01, rel=1e-4)


def test_holms_procedure() -> None:
    assert holm(np.array([0.011, 0.6, 0.009, 0.012]), 0.04, 4) == [2, 0, 3]
    assert holm(np.array([0.011, 0.009]), 0.04, 5) == []
    assert holm(np.array([]), 0.04, 5) == []
