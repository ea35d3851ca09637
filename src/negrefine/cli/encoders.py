"""`negrefine encoders`: which model to take, and what it needs."""

from __future__ import annotations

from dataclasses import asdict

import typer

from negrefine.cli.options import AS_JSON
from negrefine.cli.output import print_json, say

_NAME = typer.Argument(None, metavar="[NAME]", help="Show what there is to know of one model.")


def encoders(name: str | None = _NAME, as_json: bool = AS_JSON) -> None:
    """List models that --encoder takes, with their sizes, languages and licences.

    Any other CLIP, SigLIP, open_clip or similar model on the hub or in a directory is taken too.
    """
    from negrefine.encoders.recommended import find_recommended, recommended, speeds

    models = recommended() if name is None else (find_recommended(name),)
    if as_json:
        print_json({"models": [asdict(model) for model in models], "speeds": speeds()})
        return
    if name is not None:
        (model,) = models
        facts = asdict(model) | {
            "parameters": f"{model.parameters:,} million",
            "resolution": f"{model.resolution} x {model.resolution} pixels",
            "context": f"{model.context} tokens",
            "speed": f"{model.speed} ({speeds()[model.speed]})",
            "needs": model.needs or "the usual files",
        }
        say(*(f"{key:<11} {value}" for key, value in facts.items()))
        return
    for model in models:
        size = f"{model.parameters:>5,} M {model.resolution} px"
        say(f"{model.id:<45}{size}  {model.speed:<9}  {model.languages}")
    say(
        "",
        *(f"{speed}: {meaning}" for speed, meaning in speeds().items()),
        "'negrefine encoders NAME' says more of a model; its page decides about its licence.",
    )
