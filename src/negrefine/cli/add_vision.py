"""`negrefine add-vision`: a vision-language model looks at the images that NegRefine doubts."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.cli.bundles import option
from negrefine.cli.options import SavedDetector
from negrefine.cli.output import say
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.judges.vision import VisionJudge

VisionRule = Enum("VisionRule", {"PAIR": "pair", "CLASS": "class"}, type=str)


def add_vision(
    *,
    saved: SavedDetector,
    vision: str = option(
        ...,
        "'hf:MODEL' (a vision-language model in this process, hub id or directory) or "
        "'openai:MODEL' (a server that speaks the OpenAI chat protocol: $OPENAI_BASE_URL and "
        "$OPENAI_API_KEY when it is asked).",
        "MODEL",
    ),
    out: Path = option(..., "Where to save it.", "DETECTOR_DIR"),
    vision_weight: float = option(
        0.5,
        "How much the model's answers (S_VLM) replace S_MM, 0 to 1; 0 is NegRefine's score.",
        min=0,
        max=1,
    ),
    vision_k: int = option(
        2, "Ask about this many of the nearest class names, and as many negative labels.", min=1
    ),
    vision_rule: VisionRule = option(
        VisionRule.PAIR,
        "'pair': a class together with a negative label; 'class': one of the classes, which asks "
        "half as much.",
    ),
    band: float | None = option(
        None,
        "Ask only where NegRefine's score is closer than this to its threshold, which 'calibrate' "
        "sets; default: ask about every image.",
        min=0,
    ),
    confine: bool = option(
        False, "Keep the scores of images that were asked about inside the band.", name="--confine"
    ),
    grey: bool = option(
        False, "Subtract what the model answers about a grey image, to any name.", name="--grey"
    ),
) -> None:
    """Let a vision-language model look at the images that a NegRefine detector doubts.

    The result is a detector for 'calibrate', 'score' and 'explain', which ask the model. It has no
    threshold yet: 'calibrate' sets it, with other images than those that set NegRefine's, around
    which the band stays.
    """
    from negrefine.detectors import VisionChecked
    from negrefine.detectors.bundle import check_target

    check_target(out)
    judge = _judge(vision, saved.device)
    if saved.detector_dir.resolve() == out.resolve():
        raise InputError("--out is the detector itself, which is kept: give another folder.")
    settings: dict[str, Any] = {
        "weight": vision_weight,
        "k": vision_k,
        "rule": vision_rule.value,
        "band": band,
        "confine": confine,
        "correct": grey,
    }
    checked = VisionChecked.of(saved.load(), judge, **settings)
    checked.save(out)
    where = "every image" if band is None else f"images within {band:g} of NegRefine's threshold"
    say(
        f"Saved {checked.method} to {out}: {judge.name!r} is asked about {where}. It has no "
        "threshold now: calibrate it."
    )


def _judge(text: str, device: str) -> VisionJudge:
    from negrefine.judges.causal_lm import check_local_model
    from negrefine.judges.hf_vision import HFVision
    from negrefine.judges.openai_vision import OpenAIVision
    from negrefine.judges.vision_lm import VISION_LM

    kind, _, model = text.partition(":")
    if kind == "hf" and model:
        check_local_model(model, VISION_LM)
        return HFVision(model, device=device)
    if kind == "openai" and model:
        return OpenAIVision(model)
    raise InputError(f"--vision must be 'hf:MODEL' or 'openai:MODEL', not {text!r}.")
