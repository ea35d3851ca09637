"""Directories that hold something else than a model: each is named for what it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from negrefine import HFJudge, load_encoder
from negrefine.encoders import CLIPEncoder
from negrefine.errors import EncoderError, InputError

WEIGHTS = "model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 605247071\n"


@pytest.fixture
def folder(builtin_dir: Path, tmp_path: Path) -> Path:
    shutil.copytree(builtin_dir, tmp_path / "model")
    return tmp_path / "model"


def refused(folder: Path, said: str) -> None:
    with pytest.raises(EncoderError, match=said) as caught:
        load_encoder(folder, cache=False)
    message = str(caught.value)
    assert str(folder) in message
    assert "\n" not in message
    assert "damaged" not in message


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json"])
def test_a_pointer_of_git_lfs(folder: Path, name: str) -> None:
    (folder / name).write_text(POINTER)
    refused(folder, f"^{name} of .* is a git-LFS pointer .*'git lfs pull'")


def test_a_pointer_in_place_of_a_file_that_is_not_loaded(
    folder: Path, builtin_encoder: CLIPEncoder
) -> None:
    (folder / "open_clip_model.safetensors").write_text(POINTER)
    assert load_encoder(folder, device="cpu").fingerprint == builtin_encoder.fingerprint


@pytest.mark.parametrize("name", [WEIGHTS, "config.json", "tokenizer.json"])
def test_empty_files(folder: Path, name: str) -> None:
    (folder / name).write_text("")
    refused(folder, f"^{name} of .* is empty: download it again")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04 archive", "is a pickled PyTorch file or an archive: get the model in safete"),
        (b"GGUF\x03", "is a GGUF file"),
        (b"<!DOCTYPE html><html>", "is a web page: download the file itself"),
    ],
)
def test_weights_under_a_false_name(folder: Path, content: bytes, said: str) -> None:
    (folder / WEIGHTS).write_bytes(content)
    refused(folder, f"^{WEIGHTS} of .* {said}")


@pytest.mark.parametrize("part", ["", "vision_config"])
def test_quantised_models(folder: Path, part: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (config[part] if part else config)["quantization_config"] = settings
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, r"is quantised \(bitsandbytes\), .* give the original model")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["adapter_config.json", "adapter_model.safetensors"], r"an adapter \(LoRA\).*merge"),
        (["model-q4.gguf"], "GGUF"),
        (["onnx/model.onnx"], "ONNX"),
        (["tf_model.h5"], "TensorFlow"),
        (["open_clip_model.safetensors"], "open_clip"),
        (["model-00001-of-00002.safetensors"], "without model.safetensors.index.json"),
        (["model.fp16.safetensors"], "none called model.safetensors"),
        (["pytorch_model.bin"], "pickled weights are never loaded"),
        (["pytorch_model.bin.index.json", "pytorch_model-1.bin"], "pickled weights are never"),
        (["onnx/model.onnx", "pytorch_model.bin"], "pickled weights are never"),
        ([], "holds no safetensors weights"),
    ],
)
def test_weights_in_other_formats(folder: Path, names: list[str], said: str) -> None:
    (folder / WEIGHTS).unlink()
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    refused(folder, said)


def test_an_adapter_beside_a_whole_model(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    refused(folder, "an adapter .* merge it with its base model")


@pytest.mark.parametrize(
    ("name", "said"),
    [("adapter_config.json", "adapter"), ("a.gguf", "GGUF"), ("a.onnx", "ONNX")],
)
def test_other_formats_without_a_config(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / name).write_text("{}")
    refused(tmp_path, said)


def test_a_judge_in_another_format(tiny_llm: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llm"
    shutil.copytree(tiny_llm, folder)
    (folder / WEIGHTS).rename(folder / "model-Q4_K_M.gguf")
    uses: list[Callable[[HFJudge], object]] = [lambda j: j.identity, lambda j: j._lm]
    for use in uses:
        with pytest.raises(InputError, match="holds a model in GGUF"):
            use(HFJudge(folder, device="cpu"))


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_file_of_a_model_in_place_of_its_directory(folder: Path, name: str) -> None:
    with pytest.raises(EncoderError, match="is not a directory: give '") as caught:
        load_encoder(folder / name)
    assert f"give {str(folder)!r}, the directory that it is in." in str(caught.value)


def test_checkpoints_are_named_in_their_order(builtin_dir: Path, tmp_path: Path) -> None:
    for step in (1000, 500, 20, 3000, 2000):
        shutil.copytree(builtin_dir, tmp_path / f"checkpoint-{step}")
    with pytest.raises(EncoderError, match="folders inside do: give") as caught:
        load_encoder(tmp_path)
    first = ", ".join(repr(str(tmp_path / f"checkpoint-{step}")) for step in (20, 500, 1000))
    assert f"give {first} or one of 2 others." in str(caught.value)


@pytest.mark.parametrize("start", ["", "hub", "hub/models--org--name"])
def test_a_directory_of_the_hubs_cache(builtin_dir: Path, tmp_path: Path, start: str) -> None:
    inside = tmp_path / "hub" / "models--org--name" / "snapshots" / ("a" * 40)
    shutil.copytree(builtin_dir, inside)
    with pytest.raises(EncoderError, match="a folder inside does: give") as caught:
        load_encoder(tmp_path / start)
    assert str(caught.value).endswith(f"give {str(inside)!r}.")
