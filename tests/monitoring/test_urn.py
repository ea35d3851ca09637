"""The urn's numbers are the ranks among all scores, and exactly uniform."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import kstest

from negrefine.monitoring.urn import Cells, Urn


def cell(scores: np.ndarray, score: float) -> int:
    return 1 + int(np.searchsorted(scores, score, side="right"))


def test_the_law_of_cells_is_that_of_all_orders_of_the_scores() -> None:
    # Two calibration images and three others, in each of the 120 orders.
    n, length = 2, 3
    counts: Counter[tuple[int, ...]] = Counter()
    for order in itertools.permutations(range(n + length)):
        scores = np.sort(np.array(order[:n], dtype=np.float64))
        counts[tuple(cell(scores, x) for x in order[n:])] += 1
    for cells in itertools.product((1, 2, 3), repeat=length):
        chance = Fraction(1)
        urn = Urn(Cells.between(np.arange(n, dtype=np.float64)))
        for k in cells:
            # The ends of the interval that the uniform number is drawn from.
            low = urn.place(k, 0.0)
            again = Urn(urn.cells, urn.counts - (np.arange(3) == k - 1))
            chance *= Fraction(again.place(k, 1.0) - low).limit_denominator(60)
        assert chance == Fraction(counts[cells], math.factorial(n + length)), cells


def test_numbers_hold_the_rank_among_all_earlier_scores() -> None:
    rng = np.random.default_rng(0)
    calibration = np.sort(rng.gamma(2.0, size=30))
    urn = Urn(Cells.between(calibration))
    earlier = list(calibration)
    for score in rng.gamma(2.0, size=200):
        k = cell(calibration, score)
        before = urn.counts.copy()
        low = urn.place(k, 0.0) * (len(earlier) + 1)
        high = Urn(urn.cells, before).place(k, 1.0) * (len(earlier) + 1)
        rank = sum(other < score for other in earlier)
        assert low - 1e-9 <= rank
        assert rank + 1 <= high + 1e-9
        # Nothing but the order within the cell is left open.
        own = sum(cell(calibration, other) == k for other in earlier[30:])
        assert high - low == pytest.approx(own + 1)
        earlier.append(score)


@pytest.mark.parametrize("ties", [False, True])
def test_numbers_are_uniform_and_independent_whatever_the_scores_are(ties: bool) -> None:
    rng = np.random.default_rng(1)
    firsts, lasts, means, naive = [], [], [], []
    for _ in range(500):
        scores = rng.exponential(size=99)
        if ties:
            # Two fifths of all scores are the largest there is.
            scores = np.minimum(scores, 0.9)
        calibration = np.sort(scores[:19])
        urn = Urn(Cells.between(calibration, rank=2))
        cells = [cell(calibration, score) for score in scores[19:]]
        uniforms = rng.random(len(cells)).tolist()
        numbers = [
            number
            for k, u in zip(cells, uniforms, strict=True)
            for number in [urn.place(k, u)]
            if urn.cells.joined[k] >= urn.cells.low
        ]
        firsts.append(numbers[0])
        lasts.append(numbers[-1])
        means.append(np.mean(numbers))
        naive.append(np.mean([(k - u) / 20 for k, u in zip(cells, uniforms, strict=True)]))
    for sample in (firsts, lasts):
        assert kstest(sample, "uniform").pvalue > 1e-3
    # Means of some 70 independent uniform numbers; those of p-values spread further.
    assert np.std(means) == pytest.approx(math.sqrt(1 / 12 / 71), rel=0.12)
    assert np.std(naive) > 1.5 * np.std(means)
    assert abs(np.corrcoef(firsts, lasts)[0, 1]) < 0.14


def test_ties_join_the_cells_around_them() -> None:
    cells = Cells.between(np.array([0.0, 1.0, 2.0, 2.0, 2.0, 3.0, 4.0]), rank=3)
    assert cells.joined[1:].tolist() == [0, 1, 2, 2, 2, 2, 3, 4]
    assert cells.weights.tolist() == [1, 1, 4, 1, 1]
    # The third smallest ties, so that only two cells are below all ties.
    assert (cells.low, cells.low_weight) == (2, 2)
    assert cells.boundaries.tolist() == [1, 2, 6, 7]
    assert Cells.between(np.ones(5), rank=1).weights.tolist() == [6]
