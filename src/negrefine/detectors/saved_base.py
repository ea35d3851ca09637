"""A fitted detector inside the saved form of another one that is built on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negrefine.detectors.base import Detector
from negrefine.detectors.parameters import check_decoded, decode_parameters

if TYPE_CHECKING:
    from negrefine.detectors.bundle import Arrays, Tables
    from negrefine.encoders.base import Encoder


def base_arrays(arrays: Arrays) -> Arrays:
    """Return the arrays of a base under the names that they have in another detector."""
    return {f"base.{name}": array for name, array in arrays.items()}


def base_tables(base: Detector) -> Tables:
    """Return the tables of a base, and one with its method and parameters, likewise."""
    facts = {name: base._facts()[name] for name in ("method", "parameters")}
    return {
        "base": [facts],
        **{f"base_{name}": rows for name, rows in base._saved_tables().items()},
    }


def restored_base(
    encoder: Encoder, class_names: list[str], arrays: Arrays, tables: Tables
) -> Detector:
    """Return the base, without a threshold; ValueError for what does not fit."""
    from negrefine.detectors.registry import saved_methods

    (facts,) = tables["base"]
    parameters: dict[str, Any] = decode_parameters(facts["parameters"])
    base = saved_methods()[facts["method"]](encoder, **parameters)
    check_decoded(base, parameters)
    base._restore(
        class_names,
        {n.removeprefix("base."): a for n, a in arrays.items() if n.startswith("base.")},
        {n.removeprefix("base_"): t for n, t in tables.items() if n.startswith("base_")},
    )
    return base
