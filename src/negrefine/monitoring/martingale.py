"""Test martingales: money that grows only if the stream differs from what calibration promised.

A gambler starts with 1 and bets on each image before it is seen, at fair odds if nothing has
changed. Then the wealth is a non-negative martingale, and by Ville's inequality it reaches
1 / alpha with probability at most alpha over an endless stream, however often one looks.

The gambler is a mixture of simple jumpers (Vovk, Petej, Nouretdinov, Ahlberg, Carlsson and
Gammerman, "Retrain or not retrain: conformal test martingales for change-point detection", COPA
2021): the capital is spread over S bets, and before each image the fraction J of it is spread
anew, so that it can follow a change. Here several J are mixed, and not all capital takes part from
the start: the part kappa(t) = 1 / (1 + ln(1 + t / 100)) is still in the purse after t images, and
what leaves the purse is spread over all jumpers. What a long quiet stream loses is thus bounded by
the purse, and a late change still meets fresh capital.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_PURSE_SCALE = 100.0


@dataclass(frozen=True, eq=False)
class UniformBets:
    """Bets 1 + a (u - 1/2) + b (|2 u - 1| - 1/2) on u, whose mean is 1 for a uniform u.

    Attributes:
        slopes: float64 (S,), a: below zero for smaller u than calibration has.
        spreads: float64 (S,), b: above zero for u nearer to both ends.
    """

    slopes: Floats
    spreads: Floats

    def __call__(self, u: float) -> Floats:
        """Return what each bet multiplies its capital by, float64 (S,)."""
        return 1.0 + self.slopes * (u - 0.5) + self.spreads * (abs(2.0 * u - 1.0) - 0.5)


def _uniform_bets(slopes: list[float], spreads: list[float]) -> UniformBets:
    none = [0.0]
    return UniformBets(
        np.array(none + slopes + [0.0] * len(spreads)),
        np.array(none + [0.0] * len(slopes) + spreads),
    )


UNIFORM_BETS = _uniform_bets([-2.0, -1.0, -0.5, -0.25, 0.25, 0.5, 1.0, 2.0], [-2.0, -1.0, 1.0, 2.0])
CLASS_BETS = _uniform_bets([-2.0, -1.0, 1.0, 2.0], [-1.5, 1.5])
ODDS: Floats = np.array([1.0, 0.3, 0.6, 0.8, 1.3, 2.0, 4.0, 10.0])
"""By what the odds of a flag may have changed."""


def odds_bets(flagged: bool, share: float) -> Floats:
    """Return likelihood ratios of a flag under multiplied odds, float64 (S,).

    `share` is the probability of a flag; the mean of each over the flag is 1.
    """
    return (ODDS if flagged else 1.0) / (1.0 - share + ODDS * share)


class Jumper:
    """A mixture of simple jumpers over S bets, with capital in logs.

    Attributes:
        capital: float64 (R, S), shares of the capital at stake, with sum one.
        log_stake: Natural logarithm of the capital at stake.
        n: Number of bets made.
        log_largest: Logarithm of the largest wealth so far, at least 0.
    """

    def __init__(self, n_bets: int, rates: tuple[float, ...] = (1e-2, 1e-3, 1e-4)) -> None:
        """Begin with everything in the purse; `rates` are the R fractions J that jump."""
        self._kept = 1.0 - np.array(rates)[:, None]
        self._spread = np.array(rates)[:, None] / n_bets
        self.capital = np.full((len(rates), n_bets), 1.0 / (len(rates) * n_bets))
        self.log_stake = -math.inf
        self.n = 0
        self._purse = _purse(0)
        self.log_largest = 0.0

    def bet(self, factors: Floats) -> None:
        """Multiply the capital of each bet by its factor, float64 (S,), of mean one."""
        before, purse = self._purse, _purse(self.n + 1)
        fresh = before - purse
        self.n, self._purse = self.n + 1, purse
        if self.log_stake == -math.inf:
            self.log_stake = math.log(fresh)
            capital = self.capital * factors
        else:
            # What jumps is spread evenly over the bets of a rate, what is fresh over all.
            spread = np.add.reduce(self.capital, axis=1, keepdims=True)
            spread *= self._spread
            spread += fresh * math.exp(-self.log_stake) / self.capital.size
            capital = self.capital * self._kept
            capital += spread
            capital *= factors
        total = float(np.add.reduce(capital, axis=None))
        capital /= total
        self.capital = capital
        self.log_stake += math.log(total)
        self.log_largest = max(self.log_largest, self.log_wealth)

    @property
    def log_wealth(self) -> float:
        """Logarithm of the wealth, purse and stake together."""
        purse = math.log(self._purse)
        high, low = max(purse, self.log_stake), min(purse, self.log_stake)
        return high + math.log1p(math.exp(low - high))

    def reaches(self, alpha: float) -> bool:
        """Whether the wealth has ever been 1 / alpha or more."""
        return self.log_largest >= -math.log(alpha)

    @property
    def p_value(self) -> float:
        """An anytime-valid p-value: 1 / largest wealth so far."""
        return math.exp(-self.log_largest)

    def favourite(self) -> int:
        """Return the bet that holds most of the capital."""
        return int(np.argmax(self.capital.sum(axis=0)))

    def as_dict(self) -> dict[str, Any]:
        """Return the state as JSON data."""
        return {
            "n": self.n,
            "log_stake": None if self.n == 0 else self.log_stake,
            "log_largest": self.log_largest,
            "capital": self.capital.tolist(),
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Take up what `as_dict` returned; ValueError if it does not fit."""
        capital = np.array(content["capital"], dtype=np.float64)
        n, log_stake = content["n"], content["log_stake"]
        if capital.shape != self.capital.shape or not (capital >= 0).all():
            raise ValueError("the capital of a martingale is of another form")
        if type(n) is not int or n < 0 or (n == 0) != (log_stake is None):
            raise ValueError("the number of bets of a martingale does not fit")
        self.capital = capital
        self.n, self._purse = n, _purse(n)
        self.log_stake = -math.inf if log_stake is None else float(log_stake)
        self.log_largest = float(content["log_largest"])


def _purse(t: int) -> float:
    return 1.0 / (1.0 + math.log1p(t / _PURSE_SCALE))
