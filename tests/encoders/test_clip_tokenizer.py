"""The tokenizer that is read without transformers, against the one that transformers makes."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from negrefine.encoders.clip_tokenizer import read_plain_tokenizer
from negrefine.encoders.tokenizer_reading import load_tokenizer
from negrefine.encoders.tokens import TextTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
TEXTS = [
    "",
    "dog",
    "a photo of a MiXeD-Case dog, isn't it?",
    "naïve café \u2013 漢字 🦊 ﬁre İstanbul e\u0301",
    f"{END} in {START}the middle{END.upper()}",
    "<|ENDOFTEXT|><|startoftext|",
    "tabs\tand\n\nlines  1234 a1b2!!!",
    "x" * 300,
]


def flags(content: str, **changes: Any) -> dict[str, Any]:
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {"content": content, **plain, "special": True, **changes}


def edit(name: str, **changes: Any) -> Callable[[Path], None]:
    """Return a function that changes a JSON file of a model, or makes it."""

    def change(model: Path) -> None:
        file = model / name
        content = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**content, **changes}))

    return change


def old_openai(model: Path) -> None:
    """Make the files as those of openai/clip-vit-base-patch16 are: another splitting."""
    content = json.loads((model / "tokenizer.json").read_text())
    content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = (
        r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
    )
    content["added_tokens"][0]["normalized"] = content["added_tokens"][1]["normalized"] = True
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    for name in ("byte_fallback", "ignore_merges"):
        content["model"].pop(name, None)
    (model / "tokenizer.json").write_text(json.dumps(content))
    token = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    special = {
        "bos_token": {"content": START, **token},
        "eos_token": {"content": END, **token},
        "unk_token": {"content": END, **token},
        "pad_token": END,
    }
    (model / "special_tokens_map.json").write_text(json.dumps(special))
    typed = {
        name: {**value, "__type": "AddedToken"} if isinstance(value, dict) else value
        for name, value in special.items()
    }
    settings = {
        "errors": "replace",
        "do_lower_case": True,
        "add_prefix_space": False,
        "name_or_path": "openai/clip-vit-base-patch32",
        "model_max_length": 77,
        "special_tokens_map_file": "./special_tokens_map.json",
        "tokenizer_class": "CLIPTokenizer",
    }
    (model / "tokenizer_config.json").write_text(json.dumps({**settings, **typed}))


def listed_tokens(model: Path) -> None:
    """List the added tokens in tokenizer_config.json, as transformers 4 does."""
    tokens = {"8187": flags(START), "8188": flags(END)}
    edit("tokenizer_config.json", added_tokens_decoder=tokens)(model)


def other_listed_tokens(model: Path) -> None:
    tokens = {"8187": flags(START, normalized=True), "8188": flags(END, lstrip=True)}
    edit("tokenizer_config.json", added_tokens_decoder=tokens)(model)


def other_normalizer(model: Path) -> None:
    edit("tokenizer.json", normalizer={"type": "NFKC"})(model)


def other_post_processor(model: Path) -> None:
    edit("tokenizer.json", post_processor=None)(model)


def pairs_as_vocabulary_files(model: Path) -> None:
    content = json.loads((model / "tokenizer.json").read_text())["model"]
    (model / "vocab.json").write_text(json.dumps(content["vocab"]))
    (model / "merges.txt").write_text(
        "\n".join(["#version: 0.2", *(" ".join(pair) for pair in content["merges"])])
    )
    (model / "tokenizer.json").unlink()


def padding_and_truncation(model: Path) -> None:
    padding = {
        "strategy": {"Fixed": 20},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 8188,
        "pad_type_id": 0,
        "pad_token": END,
    }
    cut = {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    edit("tokenizer.json", padding=padding, truncation=cut)(model)


CONFIG = "tokenizer_config.json"


@pytest.mark.parametrize(
    ("change", "is_plain"),
    [
        (lambda _: None, True),
        (old_openai, True),
        (listed_tokens, True),
        (other_post_processor, True),
        (padding_and_truncation, True),
        (lambda model: (model / CONFIG).unlink(), True),
        (edit("special_tokens_map.json", pad_token=END, bos_token=START), True),
        (edit(CONFIG, tokenizer_class="CLIPTokenizerFast", do_lower_case=False), True),
        (other_listed_tokens, False),
        (other_normalizer, False),
        (pairs_as_vocabulary_files, False),
        (edit(CONFIG, pad_token="!"), False),
        (edit("special_tokens_map.json", pad_token="!"), False),
        (edit(CONFIG, additional_special_tokens=["dog"]), False),
        (edit("added_tokens.json", cat=8200), False),
        (edit(CONFIG, split_special_tokens=True), False),
        (edit(CONFIG, tokenizer_class="PreTrainedTokenizerFast"), False),
        (edit("config.json", tokenizer_class="PreTrainedTokenizerFast"), False),
    ],
)
def test_ids_are_those_of_transformers(
    builtin_dir: Path, tmp_path: Path, change: Callable[[Path], None], is_plain: bool
) -> None:
    model = tmp_path / "model"
    shutil.copytree(builtin_dir, model)
    change(model)
    assert (read_plain_tokenizer(model) is not None) == is_plain
    own = load_tokenizer(model, "name")
    reference = AutoTokenizer.from_pretrained(model).backend_tokenizer
    reference.no_padding()
    reference.no_truncation()
    TextTokenizer(own, 10_000, truncate=False)
    rng = random.Random(0)  # noqa: S311
    alphabet = "abcdefghijklmnopqrstuvwxyzAEIOU      0123456789'.,-!éß漢🦊<|>"
    texts = [*TEXTS, *("".join(rng.choices(alphabet, k=40)) for _ in range(200))]
    for text in texts:
        assert own.encode(text).ids == reference.encode(text).ids
    assert own.get_vocab_size() == reference.get_vocab_size()


def test_openai_vocabulary(golden_dir: Path) -> None:
    own = read_plain_tokenizer(golden_dir / "model")
    assert own is not None
    reference = AutoTokenizer.from_pretrained(golden_dir / "model")
    for text in TEXTS:
        assert own.encode(text).ids == reference(text).input_ids


@pytest.mark.parametrize("name", ["tokenizer.json", CONFIG, "special_tokens_map.json"])
@pytest.mark.parametrize("content", ["{", "[]", "3", '{"model": 3}'])
def test_damaged_files_are_left_to_transformers(
    builtin_dir: Path, tmp_path: Path, name: str, content: str
) -> None:
    model = tmp_path / "model"
    shutil.copytree(builtin_dir, model)
    (model / name).write_text(content)
    assert read_plain_tokenizer(model) is None
