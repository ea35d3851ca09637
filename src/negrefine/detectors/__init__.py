"""The published detectors, their scores as pure functions, and saved detectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from negrefine.lazy_names import lazy_names

if TYPE_CHECKING:
    from negrefine.detectors.base import Detector
    from negrefine.detectors.bounded_scores import BoundedScores
    from negrefine.detectors.clipn import CLIPN
    from negrefine.detectors.csp import CSP
    from negrefine.detectors.energy import Energy
    from negrefine.detectors.eoe import EOE
    from negrefine.detectors.explanation import Explanation, Match, PairMatch, PatchMatch
    from negrefine.detectors.glmcm import GLMCM
    from negrefine.detectors.loading import load_detector
    from negrefine.detectors.max_logit import MaxLogit
    from negrefine.detectors.mcm import MCM
    from negrefine.detectors.neglabel import NegLabel
    from negrefine.detectors.negrefine import NegRefine
    from negrefine.detectors.parameters import detector, parameter
    from negrefine.detectors.registry import DETECTORS, register
    from negrefine.detectors.sigmoid import Sigmoid
    from negrefine.detectors.thresholds import ThresholdGroup
    from negrefine.detectors.vision_checked import VisionChecked
    from negrefine.detectors.vsnl import VSNL

__all__ = [
    "CLIPN",
    "CSP",
    "DETECTORS",
    "EOE",
    "GLMCM",
    "MCM",
    "VSNL",
    "BoundedScores",
    "Detector",
    "Energy",
    "Explanation",
    "Match",
    "MaxLogit",
    "NegLabel",
    "NegRefine",
    "PairMatch",
    "PatchMatch",
    "Sigmoid",
    "ThresholdGroup",
    "VisionChecked",
    "detector",
    "load_detector",
    "parameter",
    "register",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "base": "Detector",
        "bounded_scores": "BoundedScores",
        "clipn": "CLIPN",
        "csp": "CSP",
        "energy": "Energy",
        "eoe": "EOE",
        "explanation": "Explanation Match PairMatch PatchMatch",
        "glmcm": "GLMCM",
        "loading": "load_detector",
        "max_logit": "MaxLogit",
        "mcm": "MCM",
        "neglabel": "NegLabel",
        "negrefine": "NegRefine",
        "parameters": "detector parameter",
        "registry": "DETECTORS register",
        "sigmoid": "Sigmoid",
        "thresholds": "ThresholdGroup",
        "vision_checked": "VisionChecked",
        "vsnl": "VSNL",
    },
)
