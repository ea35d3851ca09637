"""S_MM's pair memory against the plain formula, image by image and pair by pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from negrefine.detectors.multi_match import MultiMatch, NamePairs, pair_codes
from negrefine.detectors.pair_embeddings import PairEmbeddings, PairLookups
from negrefine.encoders.base import FloatArray

DIM = 6
TEMPLATES = ("a photo of {}", "{}")


class Encoder:
    """Random but repeatable features of texts, and a note of every text asked for."""

    text_cache = None

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode_texts(self, texts: Sequence[str], batch_size: int = 1024) -> FloatArray:  # noqa: ARG002
        self.asked += texts
        rows = [
            np.random.default_rng(list(text.encode())).standard_normal(DIM).astype(np.float32)
            for text in texts
        ]
        return np.stack(rows) if rows else np.empty((0, DIM), dtype=np.float32)


def pair_feature(text: str) -> np.ndarray:
    rows = Encoder().encode_texts([t.replace("{}", text) for t in TEMPLATES]).mean(axis=0)
    return (rows / np.linalg.norm(rows)).astype(np.float64)


def plain(
    x: np.ndarray, s: np.ndarray, n: np.ndarray, names: list[str], labels: list[str], k: int
) -> float:
    """S_MM of one image as the paper writes it, with scale 10."""
    top_names = sorted(range(len(names)), key=lambda i: (-s[i], i))[:k]
    top_labels = sorted(range(len(labels)), key=lambda j: (-n[j], j))[:k]
    scores = []
    for i in top_names:
        for j in top_labels:
            pair = np.exp(10 * x @ pair_feature(f"{names[i]} and {labels[j]}"))
            scores.append(pair / (pair + np.exp(10 * n[j])))
    return float(max(scores))


def match(
    memory: PairEmbeddings,
    x: np.ndarray,
    s: np.ndarray,
    n: np.ndarray,
    names: list[str],
    labels: list[str],
    k: int,
) -> MultiMatch:
    tensors = [torch.from_numpy(a) for a in (x, s, n)]
    return NamePairs(memory, names, labels).match(*tensors, k=k, logit_scale=10)


# Names repeat, and "a and b" with "c" is the same text as "a" with "b and c".
NAMES = st.lists(st.sampled_from(["a", "b", "a and b", "dog"]), min_size=1, max_size=5)
LABELS = st.lists(st.sampled_from(["c", "b and c", "x", "y", "z"]), min_size=1, max_size=6)


@settings(deadline=None)
@given(
    names=NAMES,
    labels=LABELS,
    k=st.integers(1, 7),
    max_pairs=st.sampled_from([0, 1, 3, 10, 1000]),
    n_images=st.integers(1, 7),
    seed=st.integers(0, 2**31),
)
def test_equals_the_plain_formula_for_every_size_of_memory(
    names: list[str], labels: list[str], k: int, max_pairs: int, n_images: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    memory = PairEmbeddings(Encoder(), TEMPLATES, max_pairs)  # type: ignore[arg-type]
    for _ in range(3):
        x = random.standard_normal((n_images, DIM))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        # Rounded, so that there are ties.
        s = random.standard_normal((n_images, len(names))).round(1)
        n = random.uniform(-1, 1, (n_images, len(labels))).round(1)
        scores = match(memory, x, s, n, names, labels, k).score().numpy()
        expected = [plain(x[i], s[i], n[i], names, labels, k) for i in range(n_images)]
        np.testing.assert_allclose(scores, expected, atol=1e-6)
        assert len(memory) <= max_pairs


def test_a_pair_is_encoded_once_until_it_is_forgotten() -> None:
    encoder = Encoder()
    memory = PairEmbeddings(encoder, TEMPLATES, 4)  # type: ignore[arg-type]

    def ask(*pairs: tuple[str, str]) -> list[str]:
        encoder.asked.clear()
        firsts, seconds = [p[0] for p in pairs], [p[1] for p in pairs]
        codes = pair_codes(memory.numbers(firsts), memory.numbers(seconds))
        table, rows = memory(codes, lambda i: f"{firsts[i]} and {seconds[i]}")
        for (first, second), row in zip(pairs, rows, strict=True):
            np.testing.assert_allclose(table[row], pair_feature(f"{first} and {second}"), atol=1e-6)
        return [text for text in encoder.asked if not text.startswith("a photo")]

    assert ask(("a", "b"), ("a", "c"), ("a", "b")) == ["a and b", "a and c"]
    assert ask(("a", "c")) == []
    assert ask(("a", "b"), ("d", "e"), ("d", "f")) == ["d and e", "d and f"]
    assert ask(("g", "h")) == ["g and h"]
    # "a and c" was used longest ago.
    assert ask(("a", "b"), ("d", "e"), ("d", "f"), ("g", "h")) == []
    assert ask(("a", "c")) == ["a and c"]
    assert len(memory) == 4


@pytest.mark.parametrize("n_images", [0, 1])
def test_no_image_and_one_image(n_images: int) -> None:
    memory = PairEmbeddings(Encoder(), TEMPLATES, 10)  # type: ignore[arg-type]
    x = np.ones((n_images, DIM)) / np.sqrt(DIM)
    result = match(
        memory, x, np.ones((n_images, 2)), np.ones((n_images, 3)), ["a", "b"], ["x", "y", "z"], 5
    )
    assert result.score().shape == (n_images,)
    assert result.pair_similarities.shape == (n_images, 2, 3)


def test_lookups_are_counted_by_where_the_embedding_came_from() -> None:
    encoder = Encoder()
    memory = PairEmbeddings(encoder, TEMPLATES, 10)  # type: ignore[arg-type]
    names, labels = ["a", "b"], ["x", "y", "z"]
    x = np.ones((4, DIM)) / np.sqrt(DIM)
    s, n = np.tile([0.2, 0.1], (4, 1)), np.tile([0.3, 0.2, 0.1], (4, 1))
    assert np.isnan(memory.lookups.hit_rate)
    match(memory, x, s, n, names, labels, 2)
    # Four images ask for the same 2 x 2 pairs, each of which is encoded once.
    assert memory.lookups == PairLookups(asked=16, encoded=4, from_disk=0)
    assert memory.lookups.from_memory == 12
    assert memory.lookups.hit_rate == 0.75
    match(memory, x[:1], s[:1], n[:1, ::-1].copy(), names, labels, 2)
    assert memory.lookups == PairLookups(asked=20, encoded=6, from_disk=0)
    assert len(set(encoder.asked)) == 2 * 6


@settings(deadline=None, max_examples=50)
@given(
    names=NAMES, labels=LABELS, k=st.integers(1, 4), n=st.integers(0, 9), seed=st.integers(0, 2**31)
)
def test_the_commonest_pairs_are_those_of_most_images(
    names: list[str], labels: list[str], k: int, n: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    memory = PairEmbeddings(Encoder(), TEMPLATES, 1000)  # type: ignore[arg-type]
    pairs = NamePairs(memory, names, labels)
    asked: Counter[tuple[int, int]] = Counter()
    for size in (3, 1, 2):
        x = random.standard_normal((size, DIM))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        s = random.standard_normal((size, len(names))).round(1)
        m = random.uniform(-1, 1, (size, len(labels))).round(1)
        result = pairs.match(*map(torch.from_numpy, (x, s, m)), k=k, logit_scale=10)
        for row in range(size):
            for i in result.class_index[row].tolist():
                for j in result.negative_index[row].tolist():
                    asked[names.index(names[i]), labels.index(labels[j])] += 1
    expected = sorted(asked, key=lambda pair: (-asked[pair], pair))[:n]
    kept = pairs.commonest(n)
    assert list(zip(kept.class_index.tolist(), kept.negative_index.tolist(), strict=True)) == (
        expected
    )
    assert kept.asked.tolist() == [asked[pair] for pair in expected]
    for (i, j), row in zip(expected, kept.features, strict=True):
        np.testing.assert_allclose(row, pair_feature(f"{names[i]} and {labels[j]}"), atol=1e-6)


def test_a_small_memory_takes_up_the_first_of_too_many_pairs() -> None:
    encoder = Encoder()
    memory = PairEmbeddings(encoder, TEMPLATES, 2)  # type: ignore[arg-type]
    codes = np.array([9, 4, 7])
    rows = np.eye(DIM, dtype=np.float32)[:3]
    memory.remember(codes, rows, np.array([5, 3, 2]))
    known, asked, features = memory.known()
    assert known.tolist() == [4, 9]
    assert asked.tolist() == [3, 5]
    np.testing.assert_array_equal(features, rows[[1, 0]])
    # One that is there already is not put there twice.
    memory.remember(codes[1:2], rows[2:], np.array([8]))
    assert memory.known()[0].tolist() == [4, 9]
