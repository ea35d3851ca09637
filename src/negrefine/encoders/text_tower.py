"""CLIP's text tower without repeated work: each distinct prefix of the texts is computed once.

The tower is causal and pooled at the end token, so a text's features do not depend on what follows
that token, and the hidden state of a prefix does not depend on what follows the prefix. The nodes
of a trie (`token_trie`) go through the layers as the rows of one matrix without padding, and each
attends to its own path. Attention is computed between all nodes of a block and masked: blocks are
small enough for this to cost less than gathering the keys of each path.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from negrefine.encoders.token_trie import TrieBlock, trie_blocks


def encode_tokens(
    model: Any, ids: Sequence[Sequence[int]], batch_size: int, max_nodes: int
) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Encode token sequences with the text tower and projection of a CLIP model.

    `ids` have start and end tokens and no padding. At most `batch_size` sequences are encoded at a
    time, with at most `max_nodes` distinct prefixes, which all attend to each other: memory grows
    with the square of `max_nodes`. One sequence alone may have more. Yields indices into `ids`, and
    the features of these texts, (len(indices), d).
    """
    # What follows the first end token has no effect on the pooled position.
    texts = [list(row[: row.index(row[-1]) + 1]) for row in ids]
    for block in trie_blocks(texts, batch_size, max_nodes):
        yield block.texts, _encode_block(model, block)


def _encode_block(model: Any, block: TrieBlock) -> Tensor:
    """Return the features of the texts of a block, (t, d)."""
    embeddings, layers = model.text_model.embeddings, model.text_model.encoder.layers
    positions = embeddings.position_embedding.weight

    def on_device(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(positions.device)

    hidden: Tensor = embeddings.token_embedding(on_device(block.tokens))
    hidden = hidden + positions[on_device(block.depths)]
    # A node attends to itself and to what it extends.
    nodes = torch.arange(len(block.tokens), device=positions.device)
    node = nodes.unsqueeze(1)
    seen = (nodes <= node) & (node < on_device(block.ends))
    bias = torch.zeros_like(seen, dtype=hidden.dtype).masked_fill_(~seen, -math.inf)
    last = on_device(block.last)
    for layer in layers:
        x = layer.layer_norm1(hidden)
        key, value = layer.self_attn.k_proj(x), layer.self_attn.v_proj(x)
        if layer is layers[-1]:
            # Only the last token of a text is read from the last layer.
            x, hidden, bias = x[last], hidden[last], bias[last]
        hidden = _run_block(layer, hidden, x, key, value, bias)
    features: Tensor = model.text_projection(model.text_model.final_layer_norm(hidden))
    return features


def _run_block(
    layer: Any, hidden: Tensor, x: Tensor, key: Tensor, value: Tensor, bias: Tensor
) -> Tensor:
    """Return the output of a layer for its input `hidden`, (n, width), `x` once normalised.

    `bias`, (n, number of keys), is added to the scores of attention: 0 or -inf.
    """
    attention = layer.self_attn
    query, key, value = (
        each.view(1, len(each), attention.num_heads, -1).transpose(1, 2)
        for each in (attention.q_proj(x), key, value)
    )
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    hidden = hidden + attention.out_proj(mixed[0].transpose(0, 1).flatten(1))
    result: Tensor = hidden + layer.mlp(layer.layer_norm2(hidden))
    return result
