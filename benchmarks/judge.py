"""Questions per second of HFJudge against the published way of asking, on random models.

The published way is one whole prompt at a time, generated greedily with at most 512 new tokens.
Random models never end a reply, so the main comparison forces every reply to be "No" and the end
token: one pass over the prompt and one over the "No". Replies of full length are timed on few
questions.

    python benchmarks/judge.py [--quick] [--sweep] [--reference DIR] [--out FILE]

Both sides get the same words, class names and prompts, in one process. Weights are random, and the
tokenizer is trained on these questions; speed depends on neither, tokens per question slightly.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from negrefine.judges.base import Query, answer_all
from negrefine.judges.hf import HFJudge
from negrefine.judges.prompts import PUBLISHED_PROMPTS
from negrefine.judges.replay import ReplayJudge
from negrefine.labels.wordnet import WordNet

DEFAULT_REFERENCE = Path("../shared/reference/negrefine_imagenet_seed0")
N_NAMES = 10
MAX_NEW_TOKENS = 512
SIZES: dict[str, dict[str, int]] = {
    "tiny": {
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    # Of Qwen2.5-0.5B-Instruct.
    "0.5B": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
}
VOCABULARY = 151_936
REPLIES = ("Yes", "yes", "YES", "No", "no", "NO")
# The tokenizer is trained on this number of words, however many are asked about.
N_TRAINING_WORDS = 2000
# The pattern by which Qwen2's tokenizer splits text before it merges bytes.
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def read_questions(reference: Path, n_words: int) -> tuple[list[tuple[str, list[str]]], str]:
    """Return pairs of a word and its class names, and their source."""
    logs = sorted(reference.glob("llm_process_noun.txt*"))
    if logs:
        recorded = ReplayJudge(*logs).candidates
        full = [(word, list(names)) for word, names in recorded.items() if len(names) == N_NAMES]
        return full[:: max(1, len(full) // n_words)][:n_words], "recorded ImageNet run"
    words = sorted(word for word in WordNet.load().words() if word.islower())
    chosen = words[:: max(1, len(words) // (n_words + N_NAMES))]
    names = chosen[:N_NAMES]
    return [(word, names) for word in chosen[N_NAMES:][:n_words]], "WordNet words"


def questions(words: Sequence[tuple[str, list[str]]]) -> list[Query]:
    """Return every question about the words, word by word."""
    return [
        query
        for word, names in words
        for query in (Query(word), *(Query(word, (name,)) for name in names))
    ]


def train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer like Qwen's, whose tokens cover common words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=30_000,
        min_frequency=2,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    replies = [space + reply for reply in REPLIES for space in ("", " ")]
    tokenizer.train_from_iterator([*texts, *replies * 50], trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",  # noqa: S106
        pad_token="<|endoftext|>",  # noqa: S106
    )
    wrapped.chat_template = TEMPLATE
    return wrapped


def save_model(directory: Path, sizes: dict[str, int], tokenizer: Any) -> int:
    """Write a random model in bfloat16, as for Qwen; return its number of parameters."""
    torch.manual_seed(0)
    config = Qwen2Config(
        **sizes,
        vocab_size=VOCABULARY,
        max_position_embeddings=4096,
        rope_theta=1_000_000.0,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return int(sum(p.numel() for p in model.parameters()))


class SaysNo(LogitsProcessor):
    """Forces every reply to be "No" and the end token."""

    def __init__(self, no: int, end: int) -> None:
        self._reply = (no, end)
        self._step = 0

    def __call__(self, _ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Allow only the next token of the reply."""
        forced = torch.full_like(scores, float("-inf"))
        forced[:, self._reply[self._step]] = 0
        self._step += 1
        return forced


