"""The methods by name. A new one is a file with its class, its import and its entry here."""

from __future__ import annotations

from typing import TypeVar

from negrefine.detectors.base import Detector
from negrefine.detectors.clipn import CLIPN
from negrefine.detectors.csp import CSP
from negrefine.detectors.energy import Energy
from negrefine.detectors.eoe import EOE
from negrefine.detectors.frozen import FrozenAdaNeg, FrozenOODD, FrozenTANL
from negrefine.detectors.glmcm import GLMCM
from negrefine.detectors.max_logit import MaxLogit
from negrefine.detectors.mcm import MCM
from negrefine.detectors.neglabel import NegLabel
from negrefine.detectors.negrefine import NegRefine
from negrefine.detectors.sigmoid import Sigmoid
from negrefine.detectors.vision_checked import VisionChecked
from negrefine.detectors.vsnl import VSNL
from negrefine.errors import InputError

DETECTORS: dict[str, type[Detector]] = {}
"""Method name to detector class, in the order of tables."""

FROZEN: dict[str, type[Detector]] = {
    cls.method: cls for cls in (FrozenAdaNeg, FrozenTANL, FrozenOODD, VisionChecked)
}
"""Detectors that are made from others, saved and loaded but never fitted."""

_T = TypeVar("_T", bound=type[Detector])


def register(cls: _T) -> _T:
    """Make a detector class known by its `method`, so that `load_detector` finds it.

    Raises InputError if another class has this name.
    """
    if cls.method in FROZEN:
        raise InputError(f"The method {cls.method!r} is {FROZEN[cls.method].__name__}: rename it.")
    known = DETECTORS.setdefault(cls.method, cls)
    if known is not cls:
        raise InputError(f"The method {cls.method!r} is {known.__name__} already: rename it.")
    return cls


for _cls in (MaxLogit, Energy, Sigmoid, MCM, GLMCM, CLIPN, EOE, VSNL, NegLabel, CSP, NegRefine):
    register(_cls)


def saved_methods() -> dict[str, type[Detector]]:
    """Return every class of which a saved detector may be, by method."""
    return {**DETECTORS, **FROZEN}
