"""Agreement of two judges on the same questions: shares, and Cohen's kappa with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negrefine.judges.base import Answer, Query


@dataclass(frozen=True, slots=True)
class Agreement:
    """How two judges answered the questions of one kind; undecided answers are counted apart.

    Attributes:
        kind: "proper_noun" or "subcategory".
        first, second: The judges.
        both_yes, first_only, second_only, both_no: Questions that both decided, by who said yes.
        undecided: Questions that one of them, or both, left undecided.
        kappa: Cohen's kappa: 1 is agreement, 0 what answers that do not depend on each other would
            have. None where it is undefined: both give all questions the same answer, or none.
        low, high: 95 % interval of kappa, over words drawn with replacement, since the questions
            about one word depend on each other.
    """

    kind: str
    first: str
    second: str
    both_yes: int
    first_only: int
    second_only: int
    both_no: int
    undecided: int
    kappa: float | None
    low: float | None
    high: float | None

    @property
    def n(self) -> int:
        """Number of questions that both decided."""
        return self.both_yes + self.first_only + self.second_only + self.both_no

    @property
    def agreed(self) -> float | None:
        """Share of them with the same answer, None of no questions."""
        return (self.both_yes + self.both_no) / self.n if self.n else None


def measure_agreement(
    kind: str,
    names: tuple[str, str],
    queries: Sequence[Query],
    first: Mapping[Query, Answer],
    second: Mapping[Query, Answer],
    *,
    n_bootstrap: int = 1000,
) -> Agreement:
    """Compare the answers of two judges to queries, all of one kind.

    The interval comes from `n_bootstrap` resamples with a fixed seed; 0 for none.
    """
    by_word: dict[str, NDArray[np.int64]] = {}
    undecided = 0
    for query in queries:
        a, b = first[query].yes, second[query].yes
        if a is None or b is None:
            undecided += 1
        else:
            counts = by_word.setdefault(query.word, np.zeros(4, dtype=np.int64))
            counts[2 * (not a) + (not b)] += 1
    if not by_word:
        return Agreement(kind, *names, 0, 0, 0, 0, undecided, None, None, None)
    words = np.stack(list(by_word.values()))
    total = words.sum(axis=0)
    both_yes, first_only, second_only, both_no = total.tolist()
    low, high = _interval(words, n_bootstrap) if n_bootstrap else (None, None)
    return Agreement(
        kind,
        *names,
        both_yes=both_yes,
        first_only=first_only,
        second_only=second_only,
        both_no=both_no,
        undecided=undecided,
        kappa=_number(cohen_kappa(total)),
        low=low,
        high=high,
    )


def cohen_kappa(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return Cohen's kappa of tables (..., 4): yes yes, yes no, no yes, no no; NaN if undefined."""
    yes_yes, yes_no, no_yes, no_no = np.moveaxis(counts.astype(np.float64), -1, 0)
    n = yes_yes + yes_no + no_yes + no_no
    chance = (yes_yes + yes_no) * (yes_yes + no_yes) + (no_yes + no_no) * (yes_no + no_no)
    with np.errstate(divide="ignore", invalid="ignore"):
        kappa = (n * (yes_yes + no_no) - chance) / (n * n - chance)
    return np.where(n * n > chance, kappa, np.nan)


def _interval(words: NDArray[np.int64], n_resamples: int) -> tuple[float | None, float | None]:
    """Return the 95 % percentile interval of kappa over the rows, counts (W, 4) of each word."""
    # Words with equal counts are drawn together, which is the same draw in a fraction of the time.
    distinct, times = np.unique(words, axis=0, return_counts=True)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(len(words), times / len(words), size=n_resamples) @ distinct
    kappas = cohen_kappa(drawn)
    kappas = kappas[~np.isnan(kappas)]
    if not len(kappas):
        return None, None
    low, high = np.quantile(kappas, (0.025, 0.975))
    return float(low), float(high)


def _number(value: NDArray[np.float64]) -> float | None:
    return None if np.isnan(value) else float(value)
