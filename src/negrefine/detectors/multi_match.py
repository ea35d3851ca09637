"""Embeddings of "class and negative" pairs, encoded once for a batch and remembered."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from negrefine.detectors.scores import multi_match_margins, multi_match_score, stable_topk
from negrefine.encoders.base import Encoder, FloatArray
from negrefine.labels.prompts import embed


class PairEmbeddings:
    """Prompt ensembles of pair texts, with a bounded memory of those used last.

    Args:
        encoder: Encodes the texts.
        templates: Noun templates; they serve adjective phrases too, as published.
        max_pairs: Most texts to remember (2 KB each at d = 512).
    """

    def __init__(self, encoder: Encoder, templates: Sequence[str], max_pairs: int) -> None:
        self._encoder = encoder
        self._templates = templates
        self._max_pairs = max_pairs
        self._known: OrderedDict[str, FloatArray] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> FloatArray:
        """Return the embeddings of distinct texts, float32 (len(texts), d), rows of length one."""
        if not texts:
            return self._encoder.encode_texts([])
        new = [text for text in texts if text not in self._known]
        fresh = dict(zip(new, embed(self._encoder, new, self._templates), strict=True))
        rows = []
        for text in texts:
            if text in fresh:
                rows.append(fresh[text])
            else:
                self._known.move_to_end(text)
                rows.append(self._known[text])
        # Copies, because a view would keep the features of its whole batch alive.
        self._known.update((text, row.copy()) for text, row in fresh.items())
        while len(self._known) > self._max_pairs:
            self._known.popitem(last=False)
        return np.stack(rows)


def pair_text(class_name: str, negative: str) -> str:
    """Return the text of a pair, the class name first."""
    return f"{class_name} and {negative}"


@dataclass(frozen=True)
class MultiMatch:
    """S_MM's comparison for n images.

    Attributes:
        class_index: int64 (n, I), the most similar class names, best first.
        negative_index: int64 (n, J), the most similar negative labels, best first.
        pair_similarities: float64 (n, I, J), cosines x.t_ij.
        negative_similarities: float64 (n, J), cosines n_j.
        logit_scale: Factor on cosines.
    """

    class_index: Tensor
    negative_index: Tensor
    pair_similarities: Tensor
    negative_similarities: Tensor
    logit_scale: float

    def score(self) -> Tensor:
        """Return S_MM, float64 (n,)."""
        return multi_match_score(
            self.pair_similarities, self.negative_similarities, self.logit_scale
        )

    def winners(self) -> list[tuple[int, int]]:
        """Return for each image the position (i, j) of the pair that decided S_MM."""
        margins = multi_match_margins(self.pair_similarities, self.negative_similarities)
        width = margins.shape[2]
        return [divmod(int(flat), width) for flat in margins.flatten(1).argmax(dim=1)]


def match_pairs(
    features: Tensor,
    class_similarities: Tensor,
    negative_similarities: Tensor,
    class_names: Sequence[str],
    negatives: Sequence[str],
    embed_pairs: PairEmbeddings,
    *,
    k: int,
    logit_scale: float,
) -> MultiMatch:
    """Compare each image with the pairs of its k best class names and k best negative labels.

    The distinct pairs of the whole batch are embedded together.

    Args:
        features: float64 (n, d), normalised image features.
        class_similarities: float64 (n, K).
        negative_similarities: float64 (n, M).
        class_names: The K class names.
        negatives: The texts of the M negative labels.
        embed_pairs: Embeds pair texts.
        k: min(k, K) class names and min(k, M) negative labels are paired.
        logit_scale: Factor on cosines.
    """
    class_index = stable_topk(class_similarities, k)
    negative_index = stable_topk(negative_similarities, k)
    n_negatives = negative_similarities.shape[-1]
    codes = class_index.unsqueeze(2) * n_negatives + negative_index.unsqueeze(1)
    distinct, position = torch.unique(codes, return_inverse=True)
    texts = [
        pair_text(class_names[code // n_negatives], negatives[code % n_negatives])
        for code in distinct.tolist()
    ]
    # Two codes share a text where class names repeat or labels overlap.
    row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    rows = torch.tensor([row_of[text] for text in texts], dtype=torch.int64)
    table = torch.from_numpy(embed_pairs(list(row_of)))
    embedded = table[rows].to(features.device, features.dtype)
    return MultiMatch(
        class_index,
        negative_index,
        torch.einsum("nd,nijd->nij", features, embedded[position]),
        negative_similarities.gather(1, negative_index),
        logit_scale,
    )
