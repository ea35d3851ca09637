"""Prompt templates: those of the published systems, and a user's own."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from negrefine.errors import InputError


@dataclass(frozen=True)
class Prompts:
    """The templates in which a name stands for "{}"; users may replace any of them.

    Attributes:
        class_name: Templates of class names.
        noun: Templates of nouns; NegRefine also puts "class and negative" pairs into them.
        adjective: Templates of adjectives or adjective phrases.
        no: Templates of class names for CLIPN's "no" encoder; empty means those of `class_name`.
    """

    class_name: tuple[str, ...]
    noun: tuple[str, ...] = ()
    adjective: tuple[str, ...] = ()
    no: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, templates in asdict(self).items():
            if isinstance(templates, str):
                raise InputError(f"Prompts.{field} must be a sequence of templates, not a string.")
            object.__setattr__(self, field, tuple(templates))
            for template in templates:
                check_template("prompt template", template)
        if not self.class_name:
            raise InputError("Prompts need at least one template for class names.")

    def as_dict(self) -> dict[str, list[str]]:
        """Return the templates as lists, for JSON."""
        return {field: list(templates) for field, templates in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Prompts:
        """Rebuild prompts from `as_dict`."""
        return cls(**{field: tuple(templates) for field, templates in data.items()})

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Prompts:
        """Read prompts from a JSON file such as {"class_name": ["a photo of a {}"], "noun": [...]}.

        Raises:
            InputError: The file cannot be read or does not hold lists of templates.
        """
        try:
            data = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"The prompts {str(path)!r} cannot be read as JSON: {error}."
            ) from error
        known = [field.name for field in fields(cls)]
        if not isinstance(data, dict) or not data.keys() <= set(known) or "class_name" not in data:
            raise InputError(
                f"The prompts {str(path)!r} must be a JSON object with 'class_name' and any of "
                f"{', '.join(known[1:])}, each a list of templates."
            )
        for field, templates in data.items():
            if not isinstance(templates, list) or not all(isinstance(t, str) for t in templates):
                raise InputError(
                    f"In the prompts {str(path)!r}, {field!r} must be a list of templates."
                )
        return cls.from_dict(data)


def check_template(kind: str, template: str) -> None:
    """Raise InputError unless "{}" occurs in a template exactly once."""
    if template.count("{}") != 1:
        raise InputError(f"The {kind} {template!r} must contain '{{}}' exactly once.")


MCM_PROMPTS = Prompts(class_name=("a photo of a {}",))

NEGLABEL_PROMPTS = Prompts(
    class_name=("the nice {}",), noun=("the nice {}",), adjective=("This is a {} photo",)
)

_CSP_NOUN = (
    "a close-up photo of the nice {}.",
    "a photo with the nice {}.",
    "a good photo with the nice {}.",
    "a photo of the nice {}.",
    "{}",
    "the {}",
    "the good {}",
    "the nice {}",
)
_CSP_ADJECTIVE = (
    "{}",
    "a nice photo of {}",
    "a good photo of {}",
    "a close-up photo of {}",
)
_SKETCH_NOUN = ("a sketch of a {}", "a sketch of the {}", *_CSP_NOUN)

CSP_PROMPTS = Prompts(class_name=_CSP_NOUN, noun=_CSP_NOUN, adjective=_CSP_ADJECTIVE)
"""Used by CSP and NegRefine."""

CSP_SKETCH_PROMPTS = Prompts(class_name=_SKETCH_NOUN, noun=_SKETCH_NOUN, adjective=_CSP_ADJECTIVE)
"""CSP and NegRefine on ImageNet-Sketch."""

SUPERCLASS_TEMPLATES = (
    "{} environment",
    "{} space",
    "{} object",
    "{} scene",
    "{} place",
    "{} item",
    "{} area",
    "{} view",
    "{} thing",
    "{} pattern",
    "{} structure",
    "{} landscape",
    "{} vista",
    "{} creature",
)
"""CSP's conjugated semantic pool: an adjective with one of 14 superclasses."""


_CLIPN_FRAMES = (
    "a bad photo of a {}.",
    "a photo of many {}.",
    "a sculpture of a {}.",
    "a low resolution photo of the {}.",
    "a rendering of a {}.",
    "graffiti of a {}.",
    "a bad photo of the {}.",
    "a cropped photo of the {}.",
    "a tattoo of a {}.",
    "a bright photo of a {}.",
    "a photo of a clean {}.",
    "a photo of a dirty {}.",
    "a dark photo of the {}.",
    "a drawing of a {}.",
    "a photo of my {}.",
    "a photo of the cool {}.",
    "a close-up photo of a {}.",
    "a black and white photo of the {}.",
    "a painting of the {}.",
    "a painting of a {}.",
    "a pixelated photo of the {}.",
    "a sculpture of the {}.",
    "a bright photo of the {}.",
    "a cropped photo of a {}.",
    "a photo of the dirty {}.",
    "a jpeg corrupted photo of a {}.",
    "a blurry photo of the {}.",
    "a photo of the {}.",
    "a good photo of the {}.",
    "a rendering of the {}.",
    "a {} in a video game.",
    "a photo of one {}.",
    "a doodle of a {}.",
    "a close-up photo of the {}.",
    "a photo of a {}.",
    "the {} in a video game.",
    "a sketch of a {}.",
    "a doodle of the {}.",
    "a low resolution photo of a {}.",
    "a rendition of the {}.",
    "a photo of the clean {}.",
    "a photo of a large {}.",
    "a rendition of a {}.",
    "a photo of a nice {}.",
    "a photo of a weird {}.",
    "a blurry photo of a {}.",
    "art of a {}.",
    "a sketch of the {}.",
    "a pixelated photo of a {}.",
    "itap of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a good photo of a {}.",
    "a photo of the nice {}.",
    "a photo of the small {}.",
    "a photo of the weird {}.",
    "a drawing of the {}.",
    "a photo of the large {}.",
    "a black and white photo of a {}.",
    "a dark photo of a {}.",
    "itap of a {}.",
    "graffiti of the {}.",
    "a photo of a cool {}.",
    "a photo of a small {}.",
    "a tattoo of the {}.",
)


def _with_frame(frame: str) -> str:
    return frame.replace(" of ", " with ").replace(" in a video", " appearing in a video")


def _quoted(frame: str) -> str:
    """Quote a frame: the official file does, and its quotes are encoded with the prompt."""
    comma = "," if frame in {"a photo of a {}.", "a photo with a {}."} else ""
    return f"'{frame}'{comma}"


CLIPN_PROMPTS = Prompts(
    class_name=tuple(_quoted(frame) for frame in (*_CLIPN_FRAMES, *map(_with_frame, _CLIPN_FRAMES)))
)
"""CLIPN (arXiv 2308.12213): 64 frames with "of" and the same with "with", quotes and two stray
commas as published."""
