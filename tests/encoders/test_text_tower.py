"""The text tower on a trie of tokens against transformers' plain forward pass."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CLIPConfig, CLIPModel

from negrefine.encoders import CLIPEncoder
from negrefine.encoders.prefix_memory import PrefixMemory
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


def fast(
    model: CLIPModel,
    ids: list[list[int]],
    batch_size: int,
    max_nodes: int,
    memory: PrefixMemory | None = None,
) -> np.ndarray:
    features = np.full((len(ids), 16), np.nan, dtype=np.float32)
    with torch.inference_mode():
        for rows, encoded in encode_tokens(model, ids, batch_size, max_nodes, memory):
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
    expected = plain(model, ids)
    assert distance(fast(model, ids, batch_size, max_nodes), expected) < 1e-5
    # Room for 12 prefixes of 3 layers, two vectors of 32 numbers in each.
    memory = PrefixMemory(12 * 3 * 2 * 32 * 4)
    for part in (ids, ids[::2], ids):
        # The second time with prefixes of the first, some of them displaced by the third.
        features = fast(model, part, batch_size, max_nodes, memory)
        assert distance(features, expected if part is ids else expected[::2]) < 1e-5
        assert memory.n_bytes <= memory.max_bytes


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
    memory = PrefixMemory(2**20)
    assert 0 < distance(fast(half, ids, 50, 100), exact) < 1.5 * rounding
    for _ in range(2):
        assert 0 < distance(fast(half, ids, 50, 100, memory), exact) < 1.5 * rounding
    assert len(memory) > 10


def test_no_texts_have_no_features() -> None:
    assert list(encode_tokens(MODELS["gelu"], [], 10, 100, PrefixMemory(1000))) == []


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
    memory = PrefixMemory(2**20)
    with torch.inference_mode():
        states = [
            model.text_model(input_ids=torch.tensor([row])).last_hidden_state[:, -1] for row in ids
        ]
        expected = model.text_projection(torch.cat(states)).numpy()
    for kept in (None, memory, memory):
        assert distance(fast(model, ids, 10, 100, kept), expected) < 1e-5
    # The other order: a prefix that is kept from longer texts is a text itself.
    longer = PrefixMemory(2**20)
    fast(model, [[START, 1, 2, 3, END], [START, 1, 2, 4, END]], 10, 100, longer)
    assert len(longer) == 3
    assert distance(fast(model, ids, 10, 100, longer), expected) < 1e-5


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


def test_kept_prefixes_are_not_computed_again() -> None:
    model = deepcopy(MODELS["gelu"])
    rows: list[int] = []
    model.text_model.encoder.layers[0].mlp.register_forward_hook(
        lambda _, given, __: rows.append(len(given[0]))
    )
    memory = PrefixMemory(2**20)
    names = [[1, 2, 3], [1, 2, 4]]
    first, second = (
        [[START, *name, 5, word, END] for name in names for word in words]
        for words in ((6, 7, 8), (9, 10, 11))
    )
    fast(model, first, 100, 100, memory)
    kept = {bytes(np.array([START, *p], dtype=np.int64)) for p in ([], [1], [1, 2])}
    kept |= {
        bytes(np.array([START, *name, *rest], dtype=np.int64))
        for name in names
        for rest in ([], [5])
    }
    assert set(memory._kept) == kept
    assert distance(fast(model, second, 100, 100, memory), plain(MODELS["gelu"], second)) < 1e-5
    # Two nodes, word and end token, for each of six texts.
    assert rows == [len(kept) + 12, 12]


def test_changed_weights_empty_the_memory() -> None:
    model = deepcopy(MODELS["gelu"])
    other = deepcopy(model)
    ids = [[START, 1, 2, word, END] for word in range(3, 9)]
    memory = PrefixMemory(2**20)
    fast(model, ids, 100, 100, memory)
    assert len(memory) == 3
    with torch.no_grad():
        other.text_model.encoder.layers[0].self_attn.k_proj.weight.mul_(2)
    assert distance(plain(other, ids), plain(model, ids)) > 1e-3
    assert distance(fast(other, ids, 100, 100, memory), plain(other, ids)) < 1e-5
    with torch.no_grad():
        other.text_model.encoder.layers[1].mlp.fc1.weight.mul_(-1)
    assert distance(fast(other, ids, 100, 100, memory), plain(other, ids)) < 1e-5
    bias = other.text_model.encoder.layers[0].layer_norm1.bias
    bias.data = bias.data + 1
    assert distance(fast(other, ids, 100, 100, memory), plain(other, ids)) < 1e-5


def test_the_memory_drops_what_was_used_longest_ago() -> None:
    model = MODELS["gelu"]
    size = 3 * 2 * 32 * 4
    memory = PrefixMemory(5 * size)

    def pairs(name: int) -> list[list[int]]:
        return [[START, name, 5, word, END] for word in (6, 7)]

    def kept() -> set[int]:
        return {
            np.frombuffer(key, dtype=np.int64)[1:2].tolist()[0]
            for key in memory._kept
            if len(key) > 8
        }

    fast(model, pairs(1), 10, 100, memory)
    fast(model, pairs(2), 10, 100, memory)
    assert memory.n_bytes == len(memory) * size == 5 * size
    fast(model, pairs(1), 10, 100, memory)
    fast(model, pairs(3), 10, 100, memory)
    assert kept() == {1, 3}
    # More than fits: the first of them stay, and are found the next time.
    many = [row for name in range(10, 20) for row in pairs(name)]
    fast(model, many, 100, 100, memory)
    assert kept() == {10, 11}
    assert memory.n_bytes == 5 * size
    assert distance(fast(model, many, 100, 100, memory), plain(model, many)) < 1e-5
    assert kept() == {10, 11}


def test_threads_share_a_memory() -> None:
    models = [MODELS["gelu"], deepcopy(MODELS["gelu"])]
    with torch.no_grad():
        models[1].text_model.embeddings.token_embedding.weight.mul_(3)
    memory = PrefixMemory(8 * 3 * 2 * 32 * 4)
    jobs = [
        (models[i // 10 % 2], [[START, i % 7, 5, word, END] for word in range(i % 5, 12)])
        for i in range(60)
    ]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda job: fast(*job, 4, 20, memory), jobs))
    for (model, ids), features in zip(jobs, results, strict=True):
        assert distance(features, plain(model, ids)) < 1e-5
    assert memory.n_bytes <= memory.max_bytes


def test_an_encoder_keeps_prefixes_where_it_is_told_to(builtin_encoder: CLIPEncoder) -> None:
    texts = [f"a photo of a {name} and {word}" for name in ("cat", "dog") for word in "abcde"]
    others = [text + "x" for text in texts]
    memory = builtin_encoder._prefixes
    plainly = builtin_encoder.encode_texts(others)
    before = len(memory)
    with builtin_encoder.keep_prefixes():
        builtin_encoder.encode_texts(texts)
        kept = len(memory)
        assert kept >= before + 2
        with ThreadPoolExecutor(1) as pool:
            # Not in other threads, which encode what they did before bit for bit.
            elsewhere = pool.submit(builtin_encoder.encode_texts, others).result()
        np.testing.assert_array_equal(elsewhere, plainly)
        assert len(memory) == kept
        assert distance(builtin_encoder.encode_texts(others), plainly) < 1e-5
    np.testing.assert_array_equal(builtin_encoder.encode_texts(others), plainly)
    assert memory.n_bytes == len(memory) * 4 * 2 * 192 * 4 <= memory.max_bytes == 2**27
