"""Prompt templates: those of the published systems, and a user's own."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from negrefine.constraints import Strings
from negrefine.errors import InputError
from negrefine.files.reading import read_json, reason


@dataclass(frozen=True)
class Prompts:
    """The templates in which a name stands for "{}"; users may replace any of them.

    Attributes:
        class_name: Templates of class names.
        noun: Templates of nouns; NegRefine also puts "class and negative" pairs into them.
        adjective: Templates of adjectives or adjective phrases.
        no: Templates of class names for CLIPN's "no" encoder; empty means those of `class_name`.

    Example:
        >>> prompts = negrefine.Prompts(class_name=("a drawing of a {}", "an icon of a {}"))
        >>> negrefine.MCM(encoder, prompts=prompts).fit(names).class_features_.shape
        (8, 256)
    """

    class_name: tuple[str, ...]
    noun: tuple[str, ...] = ()
    adjective: tuple[str, ...] = ()
    no: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for field, templates in asdict(self).items():
            Strings()(f"Prompts.{field}", templates)
            object.__setattr__(self, field, tuple(templates))
            for template in templates:
                check_template("prompt template", template)
        if not self.class_name:
            raise InputError("Prompts need at least one template for class names.")

    def as_dict(self) -> dict[str, list[str]]:
        """Return the templates as lists, for JSON."""
        return {field: list(templates) for field, templates in asdict(self).items()}

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> Prompts:
        """Read prompts from a JSON file such as {"class_name": ["a photo of a {}"], "noun": [...]}.

        Raises:
            InputError: The file cannot be read or does not hold lists of templates.
        """
        try:
            data = read_json(path)
        except (OSError, ValueError) as error:
            problem = f"cannot be read as JSON: {reason(error)}"
            raise InputError(f"The prompts {str(path)!r} {problem}.") from error
        known = [field.name for field in fields(cls)]
        lists = isinstance(data, dict) and all(isinstance(t, list) for t in data.values())
        if not lists or not data.keys() <= set(known) or "class_name" not in data:
            raise InputError(
                f"The prompts {str(path)!r} must be a JSON object with 'class_name' and any of "
                f"{', '.join(known[1:])}, each a list of templates."
            )
        try:
            return cls(**data)
        except InputError as error:
            raise InputError(f"In the prompts {str(path)!r}: {error}") from error


def check_template(kind: str, template: str) -> None:
    """Raise InputError unless "{}" occurs in a template exactly once."""
    if template.count("{}") != 1:
        raise InputError(f"The {kind} {template!r} must contain '{{}}' exactly once.")


_PUBLISHED = json.loads((Path(__file__).parent / "data" / "prompts.json").read_text("utf-8"))

MCM_PROMPTS = Prompts(**_PUBLISHED["mcm"])
NEGLABEL_PROMPTS = Prompts(**_PUBLISHED["neglabel"])
CSP_PROMPTS = Prompts(**_PUBLISHED["csp"])
"""Used by CSP and NegRefine."""
CSP_SKETCH_PROMPTS = Prompts(**_PUBLISHED["csp-sketch"])
"""CSP and NegRefine on ImageNet-Sketch."""
CLIPN_PROMPTS = Prompts(**_PUBLISHED["clipn"])
"""64 frames with "of" and the same with "with", quotes and two stray commas as published."""
SUPERCLASS_TEMPLATES: tuple[str, ...] = tuple(_PUBLISHED["superclasses"])
"""CSP's conjugated semantic pool: an adjective with one of 14 superclasses."""
