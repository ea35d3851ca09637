"""`negrefine cache`, and `--max-words` from `fit` to `labels`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negrefine.encoders.embedding_cache import EmbeddingCache

SPACE = f"{'ab' * 32} torch.float32 cpu whole {'0' * 64}"
OTHER = f"{'cd' * 32} torch.float32 cpu whole {'0' * 64}"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    cache = EmbeddingCache(tmp_path / "e.sqlite")
    for space in (SPACE, OTHER):
        cache.put(space, ["a", "b", "c"], np.eye(3, dtype=np.float32))
    return tmp_path / "e.sqlite"


def test_export_and_import(quick: Any, stored: Path, tmp_path: Path) -> None:
    listed = quick("cache", "info", "--embeddings", stored)
    assert listed.out.splitlines()[0] == "embeddings\tdim\tMiB\tlast_used\tspace"
    assert [line.split("\t")[4] for line in listed.out.splitlines()[1:]] == [SPACE, OTHER]
    assert "6 embeddings in 2 spaces." in listed.err
    out, both = tmp_path / "one.safetensors", tmp_path / "both.safetensors"
    export = ("cache", "export", "--embeddings", stored)
    assert "Wrote 3 embeddings in 1 space to" in quick(*export, out, "--encoder", "ab" * 4).err
    assert "6 embeddings in 2 spaces" in quick(*export, both).err
    there = ("--embeddings", tmp_path / "there.sqlite")
    first = quick("cache", "import", out, both, *there)
    assert [line.partition(": ")[2] for line in first.err.splitlines()] == [
        "3 new, 0 known, 0 refused.",
        "3 new, 3 known, 0 refused.",
    ]
    content = both.read_bytes()
    assert "add --force" in quick(*export, both).failed()
    assert quick(*export, both, "--force").code == 0
    assert both.read_bytes() == content
    assert (
        "holds no embeddings of the encoder 'ffffffff'"
        in quick(*export, tmp_path / "x", "--encoder", "f" * 8).failed()
    )
    (tmp_path / "mine.txt").write_text("mine")
    assert (
        "is not what negrefine writes" in quick(*export, tmp_path / "mine.txt", "--force").failed()
    )
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (
        "There is no file of embeddings"
        in quick("cache", "info", "--embeddings", tmp_path / "none").failed()
    )
    both.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert "nothing of it is stored" in quick("cache", "import", both, *there).failed()


def test_max_words_is_said_wherever_it_matters(
    quick: Any, lexicon_file: Path, tmp_path: Path
) -> None:
    classes, out = tmp_path / "classes.txt", tmp_path / "d"
    classes.write_text("dog\ncat\n")
    fit = ("fit", "--classes", classes, "--encoder", "builtin", "--out", out)
    done = quick(*fit, "--lexicon-files", "noun.shape", "--max-words", "60")
    said = "(max_words 60): scores are not those of the full lexicon."
    assert said in done.out
    assert "Left out 2" in quick("labels", out).err
    assert said in quick("labels", out).err
    picture = next((Path(__file__).parents[2] / "src/negrefine/demo/images/animals").glob("*.png"))
    assert said in quick("explain", out, picture).err
    assert (
        "frequencies of the words"
        in quick(*fit, "--lexicon", lexicon_file, "--max-words", "5").failed()
    )
