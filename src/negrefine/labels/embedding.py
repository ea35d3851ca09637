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

# A killed fit repeats one chunk at most; smaller ones have fewer beginnings in common.
_NAMES_PER_CHUNK = 2048
# Bounds the memory for features of single prompts: 32768 x 768 x 4 bytes = 100 MB.
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
    if not names:
        return ensemble(encoder.encode_texts, names, templates), 0
    cache: EmbeddingCache | None = getattr(encoder, "text_cache", None)
    # Neighbours in the alphabet begin alike, and what texts begin with is encoded once.
    distinct = sorted(set(names))
    place = {name: i for i, name in enumerate(distinct)}
    if cache is None:
        rows, known = None, np.zeros(len(distinct), dtype=np.bool_)
    else:
        # An encoder with a cache says in `text_space` what else decides its text features, and in
        # `dim` their length.
        cached: Any = encoder
        digest = hashlib.sha256(json.dumps(list(templates)).encode()).hexdigest()
        space = f"{cached.text_space} {digest}"
        rows, known = cache.rows(space, distinct, cached.dim)
    missing = np.flatnonzero(~known)
    with progress_bar(
        description, len(distinct), enabled=progress, weight=len(templates)
    ) as advance:
        advance.drop(len(distinct) - len(missing))
        for start in range(0, len(missing), _NAMES_PER_CHUNK):
            chunk = missing[start : start + _NAMES_PER_CHUNK]
            batch = [distinct[i] for i in chunk]
            with advance.shared(len(batch)):
                encoded = ensemble(encoder.encode_texts, batch, templates)
            if rows is None:
                rows = np.empty((len(distinct), encoded.shape[1]), dtype=np.float32)
            rows[chunk] = encoded
            if cache is not None:
                # Stored as it goes, so that an interrupted run does not start again.
                cache.put(space, batch, encoded)
    assert rows is not None  # noqa: S101 - there is a name, and it is known or was encoded
    return rows[[place[name] for name in names]], len(missing)


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
    with progress_bar(description, len(names), enabled=progress, weight=len(templates)) as advance:
        for start in range(0, len(names), step):
            chunk = names[start : start + step]
            texts = [template.replace("{}", name) for name in chunk for template in templates]
            with advance.shared(len(chunk)):
                features = encode(texts)
            if normalise_each:
                features = normalise(features)
            mean = features.reshape(len(chunk), len(templates), -1).mean(axis=1)
            chunks.append(normalise(mean))
    return np.concatenate(chunks) if chunks else encode([])


def normalise(features: FloatArray) -> FloatArray:
    """Return features (n, d) scaled to rows of length one; a zero row stays zero."""
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    unit: FloatArray = features / np.maximum(length, np.finfo(np.float32).tiny)
    return unit
