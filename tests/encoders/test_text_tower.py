"""The text tower with shared prefixes against transformers' plain forward pass."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPConfig, CLIPModel

from negrefine.encoders.text_tower import encode_tokens, length_batches, share_prefixes

CONTEXT, VOCABULARY = 12, 40
START, END = VOCABULARY - 2, VOCABULARY - 1


def small_clip(activation: str) -> CLIPModel:
    sizes = {"num_hidden_layers": 3, "hidden_act": activation, "projection_dim": 16}
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": START,
        "eos_token_id": END,
        "pad_token_id": END,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "image_size": 16,
        "patch_size": 8,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = CLIPConfig(
            text_config={**sizes, **text}, vision_config={**sizes, **vision}, projection_dim=16
        )
        return CLIPModel(config).eval()


MODELS = {name: small_clip(name) for name in ("quick_gelu", "gelu")}

bodies = st.lists(st.integers(0, 3), max_size=CONTEXT - 2)
token_lists = st.lists(bodies.map(lambda body: [START, *body, END]), min_size=1, max_size=120)


def plain(model: CLIPModel, ids: list[list[int]]) -> np.ndarray:
    padded = torch.tensor([row + [END] * (CONTEXT - len(row)) for row in ids])
    with torch.inference_mode():
        return model.text_projection(model.text_model(input_ids=padded).pooler_output).numpy()


def fast(model: CLIPModel, ids: list[list[int]], batch_size: int, budget: int) -> np.ndarray:
    features = np.full((len(ids), 16), np.nan, dtype=np.float32)
    with torch.inference_mode():
        for rows, encoded in encode_tokens(model, ids, batch_size, budget):
            assert np.isnan(features[rows]).all()
            features[rows] = encoded.numpy()
    return features


@pytest.mark.parametrize("name", MODELS)
@settings(deadline=None, max_examples=60)
@given(ids=token_lists, batch_size=st.integers(1, 50), budget=st.integers(1, 400))
def test_equals_the_plain_forward_pass(
    name: str, ids: list[list[int]], batch_size: int, budget: int
) -> None:
    model = MODELS[name]
    np.testing.assert_allclose(
        fast(model, ids, batch_size, budget), plain(model, ids), atol=2e-6, rtol=1e-5
    )


def test_edge_lengths_share_prefixes_correctly() -> None:
    full = [START, *[1] * (CONTEXT - 2), END]
    ids = [full, [START, END], [START, 1, END]] * 40 + [[START, *[1] * 5, 2, END]] * 40
    for model in MODELS.values():
        np.testing.assert_allclose(fast(model, ids, 7, 50), plain(model, ids), atol=2e-6)


def test_an_end_token_inside_a_text_ends_it() -> None:
    model = MODELS["gelu"]
    ids = [[START, 1, END, 2, 3, END], [START, 1, END]]
    features = fast(model, ids, 10, 100)
    np.testing.assert_allclose(features[0], features[1], atol=1e-7)
    np.testing.assert_allclose(features, plain(model, ids), atol=2e-6)


@given(token_lists, st.integers(1, 40))
def test_prefixes_are_shared_by_enough_texts(ids: list[list[int]], min_sharing: int) -> None:
    lengths, rows = share_prefixes(ids, min_sharing)
    groups: dict[tuple[int, int], set[tuple[int, ...]]] = {}
    sizes: dict[tuple[int, int], int] = {}
    for text, length, row in zip(ids, lengths.tolist(), rows.tolist(), strict=True):
        assert 1 <= length < len(text)
        groups.setdefault((length, row), set()).add(tuple(text[:length]))
        sizes[length, row] = sizes.get((length, row), 0) + 1
    for (length, _), prefixes in groups.items():
        assert len(prefixes) == 1
        numbers = sorted(row for other, row in groups if other == length)
        assert numbers == list(range(len(numbers)))
    assert all(size >= min_sharing for (length, _), size in sizes.items() if length > 1)


@given(st.lists(st.integers(1, 77), max_size=200), st.integers(1, 20), st.integers(1, 300))
def test_batches_hold_every_text_once_within_the_budget(
    lengths: list[int], batch_size: int, budget: int
) -> None:
    batches = list(length_batches(lengths, batch_size, budget))
    expected = sorted(range(len(lengths)), key=lambda i: (lengths[i], i))
    assert list(chain.from_iterable(batches)) == expected
    for batch in batches:
        assert len(batch) <= batch_size
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= budget
