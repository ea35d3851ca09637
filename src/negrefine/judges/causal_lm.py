"""A causal language model with its tokenizer: identity, loading, and the text of a chat."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.errors import InputError
from negrefine.files.identity import file_digest
from negrefine.pretrained import hub
from negrefine.pretrained.files import newer_tokenizers, read_object, weight_files
from negrefine.pretrained.loading import check_dtype, load_weights, loading
from negrefine.pretrained.sizes import check_sizes, tensor_shapes

if TYPE_CHECKING:
    import torch

_CAUSAL_LM = hub.ModelKind(
    noun="causal language model",
    example="Qwen/Qwen2.5-14B-Instruct",
    builtin="",
    advice="give an instruct model with all its files, in safetensors",
    files=("*.json", "*.jinja", "vocab.*", "merges.txt", "tokenizer.model"),
    error=InputError,
)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def pick_dtype(dtype: str, device: torch.device) -> str:
    """Return the name of a dtype, or "auto" for that of the checkpoint on a GPU.

    On the CPU "auto" is float32, because few CPUs multiply shorter numbers faster.
    """
    check_dtype(dtype)
    return "float32" if dtype == "auto" and device.type == "cpu" else dtype


def check_local_model(name: str, kind: hub.ModelKind = _CAUSAL_LM) -> None:
    """Raise InputError for a path of no model; hub ids and the weights are not looked at."""
    directory = hub.local_directory(kind, name)
    if directory is not None:
        _local_weights(directory, name, kind)


def _local_weights(directory: Path, name: str, kind: hub.ModelKind = _CAUSAL_LM) -> list[Path]:
    hub.check_model(kind, directory, name)
    config = read_object(directory / "config.json", name, InputError)
    return weight_files(directory, config, name, InputError)


def model_version(
    name: str, revision: str | None, kind: hub.ModelKind = _CAUSAL_LM
) -> tuple[str, str]:
    """Return what identifies the files of a model: (name, hash).

    A directory is identified by the SHA-256 of its weights, configuration and tokenizer, wherever
    it is; a model on the hub by its commit.
    """
    # Path.expanduser raises for unknown users.
    path = Path(os.path.expanduser(name))  # noqa: PTH111
    if not os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        if revision is not None and _COMMIT.fullmatch(revision):
            return name, revision
        return name, hub.find_directory(kind, name, revision, weights=False).name
    weights = _local_weights(path, name, kind)
    files = {file for pattern in kind.files for file in path.glob(pattern)}.union(weights)
    digest = hashlib.sha256()
    try:
        for each in sorted(file.relative_to(path).as_posix() for file in files):
            digest.update(each.encode() + b"\0" + file_digest(path / each))
    except OSError as error:
        raise InputError(f"The files of {name!r} cannot be read: {error}.") from error
    return path.resolve().name, digest.hexdigest()


def checked_files(
    kind: hub.ModelKind, name: str, revision: str | None
) -> tuple[Path, dict[str, Any]]:
    """Return (directory, config) of a model; InputError for files that cannot be one."""
    directory = hub.find_directory(kind, name, revision)
    hub.check_model(kind, directory, name)
    config = read_object(directory / "config.json", name, InputError)
    weights = weight_files(directory, config, name, InputError)
    check_sizes(config, tensor_shapes(weights, name, InputError), name, InputError)
    newer_tokenizers(directory, name, InputError)
    return directory, config


def load_causal_lm(
    name: str, revision: str | None, device: torch.device, dtype: str
) -> tuple[Any, Any]:
    """Return (model, tokenizer) of a directory or hub id; `dtype` is one of `pick_dtype`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    directory, _ = checked_files(_CAUSAL_LM, name, revision)
    advice = "give a directory with tokenizer.json, as save_pretrained writes it"
    with loading(f"The tokenizer of {name!r} cannot be loaded", advice, InputError):
        tokenizer = AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
    model = load_weights(AutoModelForCausalLM, _CAUSAL_LM, directory, name, dtype)
    return model.to(device), tokenizer


def chat_renderer(tokenizer: Any) -> Callable[[Sequence[dict[str, str]]], list[int]]:
    """Return the function from the messages of a chat to token ids, written by `chat_writer`."""
    write = chat_writer(tokenizer)
    # A template writes the special tokens itself, such as the one at the beginning.
    special = not tokenizer.chat_template

    def render(messages: Sequence[dict[str, str]]) -> list[int]:
        return list(tokenizer(write(messages), add_special_tokens=special)["input_ids"])

    return render


def chat_writer(tokenizer: Any) -> Callable[[Sequence[dict[str, str]]], str]:
    """Return the function from the messages of a chat to the text that the model reads.

    The tokenizer's chat template writes the chat, ending with the beginning of the reply and, where
    the template has such a switch, without thoughts. If it rejects or ignores system messages, the
    system message is put in front of the user's, separated by an empty line. A tokenizer without a
    template gets the messages separated by empty lines, then "Answer:".
    """
    from jinja2.exceptions import TemplateError

    def apply(messages: Sequence[dict[str, str]]) -> str:
        text: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return text

    has_template = bool(tokenizer.chat_template)
    has_system = False
    probe = [{"role": role, "content": f"{role}-PROBE"} for role in ("system", "user")]
    with suppress(TemplateError):
        has_system = has_template and "system-PROBE" in apply(probe)

    def write(messages: Sequence[dict[str, str]]) -> str:
        joined = "\n\n".join(message["content"] for message in messages)
        if not has_template:
            return f"{joined}\n\nAnswer:"
        return apply(messages if has_system else [{"role": "user", "content": joined}])

    return write


def reply_opening(tokenizer: Any) -> str:
    """Return the text after the user's message, with which the reply begins."""
    text = chat_writer(tokenizer)([{"role": "user", "content": "user-PROBE"}])
    return text.rpartition("user-PROBE")[2]
