"""The text engine before the token trie: one shared prefix for each text, the rest padded.

For `text_engine`, which measures the present engine against it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from negrefine.encoders.dual_model import length_batches

# Fewer texts with a common prefix make batches that are too small to gain from it.
_MIN_SHARING = 32
# Keys and values of n prefixes of P tokens in one layer, each (n, heads, P, head_dim).
_KeysValues: TypeAlias = tuple[Tensor, Tensor]


def encode_tokens(
    model: Any, ids: Sequence[Sequence[int]], batch_size: int, token_budget: int
) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Encode token sequences with the text tower and projection of a CLIP model.

    `ids` have start and end tokens and no padding. At most `batch_size` sequences are encoded at a
    time, of at most `token_budget` tokens without shared prefixes. Yields indices into `ids`, and
    the features of these texts, (len(indices), d).
    """
    # What follows the first end token has no effect on the pooled position.
    texts = [list(row[: row.index(row[-1]) + 1]) for row in ids]
    lengths, rows = share_prefixes(texts, _MIN_SHARING)
    for length in np.unique(lengths).tolist():
        members = np.flatnonzero(lengths == length)
        _, first = np.unique(rows[members], return_index=True)
        prefixes = [texts[i][:length] for i in members[first]]
        cached = _read_prefixes(model, prefixes, token_budget)
        rest_lengths = [len(texts[i]) - length for i in members]
        for batch in length_batches(rest_lengths, batch_size, token_budget):
            indices = members[batch]
            rest = [texts[i][length:] for i in indices]
            yield indices, _pool(model, rest, cached, length, rows[indices])


def share_prefixes(
    texts: Sequence[Sequence[int]], min_sharing: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split each text after its longest prefix that `min_sharing` texts have in common.

    The first token always counts as shared; the last one never does. Texts with a longer shared
    prefix do not count. Returns for each text the length of its prefix, and the number of that
    prefix among the distinct prefixes of its length, from 0.
    """
    sizes = np.array([len(text) for text in texts], dtype=np.intp)
    tokens = np.full((len(texts), sizes.max(initial=1)), -1, dtype=np.int64)
    tokens[np.arange(tokens.shape[1]) < sizes[:, None]] = [t for text in texts for t in text]
    order = np.lexsort(tokens.T[::-1])
    tokens, sizes = tokens[order], sizes[order]
    equal = np.cumprod(tokens[1:] == tokens[:-1], axis=1, dtype=np.intp).sum(axis=1)
    lengths = np.zeros(len(texts), dtype=np.intp)
    rows = np.zeros(len(texts), dtype=np.intp)
    for length in range(tokens.shape[1] - 1, 0, -1):
        # In sorted order, texts with a common prefix follow each other.
        run = np.concatenate([[0], np.cumsum(equal < length)])[: len(texts)]
        free = (lengths == 0) & (sizes > length)
        counts = np.bincount(run[free], minlength=len(texts))
        taken = free & (counts[run] >= (min_sharing if length > 1 else 1))
        lengths[taken] = length
        rows[taken] = np.unique(run[taken], return_inverse=True)[1]
    inverse = np.argsort(order, kind="stable")
    return lengths[inverse], rows[inverse]


def _read_prefixes(model: Any, prefixes: list[list[int]], token_budget: int) -> list[_KeysValues]:
    """Return for each layer the keys and values of prefixes of one length."""
    length = len(prefixes[0])
    step = max(1, token_budget // length)
    layers = model.text_model.encoder.layers
    parts: list[list[_KeysValues]] = [[] for _ in layers]
    for start in range(0, len(prefixes), step):
        hidden = _embed(model, prefixes[start : start + step], 0)
        blocked = torch.ones(length, length, dtype=torch.bool, device=hidden.device).triu(1)
        for layer, cached in zip(layers, parts, strict=True):
            x = layer.layer_norm1(hidden)
            cached.append(_keys_and_values(layer, x))
            if layer is not layers[-1]:
                hidden = _run_block(layer, hidden, x, *cached[-1], blocked)
    return [(torch.cat([k for k, _ in part]), torch.cat([v for _, v in part])) for part in parts]


def _pool(
    model: Any,
    texts: list[list[int]],
    cached: list[_KeysValues],
    prefix_length: int,
    rows: NDArray[np.intp],
) -> Tensor:
    """Return the projected features at the last token of each text, (n, d)."""
    longest = max(map(len, texts))
    padded = [text + text[-1:] * (longest - len(text)) for text in texts]
    hidden = _embed(model, padded, prefix_length)
    device = hidden.device
    row = torch.from_numpy(rows).to(device)
    last = torch.tensor([len(text) - 1 for text in texts], device=device)
    place = torch.arange(prefix_length + longest, device=device) - prefix_length
    blocked = place > torch.arange(longest, device=device).unsqueeze(1)
    layers = model.text_model.encoder.layers
    for layer, (prefix_keys, prefix_values) in zip(layers, cached, strict=True):
        x = layer.layer_norm1(hidden)
        key, value = _keys_and_values(layer, x)
        key = torch.cat([prefix_keys[row], key], dim=2)
        value = torch.cat([prefix_values[row], value], dim=2)
        if layer is layers[-1]:
            # Only the end token is read from the last layer.
            each = torch.arange(len(texts), device=device)
            x, hidden = x[each, last].unsqueeze(1), hidden[each, last].unsqueeze(1)
            blocked = (place > last.unsqueeze(1)).unsqueeze(1).unsqueeze(1)
        hidden = _run_block(layer, hidden, x, key, value, blocked)
    pooled: Tensor = model.text_projection(model.text_model.final_layer_norm(hidden[:, 0]))
    return pooled


def _embed(model: Any, tokens: list[list[int]], first_position: int) -> Tensor:
    embeddings = model.text_model.embeddings
    positions = embeddings.position_embedding.weight
    span = positions[first_position : first_position + len(tokens[0])]
    embedded: Tensor = embeddings.token_embedding(torch.tensor(tokens, device=span.device)) + span
    return embedded


def _keys_and_values(layer: Any, x: Tensor) -> _KeysValues:
    attention = layer.self_attn
    return _split(attention, attention.k_proj(x)), _split(attention, attention.v_proj(x))


def _split(attention: Any, x: Tensor) -> Tensor:
    """Split (n, t, width) into heads: (n, heads, t, head_dim)."""
    return x.view(*x.shape[:-1], attention.num_heads, -1).transpose(1, 2)


def _run_block(
    layer: Any, hidden: Tensor, x: Tensor, key: Tensor, value: Tensor, blocked: Tensor
) -> Tensor:
    """Return the output of a layer for its input `hidden`, which is `x` once normalised."""
    attention = layer.self_attn
    query = _split(attention, attention.q_proj(x))
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    weights = torch.softmax(scores.masked_fill(blocked, -math.inf), dim=-1)
    hidden = hidden + attention.out_proj((weights @ value).transpose(1, 2).flatten(2))
    result: Tensor = hidden + layer.mlp(layer.layer_norm2(hidden))
    return result
