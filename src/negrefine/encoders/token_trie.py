"""Texts as a tree of their prefixes, cut into blocks.

Each distinct prefix of the texts is a node, named after its last token. A causal text tower
computes the same for a prefix in whatever text it occurs, so it needs each node once: 200 texts of
S_MM's pairs have 2,700 tokens and 1,100 nodes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TrieBlock:
    """The n distinct prefixes of t texts, in lexicographic order: a prefix before what extends it.

    Attributes:
        texts: Positions of the texts in the list that `trie_blocks` got, (t,).
        tokens: The last token of each prefix, int64 (n,).
        depths: Its position, from 0, (n,).
        ends: The nodes from a prefix to before `ends` are itself and what extends it, (n,).
        last: The node of each text's last token, (t,).
    """

    texts: NDArray[np.intp]
    tokens: NDArray[np.int64]
    depths: NDArray[np.intp]
    ends: NDArray[np.intp]
    last: NDArray[np.intp]


def trie_blocks(
    texts: Sequence[Sequence[int]], max_texts: int, max_nodes: int
) -> Iterator[TrieBlock]:
    """Cut texts, each of one token at least, into blocks of neighbours in lexicographic order.

    A block has at most `max_texts` texts and at most `max_nodes` nodes; one text alone may have
    more. A prefix that goes on in the next block is a node of both.
    """
    sizes = np.array([len(text) for text in texts], dtype=np.intp)
    tokens = np.full((len(texts), sizes.max(initial=1)), -1, dtype=np.int64)
    tokens[np.arange(tokens.shape[1]) < sizes[:, None]] = [t for text in texts for t in text]
    order = np.lexsort(tokens.T[::-1])
    tokens, sizes = tokens[order], sizes[order]
    # Equal padding behind two equal texts is no common prefix.
    equal = np.cumprod(tokens[1:] == tokens[:-1], axis=1, dtype=np.intp).sum(axis=1)
    common = np.concatenate([[0], np.minimum(equal, sizes[1:])])[: len(texts)]
    n_nodes = np.cumsum(sizes - common)
    start = 0
    while start < len(texts):
        room = max_nodes - sizes[start] + n_nodes[start]
        end = int(np.searchsorted(n_nodes, room, side="right"))
        end = min(max(end, start + 1), start + max_texts)
        block = slice(start, end)
        yield _block(order[block], tokens[block, : sizes[block].max()], sizes[block], common[block])
        start = end


def _block(
    texts: NDArray[np.intp],
    tokens: NDArray[np.int64],
    sizes: NDArray[np.intp],
    common: NDArray[np.intp],
) -> TrieBlock:
    """Return the block of sorted texts, of which each has `common` tokens with the one before."""
    position = np.arange(tokens.shape[1])
    inside = position < sizes[:, None]
    new = inside & (position >= common[:, None])
    new[0] = inside[0]
    text, depths = np.nonzero(new)
    numbers = np.zeros(tokens.shape, dtype=np.intp)
    numbers[new] = np.arange(len(text))
    # Numbers grow with the rows, so a prefix that is not new has the largest one above it.
    paths = np.maximum.accumulate(numbers, axis=0)
    nodes = np.arange(len(text))
    on_path = paths[text][position <= depths[:, None]]
    return TrieBlock(
        texts=texts,
        tokens=tokens[text, depths],
        depths=depths,
        ends=nodes + np.bincount(on_path, minlength=len(nodes)),
        last=paths[np.arange(len(texts)), sizes - 1],
    )
