"""S_MM: images against the pairs of class names and negative labels that are nearest to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors.kept_pairs import KeptPairs
from negrefine.detectors.pair_embeddings import PairEmbeddings
from negrefine.detectors.scores import multi_match_margins, multi_match_score, stable_topk
from negrefine.encoders.base import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

# Images whose pairs are multiplied at a time: their float64 copies stay in the processor's cache.
_PRODUCT_IMAGES = 32


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
        distinct, position, times = np.unique(
            codes.cpu().numpy(), return_inverse=True, return_counts=True
        )
        of_class, of_negative = np.divmod(distinct, max(n_negatives, 1))
        table, rows = self.embeddings(
            pair_codes(self._class_numbers[of_class], self._negative_numbers[of_negative]),
            lambda i: pair_text(self.class_names[of_class[i]], self.negatives[of_negative[i]]),
            times,
        )
        return MultiMatch(
            class_index,
            negative_index,
            _products(features, table, rows[position].reshape(tuple(codes.shape))),
            negative_similarities.gather(1, negative_index),
            logit_scale,
        )

    def commonest(self, n: int) -> KeptPairs:
        """Return the at most n remembered pairs for which most images asked, most asked first."""
        codes, asked, rows = self.embeddings.known()
        # -1 for pairs of other labels, which share the embeddings.
        classes = _indices(self._class_numbers, codes >> 32)
        negatives = _indices(self._negative_numbers, codes & 0xFFFFFFFF)
        order = np.lexsort((negatives, classes, -asked))
        order = order[(classes[order] >= 0) & (negatives[order] >= 0)][:n]
        return KeptPairs(classes[order], negatives[order], asked[order], rows[order])

    def remember_saved(self, arrays: Mapping[str, NDArray[Any]], dim: int) -> KeptPairs | None:
        """Take up and return the pairs that a saved detector keeps, None if it keeps none.

        Raises InputError for arrays that do not fit.
        """
        sizes = len(self.class_names), len(self.negatives)
        kept = KeptPairs.from_arrays(arrays, *sizes, dim)
        if kept is not None:
            numbers = (
                self._class_numbers[kept.class_index],
                self._negative_numbers[kept.negative_index],
            )
            self.embeddings.remember(pair_codes(*numbers), kept.features, kept.asked)
        return kept


def _indices(numbers: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first place of each wanted number among `numbers`, -1 where it is not there."""
    places = {number: place for place, number in reversed(list(enumerate(numbers.tolist())))}
    return np.array([places.get(number, -1) for number in wanted.tolist()], dtype=np.int64)


def _products(features: Tensor, table: FloatArray, rows: NDArray[np.int64]) -> Tensor:
    """Return the cosines of n images with their pairs, which are the rows (n, I, J) of a table."""
    import torch

    cosines = features.new_empty(rows.shape)
    for start in range(0, len(rows), _PRODUCT_IMAGES):
        batch = slice(start, start + _PRODUCT_IMAGES)
        pairs = torch.from_numpy(table[rows[batch]]).to(features.device, features.dtype)
        cosines[batch] = torch.einsum("nd,nijd->nij", features[batch], pairs)
    return cosines
