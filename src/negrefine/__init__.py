"""Zero-shot out-of-distribution detection with CLIP and negative labels.

    import negrefine

    encoder = negrefine.load_encoder("builtin")
    detector = negrefine.NegRefine(encoder).fit(["tabby cat", "daisy", "fire truck"])
    scores = detector.score_samples(["a.jpg"])  # larger = more in-distribution

Names are imported when they are first used, because torch and transformers take seconds to import
and `negrefine --help` needs neither.
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
        NegLabel,
        NegRefine,
        load_detector,
    )
    from negrefine.encoders import Encoder, load_encoder
    from negrefine.labels.answer_store import AnswerStore
    from negrefine.labels.cascade_judge import CascadeJudge
    from negrefine.labels.hf_judge import HFJudge
    from negrefine.labels.judges import Answer, Judge
    from negrefine.labels.lexicon import Lexicon
    from negrefine.labels.openai_judge import OpenAIJudge
    from negrefine.labels.prompts import Prompts
    from negrefine.labels.replay_judge import ReplayJudge
    from negrefine.labels.wordnet_judge import WordNetJudge

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
    "HFJudge",
    "Judge",
    "Lexicon",
    "NegLabel",
    "NegRefine",
    "OpenAIJudge",
    "Prompts",
    "ReplayJudge",
    "WordNetJudge",
    "errors",
    "load_detector",
    "load_encoder",
    "metrics",
]

_HOMES = {
    "CLIPN": "negrefine.detectors",
    "CSP": "negrefine.detectors",
    "GLMCM": "negrefine.detectors",
    "MCM": "negrefine.detectors",
    "Detector": "negrefine.detectors",
    "NegLabel": "negrefine.detectors",
    "NegRefine": "negrefine.detectors",
    "load_detector": "negrefine.detectors",
    "Encoder": "negrefine.encoders",
    "load_encoder": "negrefine.encoders",
    "HFJudge": "negrefine.labels.hf_judge",
    "CascadeJudge": "negrefine.labels.cascade_judge",
    "AnswerStore": "negrefine.labels.answer_store",
    "Answer": "negrefine.labels.judges",
    "Judge": "negrefine.labels.judges",
    "OpenAIJudge": "negrefine.labels.openai_judge",
    "Lexicon": "negrefine.labels.lexicon",
    "Prompts": "negrefine.labels.prompts",
    "ReplayJudge": "negrefine.labels.replay_judge",
    "WordNetJudge": "negrefine.labels.wordnet_judge",
}


def __getattr__(name: str) -> Any:
    if name in {"errors", "metrics"}:
        return import_module(f"negrefine.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'negrefine' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
