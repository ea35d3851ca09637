"""Prompt templates of the published systems, and prompt ensembles."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from negrefine.encoders.base import Encoder, FloatArray
from negrefine.encoders.embedding_cache import ModelCache
from negrefine.errors import InputError
from negrefine.progress import progress_bar

# Bounds the memory for features of single prompts: 32768 x 768 x 4 bytes = 100 MB.
_NAMES_PER_CHUNK = 4096
_PROMPTS_PER_CHUNK = 32768


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
                if template.count("{}") != 1:
                    raise InputError(
                        f"The prompt template {template!r} must contain '{{}}' exactly once."
                    )
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


def embed(
    encoder: Encoder,
    names: Sequence[str],
    templates: Sequence[str],
    *,
    description: str = "Encoding prompts",
    progress: bool = False,
) -> FloatArray:
    """Return the prompt ensemble of each name.

    The features of a name under all templates are averaged as they come, then normalised once
    (CSP, NegRefine; with one template this is the plain normalised feature of MCM and NegLabel).

    Args:
        encoder: Encodes the texts; one with a `text_cache` only those that are not in there.
        names: m strings.
        templates: t strings, each with one "{}".
        description: Caption of the progress bar.
        progress: Draw a progress bar on a terminal.

    Returns:
        float32 of shape (m, d) with rows of length one.
    """
    cache: ModelCache | None = getattr(encoder, "text_cache", None)
    if cache is None or not names:
        return ensemble(
            encoder.encode_texts, names, templates, description=description, progress=progress
        )
    space = hashlib.sha256("\n".join(templates).encode()).hexdigest()
    known = dict(zip(names, cache.get(space, names), strict=True))
    missing = [name for name, row in known.items() if row is None]
    with progress_bar(description, len(known), enabled=progress) as advance:
        advance(len(known) - len(missing))
        for start in range(0, len(missing), _NAMES_PER_CHUNK):
            some = missing[start : start + _NAMES_PER_CHUNK]
            rows = ensemble(encoder.encode_texts, some, templates)
            # Stored as it goes, so that an interrupted run does not start again.
            cache.put(space, some, rows)
            known.update(zip(some, rows, strict=True))
            advance(len(some))
    return np.stack([row for row in map(known.get, names) if row is not None])


def ensemble(
    encode: Callable[[Sequence[str]], FloatArray],
    names: Sequence[str],
    templates: Sequence[str],
    *,
    normalise_each: bool = False,
    description: str = "Encoding prompts",
    progress: bool = False,
) -> FloatArray:
    """Do what `embed` does, with any function from texts to features.

    Args:
        encode: Texts to float32 (m, d).
        names: m strings.
        templates: t strings, each with one "{}".
        normalise_each: Give every prompt the same weight by normalising it before the average, as
            CLIPN does; otherwise longer features weigh more.
        description: Caption of the progress bar.
        progress: Draw a progress bar on a terminal.

    Returns:
        float32 of shape (m, d) with rows of length one.
    """
    chunks = []
    step = max(1, min(_NAMES_PER_CHUNK, _PROMPTS_PER_CHUNK // len(templates)))
    with progress_bar(description, len(names), enabled=progress) as advance:
        for start in range(0, len(names), step):
            chunk = names[start : start + step]
            texts = [template.replace("{}", name) for name in chunk for template in templates]
            features = encode(texts)
            if normalise_each:
                features = normalise(features)
            mean = features.reshape(len(chunk), len(templates), -1).mean(axis=1)
            chunks.append(normalise(mean))
            advance(len(chunk))
    return np.concatenate(chunks) if chunks else encode([])


def normalise(features: FloatArray) -> FloatArray:
    """Return features (n, d) scaled to rows of length one; a zero row stays zero."""
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    unit: FloatArray = features / np.maximum(length, np.finfo(np.float32).tiny)
    return unit
