"""Which files of a model directory are loaded and are part of its identity."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from negrefine import HFJudge, load_encoder
from negrefine.encoders import CLIPEncoder
from negrefine.encoders.clipn_checkpoint import convert_clipn
from negrefine.errors import EncoderError, InputError

INDEX = "model.safetensors.index.json"


def write(tensors: dict[str, np.ndarray], file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file, metadata={"format": "pt"})


def split(folder: Path, names: tuple[str, ...], **changes: Any) -> None:
    """Spread the weights of a model over files with these names, and write the index of them."""
    file = folder / "model.safetensors"
    tensors = load_file(file)
    file.unlink()
    keys = sorted(tensors)
    parts = {name: keys[i :: len(names)] for i, name in enumerate(names)}
    for name, part in parts.items():
        write({key: tensors[key] for key in part}, folder / name)
    places = {key: name for name, part in parts.items() for key in part}
    index = {"metadata": {}, "weight_map": places, **changes}
    (folder / INDEX).write_text(json.dumps(index))


@pytest.fixture
def folder(builtin_dir: Path, tmp_path: Path) -> Path:
    shutil.copytree(builtin_dir, tmp_path / "model")
    return tmp_path / "model"


def change(file: Path) -> None:
    tensors = load_file(file)
    key = max(tensors, key=lambda name: tensors[name].size)
    tensors[key] = tensors[key] + tensors[key].dtype.type(0.5)
    write(tensors, file)


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.mark.parametrize("names", [SHARDS, ("a.safetensors", "inside/deep/b.safetensors")])
def test_every_file_that_the_index_names_is_part_of_the_fingerprint(
    folder: Path, names: tuple[str, ...], builtin_encoder: CLIPEncoder
) -> None:
    split(folder, names)
    encoder = load_encoder(folder, device="cpu", cache=False)
    np.testing.assert_array_equal(
        encoder.encode_texts(["cat"]), builtin_encoder.encode_texts(["cat"])
    )
    fingerprints = {encoder.fingerprint}
    for name in names:
        change(folder / name)
        fingerprints.add(load_encoder(folder, device="cpu", cache=False).fingerprint)
    assert len(fingerprints) == 3


def test_files_that_are_not_loaded_are_no_part_of_the_fingerprint(
    folder: Path, builtin_encoder: CLIPEncoder
) -> None:
    write({"x": np.zeros(3, np.float32)}, folder / "open_clip_model.safetensors")
    (folder / INDEX).write_text("no JSON, and not read")
    assert load_encoder(folder, device="cpu").fingerprint == builtin_encoder.fingerprint


def test_an_index_that_goes_over_to_another_file_beside(folder: Path) -> None:
    split(folder, ("a.safetensors",))
    shutil.copy(folder / "a.safetensors", folder / "b.safetensors")
    change(folder / "b.safetensors")
    first = load_encoder(folder, device="cpu", cache=False)
    index = (folder / INDEX).read_text()
    (folder / INDEX).write_text(index.replace("a.safetensors", "b.safetensors"))
    second = load_encoder(folder, device="cpu", cache=False)
    assert not np.allclose(first.encode_texts(["cat"]), second.encode_texts(["cat"]))
    assert first.fingerprint != second.fingerprint


def test_links_count_as_what_they_lead_to(
    folder: Path, tmp_path: Path, builtin_encoder: CLIPEncoder
) -> None:
    blob = tmp_path / "blobs" / "0a1b"
    blob.parent.mkdir()
    (folder / "model.safetensors").rename(blob)
    (folder / "model.safetensors").symlink_to("../blobs/0a1b")
    encoder = load_encoder(folder, device="cpu", cache=False)
    assert encoder.fingerprint == builtin_encoder.fingerprint
    other = load_encoder(folder, device="cpu", cache=False)
    change(blob)
    with pytest.raises(EncoderError, match="changed or removed after it was loaded"):
        _ = other.fingerprint
    fresh = load_encoder(folder, device="cpu", cache=False)
    assert fresh.fingerprint != encoder.fingerprint


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("../w.safetensors", "only files inside the directory are loaded"),
        ("inside/../../w.safetensors", "only files inside the directory are loaded"),
        ("/srv/w.safetensors", "only files inside the directory are loaded"),
        ("", "only files inside the directory are loaded"),
        ("pytorch_model-00001-of-00001.bin", "pickled weights never"),
        ("gone.safetensors", "lacks the weights 'gone.safetensors'"),
    ],
)
@pytest.mark.parametrize("through", ["index", "config"])
def test_weights_that_are_refused(
    folder: Path, tmp_path: Path, name: str, said: str, through: str
) -> None:
    shutil.copy(folder / "model.safetensors", tmp_path / "w.safetensors")
    if through == "index":
        (folder / "model.safetensors").unlink()
        content = {"metadata": {}, "weight_map": {"logit_scale": name}}
        (folder / INDEX).write_text(json.dumps(content))
    else:
        config = json.loads((folder / "config.json").read_text())
        content = {**config, "transformers_weights": name}
        (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(EncoderError, match=said) as caught:
        load_encoder(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("weight_map", [None, [], {}, {"logit_scale": 3}])
def test_an_index_without_sense(folder: Path, weight_map: object) -> None:
    split(folder, ("a.safetensors",), weight_map=weight_map)
    with pytest.raises(EncoderError, match=r"model.safetensors.index.json of .*: download|names"):
        load_encoder(folder)


@pytest.fixture
def language_model(tiny_llm: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_llm, tmp_path / "llm")
    return tmp_path / "llm"


def identity(directory: Path) -> str:
    return HFJudge(directory, device="cpu").identity


def test_a_judge_is_known_by_all_weights_that_it_loads(
    language_model: Path, tiny_llm: Path
) -> None:
    split(language_model, ("inside/a.safetensors", "b.safetensors"))
    identities = {identity(language_model)}
    for name in ("inside/a.safetensors", "b.safetensors"):
        change(language_model / name)
        identities.add(identity(language_model))
    assert len(identities) == 3


@pytest.mark.parametrize("use", [identity, lambda path: HFJudge(path, device="cpu")._lm])
def test_a_judge_loads_nothing_from_outside(
    language_model: Path, tmp_path: Path, use: Callable[[Path], object]
) -> None:
    (language_model / "model.safetensors").rename(tmp_path / "w.safetensors")
    content = {"metadata": {}, "weight_map": {"lm_head.weight": "../w.safetensors"}}
    (language_model / INDEX).write_text(json.dumps(content))
    with pytest.raises(InputError, match="only files inside the directory are loaded"):
        use(language_model)


def no_regular_file(file: Path, kind: str) -> None:
    file.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "zero":
        file.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as bound:
            # The name of a socket may have a hundred characters only.
            bound.bind(os.path.relpath(file))
    else:
        file.mkdir()


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "preprocessor_config.json",
        "model.safetensors",
        "no_text_model.safetensors",
        "vocab.json",
    ],
)
@pytest.mark.parametrize("kind", ["pipe", "zero", "socket"])
def test_what_is_no_regular_file_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str
) -> None:
    monkeypatch.chdir(folder)
    no_regular_file(folder / name, kind)
    words = {"pipe": "a named pipe", "zero": "a device", "socket": "a socket"}[kind]
    with pytest.raises(EncoderError, match=f"^{name} of '{folder}' is {words} where a regular"):
        load_encoder(folder)


def test_a_folder_in_place_of_a_file(folder: Path) -> None:
    no_regular_file(folder / "config.json", "folder")
    with pytest.raises(EncoderError, match=r"^config.json of .* is a folder where a regular"):
        load_encoder(folder)


@pytest.mark.parametrize("name", ["a.safetensors", "inside/b.safetensors", INDEX])
def test_a_pipe_among_many_files_of_weights(folder: Path, name: str) -> None:
    split(folder, ("a.safetensors", "inside/b.safetensors"))
    no_regular_file(folder / name, "pipe")
    with pytest.raises(EncoderError, match="is a named pipe where a regular file is needed"):
        load_encoder(folder)


@pytest.mark.parametrize("use", [identity, lambda path: HFJudge(path, device="cpu")._lm])
@pytest.mark.parametrize("name", ["config.json", "chat_template.jinja", "model.safetensors"])
def test_a_pipe_in_the_directory_of_a_judge(
    language_model: Path, name: str, use: Callable[[Path], object]
) -> None:
    no_regular_file(language_model / name, "pipe")
    with pytest.raises(InputError, match=f"^{name} of .* is a named pipe"):
        use(language_model)


def test_a_pipe_as_clipn_checkpoint(folder: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "epoch_1.pt")
    with pytest.raises(EncoderError, match=r"^epoch_1.pt of .* is a named pipe"):
        convert_clipn(tmp_path / "epoch_1.pt", folder, tmp_path / "out")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "preprocessor_config.json"])
def test_a_file_of_200_gigabytes(folder: Path, name: str) -> None:
    os.truncate(folder / name, 200 << 30)
    with pytest.raises(EncoderError, match=f"^{name} of .* has 204,800 MB"):
        load_encoder(folder)


@pytest.mark.parametrize("depth", [150, 5_000, 200_000])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "tokenizer.json"])
def test_deep_json(folder: Path, name: str, depth: int) -> None:
    content = json.loads((folder / name).read_text())
    text = json.dumps({**content, "deep": 0})[: -len("0}")]
    (folder / name).write_text(text + "[" * depth + "]" * depth + "}")
    with pytest.raises(EncoderError) as caught:
        load_encoder(folder)
    said = (
        f"{name} of {str(folder)!r} cannot be read as JSON: it is nested more than 64 levels deep."
    )
    if name == "tokenizer.json":
        said = f"The tokenizer of {str(folder)!r} cannot be loaded"
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


def edit(file: Path, **fields: Any) -> None:
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps({**content, **fields}))


def test_special_tokens_that_change_token_ids(folder: Path, builtin_encoder: CLIPEncoder) -> None:
    special, config = folder / "special_tokens_map.json", folder / "tokenizer_config.json"
    same = json.loads(config.read_text())["eos_token"]
    edit(special, eos_token={"content": same, "lstrip": False})
    assert load_encoder(folder, device="cpu").fingerprint == builtin_encoder.fingerprint
    edit(special, eos_token="cat</w>")
    with pytest.raises(EncoderError, match=r"gives 'cat</w>' as eos_token, and tokenizer_config"):
        load_encoder(folder)
    # Where tokenizer_config.json says nothing, the other file decides.
    content = json.loads(config.read_text())
    del content["eos_token"]
    config.write_text(json.dumps(content))
    fingerprints = set()
    for token in (same, "cat</w>"):
        edit(special, eos_token=token)
        fingerprints.add(load_encoder(folder, device="cpu").fingerprint)
    assert len(fingerprints) == 2


def test_a_tokenizer_for_newer_versions_is_part_of_the_fingerprint(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", fast_tokenizer_files=["tokenizer.4.0.0.json"])
    with pytest.raises(EncoderError, match="only files in the directory itself are loaded"):
        load_encoder(folder)
    newer = folder / "tokenizer.4.0.0.json"
    shutil.copy(folder / "tokenizer.json", newer)
    first = load_encoder(folder, device="cpu").fingerprint
    content = json.loads(newer.read_text())
    content["model"]["merges"].pop()
    newer.write_text(json.dumps(content))
    assert load_encoder(folder, device="cpu").fingerprint != first


def test_a_tokenizer_outside_the_directory_is_refused(
    folder: Path, language_model: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / "tokenizer.json", tmp_path / "tokenizer.4.0.0.json")
    for model in (folder, language_model):
        edit(model / "tokenizer_config.json", fast_tokenizer_files=["../tokenizer.4.0.0.json"])
    with pytest.raises(InputError, match="only files in the directory itself are loaded"):
        _ = HFJudge(language_model, device="cpu")._lm
    with pytest.raises(EncoderError, match="only files in the directory itself are loaded"):
        load_encoder(folder)
