"""Tries of tokens against sets of prefixes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from negrefine.encoders.token_trie import trie_blocks

texts_of_tokens = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=9), max_size=60)


@given(texts_of_tokens, st.integers(1, 70), st.integers(1, 100))
def test_blocks_hold_every_text_once_and_every_prefix_of_their_texts_once(
    texts: list[list[int]], max_texts: int, max_nodes: int
) -> None:
    blocks = list(trie_blocks(texts, max_texts, max_nodes))
    places = [int(i) for block in blocks for i in block.texts]
    assert places == sorted(range(len(texts)), key=lambda i: (texts[i], i))
    for block in blocks:
        members = [tuple(texts[i]) for i in block.texts]
        assert len(members) <= max_texts
        assert len(members) == 1 or len(block.tokens) <= max_nodes
        prefixes = sorted({text[:n] for text in members for n in range(1, len(text) + 1)})
        number = {prefix: node for node, prefix in enumerate(prefixes)}
        assert block.tokens.tolist() == [prefix[-1] for prefix in prefixes]
        assert block.depths.tolist() == [len(prefix) - 1 for prefix in prefixes]
        assert block.last.tolist() == [number[text] for text in members]
        for node, prefix in enumerate(prefixes):
            path = [number[prefix[:n]] for n in range(1, len(prefix) + 1)]
            extended = [above for above in range(node + 1) if node < block.ends[above]]
            assert extended == path


@given(texts_of_tokens.filter(bool), st.integers(1, 100))
def test_a_block_is_as_large_as_it_may_be(texts: list[list[int]], max_nodes: int) -> None:
    blocks = list(trie_blocks(texts, 1000, max_nodes))
    for block, following in pairwise(blocks):
        members = [tuple(texts[i]) for i in [*block.texts, following.texts[0]]]
        assert len({t[:n] for t in members for n in range(1, len(t) + 1)}) > max_nodes
