"""Zero-shot out-of-distribution detection with CLIP and negative labels.

    import negrefine

    encoder = negrefine.load_encoder("builtin")
    detector = negrefine.NegRefine(encoder).fit(["tabby cat", "daisy", "fire truck"])
    scores = detector.score_samples(["a.jpg"])  # larger = more in-distribution

Names are imported when they are first used, because torch takes more than a second to import and
`negrefine --help` does without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from negrefine import errors, metrics
    from negrefine.detectors import (
        CLIPN,
        CSP,
        GLMCM,
        MCM,
        Detector,
        Energy,
        MaxLogit,
        NegLabel,
        NegRefine,
        Sigmoid,
        load_detector,
    )
    from negrefine.encoders import Encoder, load_encoder
    from negrefine.evaluation.experiment import evaluate
    from negrefine.judges.base import Answer, Judge
    from negrefine.judges.cascade import CascadeJudge
    from negrefine.judges.hf import HFJudge
    from negrefine.judges.openai import OpenAIJudge
    from negrefine.judges.replay import ReplayJudge
    from negrefine.judges.store import AnswerStore
    from negrefine.judges.wordnet import WordNetJudge
    from negrefine.labels.lexicon import Lexicon
    from negrefine.labels.prompts import Prompts
    from negrefine.monitoring.monitor import Monitor

__all__ = [
    "CLIPN",
    "CSP",
    "GLMCM",
    "MCM",
    "Answer",
    "AnswerStore",
    "CascadeJudge",
    "Detector",
    "Encoder",
    "Energy",
    "HFJudge",
    "Judge",
    "Lexicon",
    "MaxLogit",
    "Monitor",
    "NegLabel",
    "NegRefine",
    "OpenAIJudge",
    "Prompts",
    "ReplayJudge",
    "Sigmoid",
    "WordNetJudge",
    "errors",
    "evaluate",
    "load_detector",
    "load_encoder",
    "metrics",
]

_NAMES = {
    "detectors": "CLIPN CSP GLMCM MCM Detector Energy MaxLogit NegLabel NegRefine Sigmoid "
    "load_detector",
    "encoders": "Encoder load_encoder",
    "evaluation.experiment": "evaluate",
    "judges.base": "Answer Judge",
    "judges.cascade": "CascadeJudge",
    "judges.hf": "HFJudge",
    "judges.openai": "OpenAIJudge",
    "judges.replay": "ReplayJudge",
    "judges.store": "AnswerStore",
    "judges.wordnet": "WordNetJudge",
    "labels.lexicon": "Lexicon",
    "labels.prompts": "Prompts",
    "monitoring.monitor": "Monitor",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in {"errors", "metrics"}:
        return import_module(f"negrefine.{name}")
    if name in _HOMES:
        return getattr(import_module(f"negrefine.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'negrefine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
