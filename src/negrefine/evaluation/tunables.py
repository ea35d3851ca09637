"""The parameters that `negrefine tune` may choose, declared one by one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from negrefine.detectors import Detector
from negrefine.detectors.adaptive_alpha import CONSTANT, SCALED, UNCERTAIN
from negrefine.detectors.alpha_rules import FACTOR
from negrefine.detectors.parameters import declared_parameters
from negrefine.detectors.vision_checked import VisionChecked
from negrefine.errors import InputError


@dataclass(frozen=True, slots=True)
class Tunable:
    """A parameter of the score that needs no fit.

    Attributes:
        name: Its name in the detector.
        values: What is tried unless other values are given.
        parts: Parts of the score that it changes; all others are scored once for all its values.
    """

    name: str
    values: tuple[Any, ...]
    parts: tuple[str, ...] = ()


TUNABLES: tuple[Tunable, ...] = (
    Tunable("alpha_rule", (CONSTANT, UNCERTAIN + SCALED), (FACTOR,)),
    Tunable("k", (1, 3, 5, 10), ("multi_match",)),
    Tunable("alpha", (0.5, 1.0, 2.0, 4.0)),
)
"""In the order of a table, the last varying fastest. A detector without a parameter has none."""

VISION_TUNABLES: tuple[Tunable, ...] = (
    Tunable("band", (0.1, 0.3, None)),
    Tunable("k", (2, 5)),
    Tunable("alpha", (1.0, 2.0, 4.0)),
    Tunable("weight", (0.0, 0.5, 1.0)),
)
"""Those of `VisionChecked`: alpha is that of its base, all others are its own."""


def tunables_of(detector: Detector | type[Detector]) -> dict[str, Tunable]:
    """Return what can be tuned about a detector, by name."""
    cls = detector if isinstance(detector, type) else type(detector)
    if issubclass(cls, VisionChecked):
        return {each.name: each for each in VISION_TUNABLES}
    declared = declared_parameters(cls)
    # A parameter of the same name may mean something else, as the k of OODD.
    known = {*cls.parts, FACTOR}
    return {e.name: e for e in TUNABLES if e.name in declared and known.issuperset(e.parts)}


def complete_grid(
    detector: Detector, grid: Mapping[str, Sequence[Any]] | None
) -> dict[str, tuple[Any, ...]]:
    """Return the values to try of each parameter, distinct; parameters not named keep theirs.

    None tries the values of the declarations, without those that a detector without a threshold or
    with thresholds by class cannot have. Numbers of numpy become those of Python, which the record
    of a tuning holds. Raises InputError for a parameter that cannot be tuned, one without values,
    or a value that its constraint refuses.
    """
    known = tunables_of(detector)
    if grid is None:
        left_out = _impossible(detector) if isinstance(detector, VisionChecked) else ()
        grid = {name: each.values for name, each in known.items() if name not in left_out}
    if not isinstance(grid, Mapping):
        raise InputError(f"The grid must have lists of values by parameter, not be {grid!r}.")
    for name, values in grid.items():
        if name not in known:
            able = ", ".join(known) or "nothing"
            raise InputError(f"Nothing named {name!r} can be tuned here, only {able}.")
        if isinstance(values, str) or not isinstance(values, Iterable) or not len(values):
            raise InputError(f"There are no values for {name!r}: give at least one, in a list.")
        declared = declared_parameters(type(detector))
        if name not in declared and isinstance(detector, VisionChecked):
            declared = declared_parameters(type(detector.base_))
        constraint = declared[name].constraint
        for value in values:
            constraint(name, value)
    return {
        name: tuple(dict.fromkeys(map(plain, grid.get(name, (getattr(detector, name),)))))
        for name in known
    }


def plain(value: Any) -> Any:
    """Return a number of numpy as one of Python, and anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def _impossible(detector: VisionChecked) -> tuple[str, ...]:
    """Return what is not tuned unless it is asked for, which gives an error that says why."""
    n = len(detector.band_thresholds_)
    return ("band",) if n == 0 else ("alpha",) if n > 1 else ()
