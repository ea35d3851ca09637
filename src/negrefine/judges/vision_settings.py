"""A vision judge as plain data and back, for detectors that are saved with its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from negrefine.constraints import FINITE, Constraint, Fields, Text, Whole
from negrefine.errors import InputError
from negrefine.judges.causal_lm import pick_dtype
from negrefine.judges.hf_vision import HFVision
from negrefine.judges.openai_vision import OpenAIVision
from negrefine.judges.vision import VisionJudge, VisionPrompts, vision_identity
from negrefine.pretrained.loading import check_dtype, pick_device

# What determines the answers. A server's address and the name of a key's variable are left out: a
# detector of somebody else must not choose where images and keys are sent.
_HF: Mapping[str, Constraint] = {
    "model": Text(),
    "dtype": lambda _name, value: check_dtype(value),
    "revision": Text(optional=True),
    "least_mass": FINITE,
}
_OPENAI: Mapping[str, Constraint] = {
    "model": Text(),
    "longest_side": Whole(1, optional=True),
    "max_tokens": Whole(1, optional=True),
    "revision": Text(optional=True),
    # Which the judge itself checks.
    "extra_body": lambda _name, _value: None,
}


def settings_of(judge: VisionJudge) -> dict[str, Any]:
    """Return the name, the identity and, of judges of this package, the settings of a judge."""
    facts: dict[str, Any] = {"name": judge.name, "identity": vision_identity(judge)}
    for kind, cls, names in (("hf", HFVision, _HF), ("openai", OpenAIVision, _OPENAI)):
        if type(judge) is cls:
            settings = {name: getattr(judge, name) for name in names}
            if isinstance(judge, HFVision):
                # On another machine "auto" may be another one.
                settings["dtype"] = pick_dtype(judge.dtype, pick_device(judge.device))
            question = judge.prompts.question
            return {**facts, "kind": kind, "settings": {**settings, "question": question}}
    return {**facts, "kind": "own", "settings": {}}


def judge_from(saved: Mapping[str, Any]) -> VisionJudge | None:
    """Return the judge of `settings_of`, None for one of another class.

    Its model is loaded, or its server asked, by the first question. Raises InputError for settings
    that are not of a judge.
    """
    Fields({"name": Text(), "identity": Text(), "kind": Text()})("vision", saved)
    kinds: dict[str, tuple[Any, Mapping[str, Constraint]]] = {
        "hf": (HFVision, _HF),
        "openai": (OpenAIVision, _OPENAI),
    }
    if saved["kind"] not in kinds:
        return None
    cls, constraints = kinds[saved["kind"]]
    settings = saved.get("settings")
    if not isinstance(settings, Mapping) or set(settings) != {*constraints, "question"}:
        raise InputError(f"vision.settings must have {', '.join(constraints)} and question.")
    Fields(constraints)("vision.settings", settings)
    given = {name: settings[name] for name in constraints}
    judge: VisionJudge = cls(**given, prompts=VisionPrompts(settings["question"]))
    return judge
