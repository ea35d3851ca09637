"""The check of a baseline, apart because a command makes it before anything is imported."""

from __future__ import annotations

from collections.abc import Sequence

from negrefine.errors import InputError


def check_baseline(baseline: str, methods: Sequence[str], n_bootstrap: int) -> None:
    """Raise InputError for a baseline that is no method or the only one, or without resamples."""
    if baseline not in methods:
        raise InputError(
            f"The baseline {baseline!r} is none of the methods {', '.join(methods)}: name one of "
            "them, or add it to them."
        )
    if len(methods) == 1:
        raise InputError(f"There is no method beside the baseline {baseline!r}: give another one.")
    if n_bootstrap < 1:
        raise InputError("A baseline needs resamples (--bootstrap), which the intervals are from.")
