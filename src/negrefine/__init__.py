"""Zero-shot out-of-distribution detection with CLIP and negative labels.

    import negrefine

    encoder = negrefine.load_encoder("builtin")
    detector = negrefine.NegRefine(encoder).fit(["tabby cat", "daisy", "fire truck"])
    scores = detector.score_samples(["a.jpg"])  # larger = more in-distribution

Names are imported when they are first used, because torch takes more than a second to import and
`negrefine --help` does without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from negrefine.lazy_names import lazy_names

if TYPE_CHECKING:
    from negrefine import errors, metrics
    from negrefine.detectors import (
        CLIPN,
        CSP,
        EOE,
        GLMCM,
        MCM,
        VSNL,
        Detector,
        Energy,
        MaxLogit,
        NegLabel,
        NegRefine,
        Sigmoid,
        VisionChecked,
        load_detector,
    )
    from negrefine.encoders import Encoder, load_encoder
    from negrefine.evaluation.experiment import evaluate
    from negrefine.judges.base import Answer, Judge
    from negrefine.judges.cascade import CascadeJudge
    from negrefine.judges.hf import HFJudge
    from negrefine.judges.hf_vision import HFVision
    from negrefine.judges.openai import OpenAIJudge
    from negrefine.judges.openai_vision import OpenAIVision
    from negrefine.judges.replay import ReplayJudge
    from negrefine.judges.store import AnswerStore
    from negrefine.judges.vision import VisionJudge
    from negrefine.judges.vote import VoteJudge
    from negrefine.judges.wordnet import WordNetJudge
    from negrefine.labels.lexicon import Lexicon
    from negrefine.labels.prompts import Prompts
    from negrefine.monitoring.monitor import Monitor
    from negrefine.proposers.base import Proposer
    from negrefine.proposers.hf import HFProposer
    from negrefine.proposers.openai import OpenAIProposer
    from negrefine.proposers.replay import ReplayProposer
    from negrefine.proposers.wordnet import WordNetProposer
    from negrefine.streaming import OODD, TANL, AdaNeg, OODDictionary, StreamDetector

__all__ = [
    "CLIPN",
    "CSP",
    "EOE",
    "GLMCM",
    "MCM",
    "OODD",
    "TANL",
    "VSNL",
    "AdaNeg",
    "Answer",
    "AnswerStore",
    "CascadeJudge",
    "Detector",
    "Encoder",
    "Energy",
    "HFJudge",
    "HFProposer",
    "HFVision",
    "Judge",
    "Lexicon",
    "MaxLogit",
    "Monitor",
    "NegLabel",
    "NegRefine",
    "OODDictionary",
    "OpenAIJudge",
    "OpenAIProposer",
    "OpenAIVision",
    "Prompts",
    "Proposer",
    "ReplayJudge",
    "ReplayProposer",
    "Sigmoid",
    "StreamDetector",
    "VisionChecked",
    "VisionJudge",
    "VoteJudge",
    "WordNetJudge",
    "WordNetProposer",
    "errors",
    "evaluate",
    "load_detector",
    "load_encoder",
    "metrics",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "": "errors metrics",
        "detectors": "CLIPN CSP EOE GLMCM MCM VSNL Detector Energy MaxLogit NegLabel NegRefine "
        "Sigmoid VisionChecked load_detector",
        "encoders": "Encoder load_encoder",
        "evaluation.experiment": "evaluate",
        "judges.base": "Answer Judge",
        "judges.cascade": "CascadeJudge",
        "judges.hf": "HFJudge",
        "judges.hf_vision": "HFVision",
        "judges.openai": "OpenAIJudge",
        "judges.openai_vision": "OpenAIVision",
        "judges.replay": "ReplayJudge",
        "judges.store": "AnswerStore",
        "judges.vision": "VisionJudge",
        "judges.vote": "VoteJudge",
        "judges.wordnet": "WordNetJudge",
        "labels.lexicon": "Lexicon",
        "labels.prompts": "Prompts",
        "monitoring.monitor": "Monitor",
        "proposers.base": "Proposer",
        "proposers.hf": "HFProposer",
        "proposers.openai": "OpenAIProposer",
        "proposers.replay": "ReplayProposer",
        "proposers.wordnet": "WordNetProposer",
        "streaming": "OODD TANL AdaNeg OODDictionary StreamDetector",
    },
)
