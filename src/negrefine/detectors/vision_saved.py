"""What a detector with a vision judge is made of, now or where it is loaded: base and judge."""

from __future__ import annotations

from typing import Any

from negrefine.detectors.negrefine import NegRefine
from negrefine.detectors.parameters import Unsaved
from negrefine.errors import InputError
from negrefine.judges.vision import VisionJudge, vision_identity


def check_vision(name: str, value: Any) -> None:
    """Raise InputError for what is neither a vision judge nor None."""
    usable = isinstance(value, (VisionJudge, Unsaved)) and not isinstance(value, type)
    if value is not None and not usable:
        raise InputError(
            f"{name} must have a name and yes_margins(images, names), as HFVision and OpenAIVision "
            f"have them, not {value!r}."
        )


def check_base(base: object) -> NegRefine:
    """Return a NegRefine that S_VLM can stand in; InputError for one without S_MM or labels."""
    if not isinstance(base, NegRefine):
        raise InputError(f"VisionChecked is made from a fitted NegRefine, not from {base!r}.")
    base._check_fitted()
    if base.alpha == 0 or base.negatives_ is None or not base.negatives_.texts:
        raise InputError(
            "S_VLM stands beside S_MM, which this detector does not have: give one with an "
            "alpha other than 0 and with negative labels."
        )
    return base


def usable_judge(judge: VisionJudge | Unsaved | None, saved_identity: str | None) -> VisionJudge:
    """Return a judge that can be asked; InputError if none is given, or another than was saved."""
    if isinstance(judge, Unsaved):
        raise InputError(
            f"The vision judge {judge.name!r} is not part of the saved detector: give it with "
            "set_params(vision=...)."
        )
    if judge is None:
        raise InputError("No vision judge is given: set_params(vision=...).")
    if saved_identity not in (None, vision_identity(judge)):
        raise InputError(
            f"The vision judge {judge.name!r} is not the one that this detector was saved with, so "
            "its threshold means nothing for it: make the detector again with VisionChecked.of, or "
            "give the same model and settings."
        )
    return judge


def saved_judge(judge: VisionJudge | Unsaved | None, saved_identity: str | None) -> dict[str, Any]:
    """Return a judge as plain data; of one of a user's own, its name and identity alone."""
    from negrefine.judges.vision_settings import settings_of

    if isinstance(judge, Unsaved):
        facts = {"name": judge.name, "identity": saved_identity or judge.name}
        return {**facts, "kind": "own", "settings": {}}
    return settings_of(usable_judge(judge, saved_identity))
