"""The published detectors, their scores as pure functions, and saved detectors."""

from negrefine.detectors.base import Detector
from negrefine.detectors.csp import CSP
from negrefine.detectors.explanation import Explanation, Match, PairMatch
from negrefine.detectors.loading import DETECTORS, load_detector
from negrefine.detectors.mcm import MCM
from negrefine.detectors.neglabel import NegLabel
from negrefine.detectors.negrefine import NegRefine

__all__ = [
    "CSP",
    "DETECTORS",
    "MCM",
    "Detector",
    "Explanation",
    "Match",
    "NegLabel",
    "NegRefine",
    "PairMatch",
    "load_detector",
]
