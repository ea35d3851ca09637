"""Embeddings that travel between machines: same bytes, nothing replaced, damage refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from negrefine import CSP, Lexicon, load_encoder
from negrefine.encoders.base import FloatArray
from negrefine.encoders.embedding_cache import EmbeddingCache
from negrefine.encoders.embedding_exchange import (
    Exported,
    Imported,
    export_embeddings,
    import_embeddings,
)
from negrefine.errors import InputError
from negrefine.labels.embedding import normalise

SPACES = (f"{'ab' * 32} torch.float32 cpu whole {'0' * 64}", f"{'cd' * 32} other {'1' * 64}")
TEXTS = ["white cat", "b\nc", "漢字", "", "dog"]


def unit_rows(n: int, dim: int, seed: int) -> FloatArray:
    rows = np.random.default_rng(seed).standard_normal((n, dim))
    return normalise(rows.astype(np.float32))


def filled(path: Path, *, backwards: bool = False) -> EmbeddingCache:
    cache = EmbeddingCache(path)
    for i, space in enumerate(SPACES):
        order = slice(None, None, -1 if backwards else 1)
        cache.put(space, TEXTS[order], unit_rows(len(TEXTS), 4 + i, seed=i)[order])
    return cache


@pytest.fixture
def file(tmp_path: Path) -> Path:
    cache = filled(tmp_path / "a.sqlite")
    done = export_embeddings(cache, cache.spaces(), tmp_path / "e.safetensors")
    assert done == Exported(n=10, n_spaces=2, n_damaged=0)
    return tmp_path / "e.safetensors"


def test_a_fit_on_another_machine_encodes_nothing(small_lexicon: Lexicon, tmp_path: Path) -> None:
    def fitted(cache: Path) -> tuple[list[str], CSP]:
        encoder = load_encoder("builtin", device="cpu", cache=cache)
        asked: list[str] = []
        encode = encoder.encode_texts
        encoder.encode_texts = lambda texts, *a, **k: asked.extend(texts) or encode(texts, *a, **k)  # type: ignore[method-assign, func-returns-value]
        detector = CSP(encoder, lexicon=small_lexicon, lexicon_files="full", n_groups=2)
        return asked, detector.fit(["dog", "cat"])

    asked, first = fitted(tmp_path / "a.sqlite")
    assert asked
    here = EmbeddingCache(tmp_path / "a.sqlite")
    export_embeddings(here, here.spaces(), tmp_path / "e.safetensors")
    import_embeddings(EmbeddingCache(tmp_path / "b.sqlite"), tmp_path / "e.safetensors")
    asked, second = fitted(tmp_path / "b.sqlite")
    assert asked == []
    assert second.identity() == first.identity()


def test_equal_embeddings_give_equal_bytes(file: Path, tmp_path: Path) -> None:
    other = filled(tmp_path / "b.sqlite", backwards=True)
    export_embeddings(other, other.spaces(), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()
    third = EmbeddingCache(tmp_path / "c.sqlite")
    import_embeddings(third, file)
    export_embeddings(third, third.spaces(), tmp_path / "third.safetensors")
    assert (tmp_path / "third.safetensors").read_bytes() == file.read_bytes()


def test_import_adds_and_never_replaces(file: Path, tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "b.sqlite")
    mine = unit_rows(2, 4, seed=9)
    cache.put(SPACES[0], ["dog", "mine"], mine)
    assert import_embeddings(cache, file) == Imported(new=9, known=1, differing=1, refused=0)
    assert import_embeddings(cache, file) == Imported(new=0, known=10, differing=1, refused=0)
    rows, known = cache.rows(SPACES[0], ["dog", "mine", *TEXTS[:4]], 4)
    assert known.all()
    np.testing.assert_array_equal(rows[:2], mine)
    np.testing.assert_array_equal(rows[2:], unit_rows(5, 4, seed=0)[:4])


def test_rows_that_are_no_embeddings_are_refused(tmp_path: Path) -> None:
    source = EmbeddingCache(tmp_path / "a.sqlite")
    rows = unit_rows(4, 4, seed=0)
    rows[0] *= 2
    rows[1, 0] = np.nan
    rows[2] = 0
    source.put(SPACES[0], list("abcd"), rows)
    export_embeddings(source, source.spaces(), tmp_path / "e.safetensors")
    cache = EmbeddingCache(tmp_path / "b.sqlite")
    assert import_embeddings(cache, tmp_path / "e.safetensors") == Imported(2, 0, 0, 2)
    assert cache.rows(SPACES[0], list("abcd"), 4)[1].tolist() == [False, False, True, True]
    third = EmbeddingCache(tmp_path / "c.sqlite")
    third.put(SPACES[0], ["x"], unit_rows(1, 3, seed=0))
    assert import_embeddings(third, tmp_path / "e.safetensors") == Imported(0, 0, 0, 4)


def test_a_changed_byte_is_refused(file: Path, tmp_path: Path) -> None:
    content = file.read_bytes()
    damaged = tmp_path / "damaged.safetensors"
    for place in np.random.default_rng(0).choice(len(content), 150, replace=False).tolist():
        damaged.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        cache = EmbeddingCache(tmp_path / "b.sqlite")
        with pytest.raises(InputError, match="damaged or not what 'negrefine cache export' writes"):
            import_embeddings(cache, damaged)
        assert not cache.path.exists()


def rewritten(
    file: Path,
    target: Path,
    *,
    metadata: str | None = None,
    tensors: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    with safe_open(file, framework="numpy") as stored:
        arrays = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        text = stored.metadata()["negrefine"]
    save_file({**arrays, **tensors}, target, {"negrefine": text if metadata is None else metadata})
    return target


def test_other_files_are_refused(file: Path, tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "b.sqlite")
    bad = tmp_path / "bad.safetensors"
    with safe_open(file, framework="numpy") as stored:
        content = json.loads(stored.metadata()["negrefine"])

    def said(path: Path) -> str:
        with pytest.raises(InputError) as caught:
            import_embeddings(cache, path)
        assert not cache.path.exists()
        return str(caught.value)

    assert "does not exist" in said(tmp_path / "none")
    (tmp_path / "text").write_text("hello")
    assert "nothing of it is stored" in said(tmp_path / "text")
    assert "not a regular file" in said(tmp_path)
    newer = json.dumps({**content, "version": 2})
    assert "format version 2" in said(rewritten(file, bad, metadata=newer))
    assert "holds embeddings" in said(rewritten(file, bad, metadata="{}"))
    content["spaces"][0]["space"] = "no digest"
    assert "is no space" in said(rewritten(file, bad, metadata=json.dumps(content)))
    wide = {"0.vectors": unit_rows(5, 9, seed=0)}
    assert "another shape or type" in said(rewritten(file, bad, tensors=wide))
    swapped = {"0.vectors": unit_rows(5, 4, seed=0)[::-1].copy()}
    assert "do not fit their checksums" in said(rewritten(file, bad, tensors=swapped))
    ends = {"0.ends": np.array([5, 4, 3, 2, 100], dtype=np.int64)}
    assert "texts do not end" in said(rewritten(file, bad, tensors=ends))


def test_more_than_the_cache_may_have(file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than half of what the cache may have"):
        import_embeddings(EmbeddingCache(tmp_path / "b.sqlite", max_bytes=100), file)
