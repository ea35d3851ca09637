"""Models that cannot be used."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    CLIPConfig,
    CLIPModel,
)

from judges.tiny_models import (
    QUERIES,
    judge_for,
    make_tokenizer,
)
from negrefine.errors import InputError
from negrefine.judges.base import answer_all


@pytest.fixture
def clip_dir(tmp_path: Path) -> Path:
    """A model of pictures and texts, which generates nothing."""

    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = CLIPConfig(text_config=sizes, vision_config=sizes, projection_dim=8)
    directory = tmp_path / "clip"
    CLIPModel(config).save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return directory


def test_unusable_models_are_one_sentence(
    qwen: Path, tmp_path: Path, clip_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def error(model: str | Path, **options: Any) -> str:
        with pytest.raises(InputError) as raised:
            answer_all(judge_for(model, **options), QUERIES[:2])
        message = str(raised.value)
        assert "\n" not in message
        return message

    assert "is not a directory" in error(tmp_path / "missing")
    assert "cannot be loaded as a causal language model" in error(clip_dir)

    pickled = tmp_path / "pickled"
    shutil.copytree(qwen, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "holds no safetensors weights" in error(pickled)

    damaged = tmp_path / "damaged"
    shutil.copytree(qwen, damaged)
    content = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert "cannot be loaded" in error(damaged)

    bare = tmp_path / "bare"
    shutil.copytree(qwen, bare, ignore=shutil.ignore_patterns("token*", "chat*", "special*"))
    assert "tokenizer" in error(bare)

    assert "device 'abacus' cannot be used" in error(qwen, device="abacus")
    assert "dtype must be" in error(qwen, dtype="float8")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert "The model hub cannot be reached" in error("nobody/nothing")
