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
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from negrefine.encoders.prefix_memory import PrefixMemory
from negrefine.encoders.token_trie import TrieBlock, trie_blocks

# A prefix of so many texts of a block is worth keeping.
_MIN_SHARING = 2


def encode_tokens(
    model: Any,
    ids: Sequence[Sequence[int]],
    batch_size: int,
    max_nodes: int,
    memory: PrefixMemory | None = None,
) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Encode token sequences with the text tower and projection of a CLIP model.

    `ids` have start and end tokens and no padding. At most `batch_size` sequences are encoded at a
    time, with at most `max_nodes` distinct prefixes, which all attend to each other: memory grows
    with the square of `max_nodes`. One sequence alone may have more. Yields indices into `ids`, and
    the features of these texts, (len(indices), d).

    Prefixes that are in `memory` are not computed again, and those that several texts share are
    put there. Then the last digits of features depend on what was encoded before.
    """
    # What follows the first end token has no effect on the pooled position.
    texts = [list(row[: row.index(row[-1]) + 1]) for row in ids]
    call = 0 if memory is None else memory.begin(model)
    for block in trie_blocks(texts, batch_size, max_nodes):
        yield block.texts, _encode_block(model, block, memory, call)


@dataclass(frozen=True)
class _Known:
    """Nodes that are in the memory, and their keys and values, (n, layers, 2, width)."""

    nodes: NDArray[np.intp]
    keys_values: Tensor


def _encode_block(model: Any, block: TrieBlock, memory: PrefixMemory | None, call: int) -> Tensor:
    """Return the features of the texts of a block, (t, d)."""
    if memory is None:
        return _run(model, block, None, np.empty(0, dtype=np.intp))[0]
    inner = np.ones(len(block.tokens), dtype=np.bool_)
    # Keys and values do not tell what the last layer makes of a node.
    inner[block.last] = False
    nodes = np.flatnonzero(inner)
    prefixes = [block.prefix(node) for node in nodes.tolist()]
    found = memory.get(call, prefixes)
    here = [i for i, each in enumerate(found) if each is not None]
    known = None
    if here:
        known = _Known(nodes[here], torch.stack([each for each in found if each is not None]))
    shared = block.n_texts[nodes] >= _MIN_SHARING
    shared[here] = False
    features, keys_values = _run(model, block, known, nodes[shared])
    memory.put(call, [prefixes[i] for i in np.flatnonzero(shared).tolist()], keys_values)
    return features


def _run(
    model: Any, block: TrieBlock, known: _Known | None, kept: NDArray[np.intp]
) -> tuple[Tensor, Tensor]:
    """Return features (t, d), and keys and values (len(kept), layers, 2, width) of some nodes."""
    nodes = keyed = np.arange(len(block.tokens))
    if known is not None:
        nodes = np.delete(nodes, known.nodes)
        keyed = np.concatenate([known.nodes, nodes])
    embeddings, layers = model.text_model.embeddings, model.text_model.encoder.layers
    positions = embeddings.position_embedding.weight

    def on_device(array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(positions.device)

    hidden: Tensor = embeddings.token_embedding(on_device(block.tokens[nodes]))
    hidden = hidden + positions[on_device(block.depths[nodes])]
    # A node attends to itself and to what it extends.
    node = on_device(nodes).unsqueeze(1)
    seen = (on_device(keyed) <= node) & (node < on_device(block.ends[keyed]))
    bias = torch.zeros_like(seen, dtype=hidden.dtype).masked_fill_(~seen, -math.inf)
    last = on_device(np.searchsorted(nodes, block.last))
    kept_rows = on_device(np.searchsorted(nodes, kept))
    collected = []
    for depth, layer in enumerate(layers):
        x = layer.layer_norm1(hidden)
        key, value = layer.self_attn.k_proj(x), layer.self_attn.v_proj(x)
        if len(kept):
            collected.append(torch.stack([key[kept_rows], value[kept_rows]], dim=1))
        if known is not None:
            key = torch.cat([known.keys_values[:, depth, 0], key])
            value = torch.cat([known.keys_values[:, depth, 1], value])
        if layer is layers[-1]:
            # Only the last token of a text is read from the last layer.
            x, hidden, bias = x[last], hidden[last], bias[last]
        hidden = _run_block(layer, hidden, x, key, value, bias)
    features: Tensor = model.text_projection(model.text_model.final_layer_norm(hidden))
    keys_values = torch.stack(collected, dim=1) if collected else hidden.new_empty(0)
    return features, keys_values


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
