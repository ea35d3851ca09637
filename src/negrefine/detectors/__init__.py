"""The published detectors, their scores as pure functions, and saved detectors."""

from negrefine.detectors.base import Detector
from negrefine.detectors.clipn import CLIPN
from negrefine.detectors.csp import CSP
from negrefine.detectors.explanation import Explanation, Match, PairMatch, PatchMatch
from negrefine.detectors.glmcm import GLMCM
from negrefine.detectors.loading import DETECTORS, load_detector
from negrefine.detectors.mcm import MCM
from negrefine.detectors.neglabel import NegLabel
from negrefine.detectors.negrefine import NegRefine

__all__ = [
    "CLIPN",
    "CSP",
    "DETECTORS",
    "GLMCM",
    "MCM",
    "Detector",
    "Explanation",
    "Match",
    "NegLabel",
    "NegRefine",
    "PairMatch",
    "PatchMatch",
    "load_detector",
]
