"""The class names that NegFilter asks about for each label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from negrefine.detectors.scores import stable_topk
from negrefine.encoders.base import Encoder
from negrefine.labels.embedding import embed


def class_candidates(
    encoder: Encoder,
    texts: Sequence[str],
    class_names: Sequence[str],
    *,
    n_candidates: int,
    wordnet_candidates: bool = False,
    progress: bool = False,
) -> list[list[str]]:
    """Return for each text the class names that NegFilter asks about, in order.

    Those are the nearest ones, after those among its hypernyms or in its gloss with
    `wordnet_candidates`."""
    nearest = nearest_class_names(encoder, texts, class_names, n_candidates, progress=progress)
    if not wordnet_candidates:
        return nearest
    from negrefine.judges.wordnet_candidates import with_wordnet_candidates

    return with_wordnet_candidates(texts, nearest, class_names)


def nearest_class_names(
    encoder: Encoder,
    texts: Sequence[str],
    class_names: Sequence[str],
    n_candidates: int,
    *,
    progress: bool = False,
) -> list[list[str]]:
    """Return for each text the min(n_candidates, K) most similar class names, best first.

    Both sides are encoded as bare strings, without a template, as published. Ties keep the order
    of the class names.
    """
    import torch

    label_features = embed(
        encoder, texts, ("{}",), description="Finding nearest classes", progress=progress
    )
    class_features = embed(encoder, class_names, ("{}",)).astype(np.float64)
    cosines = torch.from_numpy(label_features.astype(np.float64) @ class_features.T)
    order = stable_topk(cosines, n_candidates).tolist()
    return [[class_names[k] for k in row] for row in order]
