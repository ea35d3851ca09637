"""Rows of an evaluation for several draws of the words that are mined, and their means.

CSP and NegRefine draw a superclass for each adjective, so another `seed` mines other labels. The
NegRefine paper averages ten such draws. A row for each has the name of its method, or of its
variant in the ablation, and from the second on the seed, too.
"""

from __future__ import annotations

import re

from negrefine.detectors import Detector
from negrefine.detectors.parameters import declared_parameters

_SEED = re.compile(r" \(seed \d+\)$")


def draws_words(method: type[Detector]) -> bool:
    """Return whether another `seed` of the method mines other labels."""
    return "superclasses" in declared_parameters(method)


def drawn_row(name: str, seed: int, first: int) -> str:
    """Return the name of a row for one of several seeds, `first` the first of them."""
    return name if seed == first else f"{name} (seed {seed})"


def undrawn(row: str) -> str:
    """Return the name of the method or variant of a row."""
    return _SEED.sub("", row)
