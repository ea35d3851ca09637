"""Prompt ensembles: one feature for a name under several templates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from negrefine.encoders.base import Encoder, FloatArray
from negrefine.progress import progress_bar

if TYPE_CHECKING:
    from negrefine.encoders.embedding_cache import EmbeddingCache

# Bounds the memory for features of single prompts: 32768 x 768 x 4 bytes = 100 MB.
_NAMES_PER_CHUNK = 4096
_PROMPTS_PER_CHUNK = 32768


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
    return embed_counted(encoder, names, templates, description=description, progress=progress)[0]


def embed_counted(
    encoder: Encoder,
    names: Sequence[str],
    templates: Sequence[str],
    *,
    description: str = "Encoding prompts",
    progress: bool = False,
) -> tuple[FloatArray, int]:
    """Do what `embed` does, and also return how many names were encoded, not found on disk."""
    cache: EmbeddingCache | None = getattr(encoder, "text_cache", None)
    if cache is None or not names:
        rows = ensemble(
            encoder.encode_texts, names, templates, description=description, progress=progress
        )
        return rows, len(names)
    # An encoder with a cache says in `text_space` what else decides its text features, and in `dim`
    # their length.
    cached: Any = encoder
    digest = hashlib.sha256(json.dumps(list(templates)).encode()).hexdigest()
    space = f"{cached.text_space} {digest}"
    known = dict(zip(names, cache.get(space, names), strict=True))
    missing = [name for name, row in known.items() if row is None or row.shape != (cached.dim,)]
    with progress_bar(description, len(known), enabled=progress) as advance:
        advance(len(known) - len(missing))
        for start in range(0, len(missing), _NAMES_PER_CHUNK):
            batch = missing[start : start + _NAMES_PER_CHUNK]
            rows = ensemble(encoder.encode_texts, batch, templates)
            # Stored as it goes, so that an interrupted run does not start again.
            cache.put(space, batch, rows)
            known.update(zip(batch, rows, strict=True))
            advance(len(batch))
    found = np.stack([row for row in map(known.get, names) if row is not None])
    return found, len(missing)


def ensemble(
    encode: Callable[[Sequence[str]], FloatArray],
    names: Sequence[str],
    templates: Sequence[str],
    *,
    normalise_each: bool = False,
    description: str = "Encoding prompts",
    progress: bool = False,
) -> FloatArray:
    """Do what `embed` does, with any function from texts to features and without a cache.

    Args:
        encode: Texts to float32 (m, d).
        names: As for `embed`, like all arguments that are not explained here.
        normalise_each: Give every prompt the same weight by normalising it before the average, as
            CLIPN does; otherwise longer features weigh more.
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
