"""Embeddings of "class and negative" pairs, encoded once for a batch and remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors.scores import multi_match_margins, multi_match_score, stable_topk
from negrefine.encoders.base import Encoder, FloatArray
from negrefine.labels.embedding import embed

if TYPE_CHECKING:
    from torch import Tensor

# Rows by which the memory grows.
_GROWTH = 4096
# Images whose pairs are multiplied at a time: their float64 copies stay in the processor's cache.
_PRODUCT_IMAGES = 32


class PairEmbeddings:
    """Prompt ensembles of pair texts, with a memory of the `max_pairs` used last.

    A pair is identified by one code, made of the numbers that its class name and its negative label
    got when they were first seen; equal texts have equal numbers. The templates are those of nouns,
    for adjective phrases too, as published.
    """

    def __init__(self, encoder: Encoder, templates: Sequence[str], max_pairs: int) -> None:
        self._encoder = encoder
        self._templates = templates
        self._max_pairs = max_pairs
        self._numbers: dict[str, int] = {}
        # Known codes in order, and for each the row of `_rows` that holds its embedding.
        self._codes = np.empty(0, dtype=np.int64)
        self._slots = np.empty(0, dtype=np.int64)
        # When each known code was used last, in calls.
        self._used = np.empty(0, dtype=np.int64)
        self._calls = 0
        self._rows: FloatArray = np.empty((0, 0), dtype=np.float32)

    def __len__(self) -> int:
        """Return how many pairs are remembered."""
        return len(self._codes)

    def numbers(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the numbers of class names or negative labels, int64 (len(texts),)."""
        known = self._numbers
        return np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)

    def __call__(
        self, codes: NDArray[np.int64], text_of: Callable[[int], str]
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """Embed m pairs given by `pair_codes`; only those that are not remembered are encoded.

        Returns a float32 matrix (r, d) of rows of length one, valid until the next call, and int64
        (m,), the row of each pair in it. `text_of` is called only for pairs to encode.
        """
        self._calls += 1
        at, known = self._find(codes)
        self._used[at[known]] = self._calls
        if len(codes) and known.all():
            return self._rows, self._slots[at]
        new = np.flatnonzero(~known)
        texts = [text_of(i) for i in new.tolist()]
        # Codes of a batch repeat where class names do; codes share a text where labels overlap.
        row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        # New negatives come with the same class names again and again.
        with getattr(self._encoder, "keep_prefixes", nullcontext)():
            fresh = embed(self._encoder, list(row_of), self._templates)
        row = np.array([row_of[text] for text in texts], dtype=np.int64)
        old = self._rows[self._slots[at[known]]].reshape(-1, fresh.shape[1])
        table = np.concatenate([old, fresh])
        position = np.empty(len(codes), dtype=np.int64)
        position[known] = np.arange(known.sum())
        position[new] = known.sum() + row
        new_codes, first = np.unique(codes[new], return_index=True)
        self._remember(new_codes[: self._max_pairs], fresh[row[first[: self._max_pairs]]])
        return table, position

    def _find(self, codes: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the index in `_codes` of each code, and whether it is there at all."""
        if not len(self._codes):
            return np.zeros(len(codes), dtype=np.intp), np.zeros(len(codes), dtype=np.bool_)
        at = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        return at, self._codes[at] == codes

    def _remember(self, codes: NDArray[np.int64], rows: FloatArray) -> None:
        """Store rows of new codes, which are in order, in place of those used longest ago."""
        if not len(codes):
            return
        excess = len(self._codes) + len(codes) - self._max_pairs
        slots = np.arange(len(self._codes), min(len(self._codes) + len(codes), self._max_pairs))
        if excess > 0:
            oldest = np.argsort(self._used, kind="stable")[:excess]
            slots = np.concatenate([self._slots[oldest], slots])
            self._codes = np.delete(self._codes, oldest)
            self._slots = np.delete(self._slots, oldest)
            self._used = np.delete(self._used, oldest)
        self._grow(int(slots.max(initial=-1)) + 1, rows.shape[1])
        self._rows[slots] = rows
        at = np.searchsorted(self._codes, codes)
        self._codes = np.insert(self._codes, at, codes)
        self._slots = np.insert(self._slots, at, slots)
        self._used = np.insert(self._used, at, self._calls)

    def _grow(self, n_rows: int, dim: int) -> None:
        """Make room for n rows, and for at least half as many again so that copies stay few."""
        if n_rows <= len(self._rows):
            return
        room = max(n_rows, len(self._rows) * 3 // 2, len(self._rows) + _GROWTH)
        grown = np.empty((min(room, self._max_pairs), dim), dtype=np.float32)
        grown[: len(self._rows)] = self._rows.reshape(-1, dim)
        self._rows = grown


def pair_text(class_name: str, negative: str) -> str:
    """Return the text of a pair, the class name first."""
    return f"{class_name} and {negative}"


def pair_codes(
    class_numbers: NDArray[np.int64], negative_numbers: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return one number for each pair of numbers below 2^31."""
    return (class_numbers << 32) | negative_numbers


@dataclass(frozen=True)
class MultiMatch:
    """S_MM's comparison for n images.

    Attributes:
        class_index: int64 (n, I), the most similar class names, best first.
        negative_index: int64 (n, J), the most similar negative labels, best first.
        pair_similarities: float64 (n, I, J), cosines x.t_ij.
        negative_similarities: float64 (n, J), cosines n_j.
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


class NamePairs:
    """The pairs of K class names and the texts of M negative labels, and their embeddings."""

    def __init__(
        self, embeddings: PairEmbeddings, class_names: Sequence[str], negatives: Sequence[str]
    ) -> None:
        self.embeddings = embeddings
        self.class_names = class_names
        self.negatives = negatives
        self._class_numbers = embeddings.numbers(class_names)
        self._negative_numbers = embeddings.numbers(negatives)

    def match(
        self,
        features: Tensor,
        class_similarities: Tensor,
        negative_similarities: Tensor,
        *,
        k: int,
        logit_scale: float,
        ranks: slice = slice(None),
    ) -> MultiMatch:
        """Compare images with the pairs of their k best class names and k best negative labels.

        Takes float64 normalised features (n, d) and cosines (n, K) and (n, M), and embeds the
        distinct pairs of the whole batch together. `ranks` selects from the k class names.
        """
        class_index = stable_topk(class_similarities, k)[:, ranks]
        negative_index = stable_topk(negative_similarities, k)
        n_negatives = negative_similarities.shape[-1]
        codes = class_index.unsqueeze(2) * n_negatives + negative_index.unsqueeze(1)
        distinct, position = np.unique(codes.cpu().numpy(), return_inverse=True)
        of_class, of_negative = np.divmod(distinct, max(n_negatives, 1))
        table, rows = self.embeddings(
            pair_codes(self._class_numbers[of_class], self._negative_numbers[of_negative]),
            lambda i: pair_text(self.class_names[of_class[i]], self.negatives[of_negative[i]]),
        )
        return MultiMatch(
            class_index,
            negative_index,
            _products(features, table, rows[position].reshape(tuple(codes.shape))),
            negative_similarities.gather(1, negative_index),
            logit_scale,
        )


def _products(features: Tensor, table: FloatArray, rows: NDArray[np.int64]) -> Tensor:
    """Return the cosines of n images with their pairs, which are the rows (n, I, J) of a table."""
    import torch

    cosines = features.new_empty(rows.shape)
    for start in range(0, len(rows), _PRODUCT_IMAGES):
        batch = slice(start, start + _PRODUCT_IMAGES)
        pairs = torch.from_numpy(table[rows[batch]]).to(features.device, features.dtype)
        cosines[batch] = torch.einsum("nd,nijd->nij", features[batch], pairs)
    return cosines
