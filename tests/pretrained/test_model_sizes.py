"""Configurations whose sizes are not those of the weights are refused before anything is built."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from negrefine import HFJudge, load_encoder
from negrefine.encoders import CLIPEncoder
from negrefine.errors import EncoderError, InputError

Changed = Callable[[Path, dict[str, Any]], Path]


@pytest.fixture
def changed(tmp_path: Path) -> Changed:
    """Copies a model and changes fields of its config.json, named "part.field" or "field"."""

    def changed(source: Path, changes: dict[str, Any]) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(source, folder)
        config = json.loads((folder / "config.json").read_text())
        for path, value in changes.items():
            part, _, field = path.rpartition(".")
            (config[part] if part else config)[field] = value
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return changed


def refused_at_once(use: Callable[[], object], error: type[Exception], said: str) -> None:
    start = time.process_time()
    with pytest.raises(error, match=said) as caught:
        use()
    assert time.process_time() - start < 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text_config.num_hidden_layers": 100_000}, "num_hidden_layers as 100,000"),
        ({"vision_config.num_hidden_layers": 10**12}, "num_hidden_layers as 1,000,000,000,000"),
        ({"vision_config.num_hidden_layers": 90}, "num_hidden_layers as 90, .* have 5 layers"),
        ({"text_config.num_hidden_layers": 3}, "num_hidden_layers as 3, .* have 4 layers"),
        ({"text_config.num_hidden_layers": 0}, "num_hidden_layers as 0: correct it"),
        ({"vision_config.num_hidden_layers": -5}, "num_hidden_layers as -5: correct it"),
        ({"vision_config.num_attention_heads": -6}, "num_attention_heads as -6: correct it"),
        ({"vision_config.num_attention_heads": 0}, "num_attention_heads as 0: correct it"),
        ({"text_config.hidden_size": 10**9}, "hidden_size as 1,000,000,000"),
        ({"text_config.hidden_size": 8184}, "4 layers of width 8,184"),
        ({"text_config.hidden_size": 384}, "hidden_size 384 .* the weights have it as 8189 x 192"),
        ({"vision_config.hidden_size": 384}, "vision_config, so vision_model.*patch_embedding"),
        ({"text_config.intermediate_size": 8000}, "intermediate_size 8000 in text_config"),
        ({"text_config.vocab_size": 10**10}, "vocab_size as 10,000,000,000"),
        ({"text_config.max_position_embeddings": 10**10}, "max_position_embeddings 10000000000"),
        ({"text_config.max_position_embeddings": -1}, "max_position_embeddings -1"),
        ({"vision_config.image_size": 10**9}, "image_size 1000000000 and patch_size 8"),
        ({"vision_config.image_size": [48, 48]}, r"image_size as \[48, 48\], and a positive whole"),
        ({"vision_config.patch_size": 0}, "patch_size as 0, and a positive whole number"),
        ({"vision_config.patch_size": 16}, "patch_size 16"),
        ({"projection_dim": 512}, "projection_dim 512, so text_projection.weight is 512 x 192"),
        ({"vision_config": None}, "config.json of .* has no vision_config, and the weights"),
        ({"text_config.hidden_size": "wide"}, r"config.json of .* is unusable \(.*: correct it"),
        ({"text_config.hidden_size": 192.5}, r"config.json of .* is unusable \(.*: correct it"),
        ({"text_config": 3}, r"config.json of .* is unusable \(.*: correct it"),
    ],
)
def test_sizes_that_are_not_those_of_the_weights(
    builtin_dir: Path, changed: Changed, changes: dict[str, Any], said: str
) -> None:
    folder = changed(builtin_dir, changes)
    refused_at_once(lambda: load_encoder(folder, cache=False), EncoderError, said)


def test_weights_as_part_of_a_larger_model(
    builtin_dir: Path, changed: Changed, builtin_encoder: CLIPEncoder
) -> None:
    folder = changed(builtin_dir, {})
    tensors = load_file(folder / "model.safetensors")
    prefixed = {f"clip.{key}": value for key, value in tensors.items()}
    save_file(prefixed, folder / "model.safetensors", metadata={"format": "pt"})
    encoder = load_encoder(folder, device="cpu", cache=False)
    np.testing.assert_array_equal(
        encoder.encode_texts(["cat"]), builtin_encoder.encode_texts(["cat"])
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 100_000}, "num_hidden_layers as 100,000"),
        ({"num_hidden_layers": -1}, "num_hidden_layers as -1: correct it"),
        ({"hidden_size": 10**9}, "hidden_size as 1,000,000,000"),
        ({"hidden_size": 400, "num_hidden_layers": 30}, "30 layers of width 400"),
        ({"intermediate_size": 96}, r"has the shape .*64.*, and config.json says .*96"),
        ({"vocab_size": 10**9}, "vocab_size as 1,000,000,000"),
        ({"num_key_value_heads": 0}, "num_key_value_heads as 0: correct it"),
    ],
)
def test_sizes_of_a_judge(
    tiny_llm: Path, changed: Changed, changes: dict[str, Any], said: str
) -> None:
    judge = HFJudge(changed(tiny_llm, changes), device="cpu")
    # The first import of this part of transformers takes longer than all else.
    from transformers import AutoModelForCausalLM  # noqa: F401

    refused_at_once(lambda: judge._lm, InputError, said)
