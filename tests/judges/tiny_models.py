"""Tiny random language models, and plain ways of asking them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from negrefine import HFJudge
from negrefine.judges.base import Answer, Query
from negrefine.judges.prompts import JudgePrompts

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

NO_SYSTEM = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
)

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]

SYSTEM = "You are a helpful assistant. Answering only Yes/No."

TEXT = [
    SYSTEM,
    "Yes No yes no YES NO. Yes, no. No, yes. YES NO.",
    "Is 'oak' a subcatgeory of 'plant'? Is 'Paris' a proper noun, like the name of a city, "
    "country, mountain, river, or any unique place or entity?",
    "Is 'x' a subcategory of any of these: 'a', 'b'?",
    "system user assistant genus fern moss daisy hammer valley granite teacher",
]

WORDS = ["oak", "Paris", "genus Abies", "x", "Ærøskøbing", "日本", "naïve 🦉", "'", " ", "a" * 60]

NAMES = ["plant", "tabby cat", "great white shark", "é", "fire truck, red one", "x"]

QUERIES = [
    *[Query(word) for word in WORDS],
    *[Query(word, (name,)) for word in WORDS for name in NAMES],
    *[Query(word, tuple(NAMES[:3])) for word in WORDS[:4]],
    Query("oak"),
    Query("oak", ("plant",)),
]


def make_tokenizer(template: str | None = CHATML, *, words: bool = True) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE whose pieces of the text above are whole tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600 if words else 256 + len(SPECIAL),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    wrapped.chat_template = template
    return wrapped


SIZES: dict[str, Any] = {
    "vocab_size": 640,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # The usual 0.02 makes all answers 0.500.
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
}

CONFIGS: dict[str, Callable[[], Any]] = {
    "qwen2": lambda: Qwen2Config(**SIZES),
    "llama": lambda: LlamaConfig(**SIZES),
    # Shorter than every prompt.
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=16),
    # Caps its logits, and slides in every other layer.
    "gemma2": lambda: Gemma2Config(
        **SIZES, head_dim=12, sliding_window=16, final_logit_softcapping=2.0
    ),
    # Learned positions; other names for everything.
    "gpt2": lambda: GPT2Config(
        vocab_size=640, n_embd=48, n_layer=2, n_head=4, n_positions=512, initializer_range=0.3
    ),
}


def save_model(directory: Path, config: Any, tokenizer: Any) -> Path:
    """Write a random model as the hub holds one."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def question(query: Query) -> str:
    """Write the published questions out once more, independently of the package."""
    if not query.class_names:
        return (
            f"Is '{query.word}' a proper noun, like the name of a city, country, mountain, river, "
            "or any unique place or entity?"
        )
    if len(query.class_names) == 1:
        return f"Is '{query.word}' a subcatgeory of '{query.class_names[0]}'?"
    return JudgePrompts().question(query)


def chat(query: Query) -> str:
    return (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question(query)}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


class Plain:
    """One prompt at a time through the whole model."""

    def __init__(self, directory: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(directory).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        yes, no = (
            [self._first(space + form) for form in forms for space in ("", " ")]
            for forms in (("yes", "Yes", "YES"), ("no", "No", "NO"))
        )
        self.yes, self.no = sorted(set(yes)), sorted(set(no))
        assert not set(yes) & set(no)

    def _first(self, text: str) -> int:
        return int(self.tokenizer(text, add_special_tokens=False)["input_ids"][0])

    @torch.inference_mode()
    def _probabilities(self, text: str) -> torch.Tensor:
        ids = self.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        found: torch.Tensor = self.model(ids).logits[0, -1].double().softmax(-1)
        return found

    def p_yes(self, text: str) -> float:
        p = self._probabilities(text)
        return float(p[self.yes].sum() / (p[self.yes].sum() + p[self.no].sum()))

    def mass(self, text: str) -> float:
        return float(self._probabilities(text)[self.yes + self.no].sum())

    def answers(self, queries: Sequence[Query], text: Callable[[Query], str] = chat) -> list[float]:
        return [self.p_yes(text(query)) for query in queries]


def p_yes(answer: Answer) -> float:
    assert answer.confidence is not None
    assert answer.confidence >= 0.5
    return answer.confidence if answer.yes else 1 - answer.confidence


def judge_for(directory: str | Path, **options: Any) -> HFJudge:
    """Return a judge for a random model, for which yes and no are as likely as any other word."""
    return HFJudge(directory, **{"device": "cpu", "store": None, "least_mass": 0, **options})
