"""The text tower on a trie of tokens against transformers' plain forward pass."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPConfig, CLIPModel

from negrefine.encoders.text_tower import encode_tokens

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
        pooled = model.text_model(input_ids=padded).pooler_output
        return model.text_projection(pooled).float().numpy()


def fast(model: CLIPModel, ids: list[list[int]], batch_size: int, max_nodes: int) -> np.ndarray:
    features = np.full((len(ids), 16), np.nan, dtype=np.float32)
    with torch.inference_mode():
        for rows, encoded in encode_tokens(model, ids, batch_size, max_nodes):
            assert len(rows) <= batch_size
            assert np.isnan(features[rows]).all()
            features[rows] = encoded.float().numpy()
    return features


def distance(features: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest distance of two rows relative to the length of the expected one."""
    apart = np.linalg.norm(features - expected, axis=1)
    return float((apart / np.linalg.norm(expected, axis=1)).max(initial=0))


@pytest.mark.parametrize("name", MODELS)
@settings(deadline=None, max_examples=25)
@given(ids=token_lists, batch_size=st.integers(1, 50), max_nodes=st.integers(1, 400))
def test_equals_the_plain_forward_pass(
    name: str, ids: list[list[int]], batch_size: int, max_nodes: int
) -> None:
    model = MODELS[name]
    assert distance(fast(model, ids, batch_size, max_nodes), plain(model, ids)) < 1e-5


def test_equals_one_text_at_a_time() -> None:
    generator = np.random.default_rng(0)
    ids = [
        [START, *generator.integers(0, 4, size).tolist(), END]
        for size in generator.integers(0, CONTEXT - 1, 80)
    ]
    model = MODELS["quick_gelu"]
    alone = np.concatenate([plain(model, [row]) for row in ids])
    assert distance(fast(model, ids, 1000, 256), alone) < 1e-5
    assert distance(np.concatenate([fast(model, [row], 1, 1) for row in ids]), alone) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_as_near_to_the_exact_features_as_plain_half_precision(
    dtype: torch.dtype,
) -> None:
    generator = np.random.default_rng(1)
    ids = [
        [START, *generator.integers(0, 6, size).tolist(), END]
        for size in generator.integers(0, CONTEXT - 1, 200)
    ]
    half = deepcopy(MODELS["quick_gelu"]).to(dtype)
    # What the rounded weights give without further rounding.
    exact = plain(deepcopy(half).float(), ids)
    rounding = distance(plain(half, ids), exact)
    assert 0 < distance(fast(half, ids, 50, 100), exact) < 1.5 * rounding


def test_no_texts_have_no_features() -> None:
    assert list(encode_tokens(MODELS["gelu"], [], 10, 100)) == []


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


def test_a_text_that_begins_another_one() -> None:
    # Another last token than the end token of the longer text, so that neither is cut.
    ids = [[START, 1, 2], [START, 1, 2, 3, END], [START, 1], [START, 1, 2]]
    model = MODELS["quick_gelu"]
    with torch.inference_mode():
        states = [
            model.text_model(input_ids=torch.tensor([row])).last_hidden_state[:, -1] for row in ids
        ]
        expected = model.text_projection(torch.cat(states)).numpy()
    assert distance(fast(model, ids, 10, 100), expected) < 1e-5


def test_a_block_goes_through_the_layers_with_no_more_rows_than_it_may_have() -> None:
    model = deepcopy(MODELS["gelu"])
    rows: list[int] = []
    for layer in model.text_model.encoder.layers:
        layer.mlp.register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    generator = np.random.default_rng(2)
    ids = [[START, *generator.integers(0, 9, 8).tolist(), END] for _ in range(120)]
    fast(model, ids, 1000, 64)
    assert 50 < max(rows) <= 64
    rows.clear()
    # One text alone may need more.
    fast(model, ids, 1000, 3)
    assert max(rows) == 10
    rows.clear()
    fast(model, ids, 5, 64)
    assert max(rows[2::3]) == 5
