"""The files of a model directory: which of them are loaded, and whether they can be."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from negrefine.errors import NegrefineError
from negrefine.files.reading import read_json, reason
from negrefine.files.regular import FOLDER, special_kind
from negrefine.pretrained.formats import other_format

WEIGHTS = "*.safetensors"
_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
# No configuration, index or tokenizer is nearly as large.
_MAX_TEXT_BYTES = 128 << 20
# Files that begin so are not what their names say.
_FOREIGN = {
    b"version https://git-lfs": (
        "a git-LFS pointer in place of the file",
        "run 'git lfs pull' there, or download it",
    ),
    b"<!DOCTYPE": ("a web page", "download the file itself"),
    b"<html": ("a web page", "download the file itself"),
    b"PK\x03\x04": ("a pickled PyTorch file or an archive", "get the model in safetensors"),
    b"GGUF": ("a GGUF file of llama.cpp", "get the model in safetensors"),
}


def check_directory(
    directory: Path, patterns: Iterable[str], name: str, error: type[NegrefineError]
) -> None:
    """Raise `error` if a file that a library may read, one of `patterns`, is unfit to be read.

    It is a named pipe, device or socket, or a link to one, or holds more text than any model has.
    """
    matches = {file for pattern in patterns for file in directory.glob(pattern)}
    files = sorted(file for file in matches if not file.is_dir())
    check_files(files, name, error)
    # Of the weights those that are loaded are looked at later; others may well be unfit.
    for file in files:
        if file.suffix != ".safetensors" and file.exists():
            _check_head(file, name, error)


def check_files(files: Iterable[Path], name: str, error: type[NegrefineError]) -> None:
    """Raise `error` for the first of `files` that exists and could not be read to its end.

    That is anything but a regular file or a link to one: opening a named pipe waits for its writer,
    and a device may have no end.
    """
    for file in files:
        try:
            status = file.stat()
        except FileNotFoundError:
            continue
        except OSError as failure:
            why = failure.strerror or failure
            raise error(f"{file.name} of {name!r} cannot be read: {why}.") from failure
        what = FOLDER if stat.S_ISDIR(status.st_mode) else special_kind(status)
        if what:
            raise error(
                f"{file.name} of {name!r} is {what} where a regular file is needed: put the file "
                "there."
            )


def read_object(path: Path, name: str, error: type[NegrefineError]) -> dict[str, Any]:
    """Return the JSON object in a file of the model `name`.

    Raises:
        error: The file is missing, no regular file, too large, nested too deeply, or not JSON.
    """
    check_files([path], name, error)
    if not path.exists():
        raise error(
            f"{name!r} holds no {path.name}: give the directory of a model with all its files."
        )
    _check_head(path, name, error)
    try:
        content = read_json(path)
    except (OSError, ValueError) as failure:
        why = reason(failure)
        raise error(f"{path.name} of {name!r} cannot be read as JSON: {why}.") from failure
    if not isinstance(content, dict):
        raise error(f"{path.name} of {name!r} must hold a JSON object.")
    return content


def _check_head(file: Path, name: str, error: type[NegrefineError]) -> None:
    """Raise `error` for a file that is empty, far too large, or something else by its beginning."""
    size = file.stat().st_size
    what, advice = "", "download it again"
    if size == 0:
        what = "is empty" if file.suffix in (".json", ".safetensors") else ""
    elif size > _MAX_TEXT_BYTES and file.suffix != ".safetensors":
        what = f"has {size >> 20:,} MB, far more than that file of any model"
    else:
        with file.open("rb") as stream:
            head = stream.read(64)
        for start, (foreign, cure) in _FOREIGN.items():
            if head.startswith(start):
                what, advice = f"is {foreign}", cure
    if what:
        raise error(f"{file.name} of {name!r} {what}: {advice}.")


def weight_files(
    directory: Path, config: Mapping[str, Any], name: str, error: type[NegrefineError]
) -> list[Path]:
    """Return the files from which `transformers` loads the weights of a model, in its order.

    They are the file that config.json names as `transformers_weights`, else model.safetensors, else
    all that model.safetensors.index.json names, which may be in folders inside.

    Raises:
        error: There are none, one is missing or no regular file, or one is outside the directory.
    """
    named = config.get("transformers_weights")
    standard = [file for part in (_WHOLE, _INDEX) if os.path.lexists(file := directory / part)]
    if named is not None:
        first = _inside(directory, named, f"config.json of {name!r}", error)
    elif standard:
        first = standard[0]
    elif other := other_format(directory, with_config=True):
        raise error(f"{name!r} holds {other}.")
    else:
        raise error(
            f"{name!r} holds no safetensors weights ({WEIGHTS}), and pickled weights are never "
            "loaded: convert them once with save_pretrained, or pick another revision."
        )
    files = [first]
    if first.name.endswith(".index.json"):
        source = f"{first.name} of {name!r}"
        index = read_object(first, name, error)
        shards = index.get("weight_map")
        if (
            not isinstance(index.get("metadata"), dict)
            or not isinstance(shards, dict)
            or not shards
        ):
            raise error(f"{source} must hold 'metadata' and 'weight_map': download it again.")
        # As transformers does: one that comes later would replace tensors of one before.
        distinct = sorted(set(map(str, shards.values())))
        files = [_inside(directory, shard, source, error) for shard in distinct]
    check_files(files, name, error)
    for file in files:
        if not file.exists():
            shown = file.relative_to(directory).as_posix()
            raise error(f"{name!r} lacks the weights {shown!r}: download the model again.")
        _check_head(file, name, error)
    return files


def _inside(directory: Path, named: object, source: str, error: type[NegrefineError]) -> Path:
    """Return the path of a file that a model names; `error` if it leaves the directory."""
    path = PurePosixPath(named if isinstance(named, str) else "")
    if path.is_absolute() or ".." in path.parts or not path.name.strip():
        raise error(
            f"{source} names the weights {named!r}, and only files inside the directory are loaded."
        )
    if not path.name.endswith((".safetensors", ".safetensors.index.json")):
        raise error(
            f"{source} names the weights {named!r}, and only safetensors files are loaded, pickled "
            "weights never: convert them once with save_pretrained."
        )
    return directory / path


def newer_tokenizers(directory: Path, name: str, error: type[NegrefineError]) -> list[Path]:
    """Return the files of which `transformers` takes one as tokenizer if it is new enough.

    Raises:
        error: tokenizer_config.json names one that is not in the directory itself.
    """
    file = directory / "tokenizer_config.json"
    config = read_object(file, name, error) if file.exists() else {}
    named = config.get("fast_tokenizer_files") or []
    versions = named if isinstance(named, list) else [named]
    for version in versions:
        if not isinstance(version, str) or "/" in version or not (directory / version).is_file():
            raise error(
                f"tokenizer_config.json of {name!r} names the tokenizer {version!r}, and only "
                "files in the directory itself are loaded."
            )
    return [directory / version for version in versions]
