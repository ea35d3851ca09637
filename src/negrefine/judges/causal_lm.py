"""Finding, identifying and loading a causal language model and its tokenizer."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from negrefine.errors import InputError

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_WEIGHTS = "*.safetensors"
_TEXTS = ["*.json", "*.jinja", "vocab.*", "merges.txt", "tokenizer.model"]
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HASH_BLOCK = 1 << 22


def pick_device(device: str) -> torch.device:
    """Return a torch device; "auto" is a GPU if there is one, otherwise the processor.

    Raises:
        InputError: The device cannot be used here.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"The device {device!r} cannot be used here: use 'auto', 'cpu' or 'cuda'."
        ) from error
    return chosen


def pick_dtype(dtype: str, device: torch.device) -> str:
    """Return a name in `DTYPES`, or "auto" for the checkpoint's own on a GPU.

    On the processor "auto" is float32, because few processors multiply shorter numbers faster.

    Raises:
        InputError: Not a dtype.
    """
    if dtype == "auto":
        return "float32" if device.type == "cpu" else "auto"
    if dtype not in DTYPES:
        raise InputError(f"dtype must be 'auto' or one of {sorted(DTYPES)}, not {dtype!r}.")
    return dtype


def model_version(name: str, revision: str | None) -> tuple[str, str]:
    """Return what identifies the files of a model: (name, hash).

    A directory is known by the SHA-256 of its weights, configuration and tokenizer, wherever it
    lies; a model on the hub by its commit.

    Raises:
        InputError: There is no such model, or the hub cannot be reached.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path.resolve().name, _fingerprint(path)
    if revision is not None and _COMMIT.fullmatch(revision):
        return name, revision
    return name, find_directory(name, revision, weights=False).name


def find_directory(name: str, revision: str | None, *, weights: bool = True) -> Path:
    """Return the directory of a model, downloaded if it is on the hub.

    Raises:
        InputError: There is no such model, or the hub cannot be reached.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists() or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise InputError(
            f"{name!r} is not a directory: give the directory of a causal language model "
            "(config.json, *.safetensors, tokenizer files) or a hub id such as "
            "'Qwen/Qwen2.5-14B-Instruct'."
        )
    try:
        return Path(
            snapshot_download(
                name, revision=revision, allow_patterns=[*_TEXTS, *([_WEIGHTS] if weights else [])]
            )
        )
    except HFValidationError as error:
        raise InputError(
            f"{name!r} is neither a directory nor a hub id such as 'Qwen/Qwen2.5-14B-Instruct'."
        ) from error
    except GatedRepoError as error:
        raise InputError(
            f"The model {name!r} is gated on the hub: accept its terms there and log in with "
            "'hf auth login', or give a local directory."
        ) from error
    except (RevisionNotFoundError, EntryNotFoundError) as error:
        if isinstance(error, LocalEntryNotFoundError):
            raise _unreachable(name) from error
        raise InputError(f"The hub has no revision {revision!r} of {name!r}.") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"The hub has no public model {name!r}: check the spelling, or give a local directory."
        ) from error
    except Exception as error:
        # The HTTP client's own exception classes change between releases of huggingface_hub; all
        # that is left at this point is a connection that failed.
        raise _unreachable(name) from error


def load_causal_lm(
    name: str, revision: str | None, device: torch.device, dtype: str
) -> tuple[Any, Any]:
    """Return (model, tokenizer); code that comes with a model is never run.

    Args:
        name: A directory or hub id.
        revision: Branch, tag or commit on the hub.
        device: Where the model goes.
        dtype: As `pick_dtype` returns it.

    Raises:
        InputError: The model cannot be found, reached or read, has no safetensors weights, or is
            no causal language model.
    """
    directory = find_directory(name, revision)
    if not any(directory.glob(_WEIGHTS)):
        raise InputError(
            f"{name!r} holds no safetensors weights (*.safetensors), and pickled weights are never "
            "loaded: convert them once with save_pretrained, or pick another revision."
        )
    with _quiet():
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                directory, local_files_only=True, trust_remote_code=False
            )
        except Exception as error:
            # Missing and damaged files each raise their own class.
            raise InputError(
                f"The tokenizer of {name!r} cannot be loaded ({_first_line(error)}): give a "
                "directory with tokenizer.json, as save_pretrained writes it."
            ) from error
        try:
            model, report = AutoModelForCausalLM.from_pretrained(
                directory,
                dtype=DTYPES.get(dtype, "auto"),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
        except Exception as error:
            raise InputError(
                f"{name!r} cannot be loaded as a causal language model ({_first_line(error)}): "
                "give an instruct model, complete and in safetensors."
            ) from error
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"The weights of {name!r} lack {len(missing)} tensors of a causal language model, "
            f"{missing[0]!r} among them: give an instruct model with all its files."
        )
    return model.to(device).eval().requires_grad_(False), tokenizer


def _unreachable(name: str) -> InputError:
    return InputError(
        f"The model hub cannot be reached and {name!r} is not in its local cache: give a local "
        "directory, or point HF_HOME at a cache that holds the model."
    )


def _fingerprint(directory: Path) -> str:
    files = sorted(
        {file for pattern in (*_TEXTS, _WEIGHTS) for file in directory.glob(pattern)},
        key=lambda file: file.name,
    )
    digest = hashlib.sha256()
    for file in files:
        try:
            content = hashlib.sha256()
            with file.open("rb") as stream:
                while block := stream.read(_HASH_BLOCK):
                    content.update(block)
        except OSError as error:
            raise InputError(f"{os.fspath(file)!r} cannot be read: {error.strerror}.") from error
        digest.update(file.name.encode() + b"\0" + content.digest())
    return digest.hexdigest()


@contextmanager
def _quiet() -> Iterator[None]:
    bar = transformers_logging.is_progress_bar_enabled()
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bar:
            transformers_logging.enable_progress_bar()


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200].rstrip(".:") if text else type(error).__name__