def time_official(
    directory: Path, queries: Sequence[Query], dtype: torch.dtype, *, ends: bool
) -> dict[str, Any]:
    """Ask with one whole prompt at a time, as published."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(directory)
    no = tokenizer.encode("No")[0]
    end = tokenizer.eos_token_id

    def ask(query: Query) -> tuple[int, int]:
        text = tokenizer.apply_chat_template(
            PUBLISHED_PROMPTS.messages(query), tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer([text], return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_new_tokens=MAX_NEW_TOKENS,
                logits_processor=LogitsProcessorList([SaysNo(no, end)] if ends else []),
            )
        reply = tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)[0]
        if ends and reply != "No":
            raise RuntimeError(f"the reply is {reply!r}")
        return ids.shape[1], output.shape[1] - ids.shape[1]

    if ends:
        ask(queries[-1])
    started = time.perf_counter()
    counts = [ask(query) for query in queries]
    seconds = time.perf_counter() - started
    n = len(queries)
    prompt, reply = sum(c[0] for c in counts), sum(c[1] for c in counts)
    return {
        "questions": n,
        "seconds": seconds,
        "questions_per_second": n / seconds,
        # The last token of a reply is never read.
        "tokens_per_question": (prompt + reply - n) / n,
        "passes_per_question": reply / n,
    }


def time_judge(
    directory: Path, words: Sequence[tuple[str, list[str]]], ranks: int, **options: Any
) -> dict[str, Any]:
    """Ask all questions about words through HFJudge, `ranks` class names of a word at a time."""
    judge = HFJudge(directory, device="cpu", store=None, **options)
    # Loads the model, and checks that prefixes can be shared.
    answer_all(judge, [Query(word, (names[0],)) for word, names in words[:2]])
    rounds = [[Query(word) for word, _ in words]] + [
        [Query(word, (name,)) for word, names in words for name in names[start : start + ranks]]
        for start in range(0, N_NAMES, ranks)
    ]
    tokens = judge.usage.prompt_tokens
    asked = judge.usage.asked
    started = time.perf_counter()
    for queries in rounds:
        answer_all(judge, queries)
    seconds = time.perf_counter() - started
    n = judge.usage.asked - asked
    return {
        "questions": n,
        "seconds": seconds,
        "questions_per_second": n / seconds,
        "tokens_per_question": (judge.usage.prompt_tokens - tokens) / n,
    }


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Set the number of threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def machine() -> dict[str, Any]:
    """Describe the machine."""
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":", 1)[1].strip()
        for line in (info.read_text().splitlines() if info.exists() else [])
        if line.startswith("model name")
    ]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def report(results: list[dict[str, Any]], **facts: Any) -> None:
    """Add a result and print it as one line."""
    results.append(facts)
    print(
        f"{facts['model']:5} {facts['way']:34} {facts['questions']:5d} questions "
        f"{facts['questions_per_second']:9.2f}/s {facts['tokens_per_question']:7.1f} tokens each"
        + (f" {facts['speedup']:7.1f}x" if "speedup" in facts else ""),
        flush=True,
    )


def run(kind: str, args: argparse.Namespace, root: Path, results: list[dict[str, Any]]) -> None:
    """Measure one model."""
    is_tiny = kind == "tiny"
    n_words = (100 if is_tiny else 8) if args.quick else (300 if is_tiny else 25)
    n_official = (33 if is_tiny else 11) if args.quick else (99 if is_tiny else 33)
    words, source = read_questions(args.reference, n_words)
    known = questions(read_questions(args.reference, N_TRAINING_WORDS)[0])
    texts = [message["content"] for q in known for message in PUBLISHED_PROMPTS.messages(q)]
    directory = root / kind
    n_parameters = save_model(
        directory, SIZES[kind], train_tokenizer([*texts, *["system user assistant"] * 9])
    )
    facts = {"model": kind, "parameters": n_parameters, "words_from": source}
    # All questions of a word, so that both kinds of question have their usual shares.
    n_sample = n_official // (N_NAMES + 1)
    sample = questions(words[:: len(words) // n_sample][:n_sample])
    official = time_official(directory, sample, torch.float32, ends=True)
    report(results, **facts, way="published, reply 'No'", **official)
    base = official["questions_per_second"]

    def judge(way: str, ranks: int, part: int = n_words, **options: Any) -> None:
        timed = time_judge(directory, words[:part], ranks, **options)
        speedup = timed["questions_per_second"] / base
        report(results, **facts, way=way, **timed, speedup=speedup)

    judge("HFJudge, 10 ranks per round", 10)
    judge("HFJudge, 1 rank per round", 1, max(1, n_words // 2))
    judge("HFJudge, whole prompts", 10, max(1, n_words // 6), share_prefixes=False)
    if args.sweep:
        for budget in (128, 256, 512, 2048, 4096):
            judge(f"HFJudge, 10 ranks, budget {budget}", 10, token_budget=budget)
        for ranks in (2, 5):
            judge(f"HFJudge, {ranks} ranks per round", ranks)
        judge("HFJudge, 10 ranks, bfloat16", 10, max(1, n_words // 6), dtype="bfloat16")
        if (os.cpu_count() or 1) > 1:
            with threads(os.cpu_count() or 1):
                timed = time_official(directory, sample, torch.float32, ends=True)
                report(results, **facts, way="published, 'No', all threads", **timed)
                judge("HFJudge, 10 ranks, all threads", 10)
    if args.quick and not is_tiny:
        return
    unbounded = time_official(directory, sample[: 3 if is_tiny else 1], torch.float32, ends=False)
    report(results, **facts, way="published, reply of 512 tokens", **unbounded)


def main() -> None:
    """Measure both models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer questions")
    parser.add_argument("--sweep", action="store_true", help="also budgets, bfloat16, threads")
    parser.add_argument("--reference", type=Path, default=DEFAULT_REFERENCE)
    parser.add_argument("--models", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--out", type=Path, help="write JSON here")
    args = parser.parse_args()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    described = machine()
    print(json.dumps(described))
    results: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in args.models:
            run(kind, args, Path(folder), results)
    if args.out is not None:
        args.out.write_text(json.dumps({"machine": described, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
