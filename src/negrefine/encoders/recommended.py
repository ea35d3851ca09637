"""Models that are known to be useful, as data: recommended.json beside this file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from negrefine.errors import InputError
from negrefine.similar_names import hint, plain_name, similar_names

# How like a name must be to be taken for a misspelt one.
_LIKE = 0.85


@dataclass(frozen=True)
class Recommended:
    """A model that `load_encoder` reads.

    Attributes:
        id: What `load_encoder` takes.
        family: The kind of model, as in docs/encoders.md.
        parameters: In millions, both towers.
        resolution: Side of the square images, in pixels.
        context: Longest text in tokens.
        languages: Of the texts.
        licence: Of the weights; the model's page decides.
        speed: A key of `speeds`, for one image.
        job: What it is good for.
        needs: Files that `load_encoder` needs beyond the usual ones, "" for none.
    """

    id: str
    family: str
    parameters: int
    resolution: int
    context: int
    languages: str
    licence: str
    speed: str
    job: str
    needs: str


@cache
def recommended() -> tuple[Recommended, ...]:
    """Return all models, in the order of the table."""
    return tuple(Recommended(**fields) for fields in _content()["models"])


def speeds() -> dict[str, str]:
    """Return what each class of speed means."""
    meanings: dict[str, str] = _content()["speeds"]
    return meanings


def find_recommended(name: str) -> Recommended:
    """Return the model of an id or of the part after its "/"; InputError names the likeliest."""
    models = recommended()
    wanted = plain_name(name)
    for model in models:
        if wanted in (plain_name(model.id), plain_name(model.id.rpartition("/")[2])):
            return model
    raise InputError(f"No model {name!r} is in the table: {hint(name, [m.id for m in models])}")


def likely_id(name: str) -> str | None:
    """Return the id of the model that a misspelt or shortened name means, None for others."""
    ids = {plain_name(model.id.rpartition("/")[2]): model.id for model in recommended()}
    short = plain_name(name.rpartition("/")[2])
    if short in ids:
        return ids[short]
    alike = similar_names(short, ids, _LIKE)
    # The names of sizes of one family are alike: only what begins or ends like one is meant.
    near = [key for key in alike if key.startswith(short) or short.startswith(key)]
    return ids[near[0]] if len(near) == 1 else None


def _content() -> dict[str, Any]:
    text = (files("negrefine.encoders") / "recommended.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content
