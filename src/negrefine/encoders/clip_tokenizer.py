"""CLIP's tokenizer from a tokenizer.json, without `transformers`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from negrefine.files.reading import read_json

_START, _END = "<|startoftext|>", "<|endoftext|>"
_SPECIAL = {"bos_token": _START, "eos_token": _END, "unk_token": _END, "pad_token": _END}
# Fields of tokenizer_config.json that change no token id.
_HARMLESS = frozenset(
    {
        *("add_prefix_space", "backend", "clean_up_tokenization_spaces", "do_lower_case", "errors"),
        *("is_local", "local_files_only", "model_max_length", "name_or_path", "padding_side"),
        *("processor_class", "special_tokens_map_file", "tokenizer_class", "truncation_side"),
    }
)
_CLASSES = (None, "CLIPTokenizer", "CLIPTokenizerFast")
# What `transformers.CLIPTokenizer` is, whatever the file says: its splitting, and how the file must
# normalise and merge for the file's own tokenizer to be the same.
_SPLIT = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)
_NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "NFC"},
        {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
        {"type": "Lowercase"},
    ],
}
_MERGING = {
    "dropout": None,
    "unk_token": _END,
    "continuing_subword_prefix": "",
    "end_of_word_suffix": "</w>",
    "fuse_unk": False,
    "byte_fallback": False,
    "ignore_merges": False,
}


def read_plain_tokenizer(directory: Path) -> Tokenizer | None:
    """Return the tokenizer that `transformers` would make, or None.

    None says that something is unusual: another class, further special tokens, no tokenizer.json,
    or a damaged file. `transformers` may be able to load it, or says what is wrong with it.
    """
    path = directory / "tokenizer.json"
    if not path.is_file() or (directory / "added_tokens.json").is_file():
        return None
    try:
        settings = _read_object(directory / "tokenizer_config.json")
        special = _read_object(directory / "special_tokens_map.json")
        model_class = _read_object(directory / "config.json").get("tokenizer_class")
        tokenizer = Tokenizer.from_file(str(path))
    # The class of a damaged tokenizer.json is Exception itself.
    except Exception:
        return None
    classes = (settings.get("tokenizer_class"), model_class)
    added = settings.pop("added_tokens_decoder", None)
    usual = (
        all(each in _CLASSES for each in classes)
        and settings.keys() <= _HARMLESS | _SPECIAL.keys()
        and special.keys() <= _SPECIAL.keys()
        and all(_names(each) for each in (settings, special))
        and _is_clip(tokenizer)
        and (added is None or added == _added_tokens(tokenizer))
    )
    if not usual:
        return None
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    ids = {token.content: i for i, token in tokenizer.get_added_tokens_decoder().items()}
    tokenizer.post_processor = processors.RobertaProcessing(
        (_END, ids[_END]), (_START, ids[_START]), trim_offsets=False, add_prefix_space=False
    )
    return tokenizer


def _read_object(path: Path) -> dict[str, Any]:
    """Return a JSON object, empty without the file."""
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise ValueError(path)
    return content


def _names(settings: Mapping[str, Any]) -> bool:
    """Say whether the special tokens that are given are CLIP's own."""
    given = {name: settings[name] for name in _SPECIAL if name in settings}
    contents = {n: t.get("content") if isinstance(t, dict) else t for n, t in given.items()}
    return all(content == _SPECIAL[name] for name, content in contents.items())


def _is_clip(tokenizer: Tokenizer) -> bool:
    """Say whether a tokenizer has CLIP's kind of model and normaliser, and its two added tokens."""
    model, normalizer = tokenizer.model, tokenizer.normalizer
    tokens = {token.content: i for i, token in tokenizer.get_added_tokens_decoder().items()}
    return (
        isinstance(model, models.BPE)
        and all(getattr(model, name) == value for name, value in _MERGING.items())
        and normalizer is not None
        and json.loads(normalizer.__getstate__()) == _NORMALIZER
        and tokens == {token: model.token_to_id(token) for token in (_START, _END)}
    )


def _added_tokens(tokenizer: Tokenizer) -> dict[str, dict[str, Any]]:
    """Return the added tokens as tokenizer_config.json lists them."""
    flags = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
    tokens = tokenizer.get_added_tokens_decoder()
    return {str(i): {flag: getattr(t, flag) for flag in flags} for i, t in tokens.items()}
