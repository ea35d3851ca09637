"""The files of a model directory that decide how texts become tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from negrefine.errors import EncoderError
from negrefine.pretrained.files import newer_tokenizers, read_object

TOKENIZER_FILES = ("tokenizer.json", "vocab.json", "merges.txt", "tokenizer_config.json")
_OTHER_FILES = ("vocab.txt", "added_tokens.json")
"""Of tokenizers that are not CLIP's."""
_SPECIAL = "special_tokens_map.json"
_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


def tokenizer_files(directory: Path, name: str, *, clip: bool = True) -> list[Path]:
    """Return the files that exist and decide token ids, which belong to the fingerprint.

    `clip` tells that it is CLIP's tokenizer, which has fewer kinds of files than others.
    special_tokens_map.json is one of them only where it says what tokenizer_config.json does not.

    Raises:
        EncoderError: Both say different things, or a file outside the directory is named.
    """
    parts = TOKENIZER_FILES if clip else (*TOKENIZER_FILES, *_OTHER_FILES)
    files = [file for part in parts if (file := directory / part).exists()]
    config = _object(directory / "tokenizer_config.json", name)
    files += [file for file in newer_tokenizers(directory, name, EncoderError) if file not in files]
    if "added_tokens_decoder" in config:
        return files
    special = _object(directory / _SPECIAL, name)
    for token in _TOKENS:
        here, there = _text(special.get(token)), _text(config.get(token))
        if here is None or here == there:
            continue
        if there is not None:
            raise EncoderError(
                f"{_SPECIAL} of {name!r} gives {here!r} as {token}, and tokenizer_config.json "
                f"{there!r}: correct the wrong one."
            )
        if directory / _SPECIAL not in files:
            files.append(directory / _SPECIAL)
    return files


def _object(file: Path, name: str) -> Mapping[str, Any]:
    return read_object(file, name, EncoderError) if file.exists() else {}


def _text(token: object) -> object:
    return token.get("content") if isinstance(token, dict) else token
