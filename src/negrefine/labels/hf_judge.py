"""A judge that is a causal language model in this process."""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from negrefine.encoders.loading import quiet_transformers
from negrefine.errors import InputError, JudgeError
from negrefine.labels.answer_store import AnswerStore, answer_through_store, open_store
from negrefine.labels.judge_prompts import PUBLISHED_PROMPTS, JudgePrompts, judge_identity
from negrefine.labels.judges import Answer, Query, Usage, answer_all
from negrefine.labels.yes_no_model import Tokens, YesNoModel

MODES = ("probability", "official")
_DTYPES = ("auto", "float32", "float16", "bfloat16")
_FORMS = {True: ("Yes", "yes", "YES"), False: ("No", "no", "NO")}
# A processor gains nothing from larger batches; a GPU wants far more work at a time.
_TOKEN_BUDGET = {"cpu": 2048}
_GPU_TOKEN_BUDGET = 32768
_HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")
# Published: replies of at most so many tokens.
_REPLY_TOKENS = 512
_EDGE = 1 << 20


class HFJudge:
    """Asks a `transformers` causal language model with a chat template.

    In the mode "probability" nothing is generated: one forward pass over a batch of prompts gives
    the probability of Yes against No, over their spellings (case, leading space), so that an answer
    is repeatable and has a confidence. Common beginnings of prompts are computed once; see
    `negrefine.labels.yes_no_model`. The mode "official" does what the published code does: one
    prompt at a time, up to 512 tokens decoded as the model's own generation_config says, yes where
    the lower-cased reply starts with "yes".

    The model is loaded at the first question whose answer is not stored.

    Attributes:
        name: "hf:" and the model.
        usage: Questions and tokens so far.
        ranks_per_round: 10: the beginning of a prompt up to the word is shared by its class names.
    """

    ranks_per_round = 10

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        mode: str = "probability",
        greedy: bool = False,
        seed: int = 0,
        min_confidence: float = 0.5,
        token_budget: int | None = None,
        prompts: JudgePrompts = PUBLISHED_PROMPTS,
        store: AnswerStore | str | os.PathLike[str] | None = "default",
    ) -> None:
        """Take the settings; nothing is loaded yet.

        Args:
            model: Hub id such as "Qwen/Qwen2.5-14B-Instruct", or a directory with safetensors.
            revision: Branch, tag or commit on the hub.
            device: "auto" (a GPU if there is one), "cpu", "cuda", ...
            dtype: "auto" (the weights' own on a GPU, float32 on a processor), "float32",
                "float16" or "bfloat16".
            mode: "probability" or "official".
            greedy: In the official mode, take the most probable token instead of what the model's
                generation_config says.
            seed: Of sampling in the official mode. Every question has its own generator made of
                the seed and the question, so that answers do not depend on the order.
            min_confidence: Answers less certain than this are undecided. Not in the official mode.
            token_budget: Most tokens in a batch; halved when memory runs out.
            prompts: The questions in words.
            store: Where answers are kept: a file, "default" for the one in `cache_directory()`,
                None for nowhere.

        Raises:
            InputError: A parameter that cannot be used.
        """
        if mode not in MODES:
            raise InputError(f"mode must be one of {list(MODES)}, not {mode!r}.")
        if dtype not in _DTYPES:
            raise InputError(f"dtype must be one of {list(_DTYPES)}, not {dtype!r}.")
        if not 0.5 <= min_confidence <= 1:
            raise InputError(f"min_confidence must lie between 0.5 and 1, not {min_confidence}.")
        if token_budget is not None and token_budget < 1:
            raise InputError(f"token_budget must be at least 1, not {token_budget}.")
        if greedy and mode != "official":
            raise InputError("greedy belongs to mode='official': nothing is generated otherwise.")
        self.model = os.fspath(model)
        self.revision = revision
        self.device = device
        self.dtype = dtype
        self.mode = mode
        self.greedy = greedy
        self.seed = seed
        self.min_confidence = min_confidence
        self.token_budget = token_budget
        self.prompts = prompts
        self.name = f"hf:{self.model}"
        self.usage = Usage()
        self._store_setting = store

    @cached_property
    def identity(self) -> str:
        """What decides the answers, as one line.

        A model on the hub is named by its commit. A directory is named by a SHA-256 over its JSON
        files and tokenizer and over size, head and tail of its weight files, because hashing all
        of them would take minutes.
        """
        facts = {"model": self.model, "mode": self.mode}
        if self.mode == "official":
            facts["decoding"] = "greedy" if self.greedy else f"generation_config, seed {self.seed}"
        else:
            facts["min_confidence"] = str(self.min_confidence)
        if Path(self.model).is_dir():
            # Not the whole path: a directory that moved is the same judge.
            facts["model"] = Path(self.model).resolve().name
            facts["revision"] = _fingerprint(self._directory)
        else:
            facts["revision"] = self._directory.name
        return judge_identity(self.prompts, dtype=self._dtype_name, **facts)

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        """Is each word the name of one place, person or other entity?"""
        return answer_all(self, [Query(word) for word in words])

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """For each (word, class name): is the word a kind of the class?"""
        return answer_all(self, [Query(word, (name,)) for word, name in pairs])

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[list[tuple[int, Answer]]]:
        """Yield (position, answer), stored ones first, the others batch by batch.

        Raises:
            JudgeError: The model cannot be loaded, or does not fit into memory.
        """
        return answer_through_store(self._store, self.identity, queries, self._ask, self.usage)

    def _ask(self, queries: Sequence[Query]) -> Iterator[list[tuple[int, Answer]]]:
        if self.mode == "official":
            for position, query in enumerate(queries):
                self.usage.asked += 1
                yield [(position, self._generate(query))]
            return
        engine = self._engine
        prompts = self._encode(queries)
        before = engine.tokens
        for batch in engine.probabilities(prompts, [query.word for query in queries]):
            self.usage.asked += len(batch)
            self.usage.prompt_tokens += engine.tokens - before
            before = engine.tokens
            yield [(position, self._answer(p)) for position, p in batch]

    def _answer(self, p: float) -> Answer:
        confidence = max(p, 1 - p)
        reason = f"P(yes) = {p:.3f}"
        if confidence < self.min_confidence:
            return Answer(None, reason, confidence)
        return Answer(p > 0.5, reason, confidence)

    def _encode(self, queries: Sequence[Query]) -> list[Tokens]:
        texts = [self._chat(query) for query in queries]
        return [tuple(ids) for ids in self._tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def _chat(self, query: Query) -> str:
        """Return the text the model reads; a template without system prompts gets it in front."""
        messages = self.prompts.messages(query)
        if not getattr(self._tokenizer, "chat_template", None):
            return "\n\n".join(message["content"] for message in messages) + "\n\nAnswer:"
        # Templates that know no thinking ignore the option.
        options: dict[str, Any] = {
            "tokenize": False,
            "add_generation_prompt": True,
            "enable_thinking": False,
        }
        try:
            text: str = self._tokenizer.apply_chat_template(messages, **options)
        except Exception:
            # Jinja's own errors, raised by templates such as Gemma's that refuse a system role.
            content = "\n\n".join(message["content"] for message in messages)
            text = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": content}], **options
            )
        return text

    @torch.inference_mode()
    def _generate(self, query: Query) -> Answer:
        model = self._model
        ids = torch.tensor(self._encode([query]), device=model.device)
        options: dict[str, Any] = {"max_new_tokens": _REPLY_TOKENS}
        if self.greedy:
            options |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(zlib.crc32(f"{self.seed}|{self.prompts.question(query)}".encode()))
            output = model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        reply = output[0, ids.shape[1] :]
        self.usage.prompt_tokens += ids.shape[1]
        self.usage.completion_tokens += len(reply)
        text = self._tokenizer.decode(reply, skip_special_tokens=True)
        return Answer(text.lower().startswith("yes"), f"replied {text[:40]!r}")

    @cached_property
    def _store(self) -> AnswerStore | None:
        return open_store(self._store_setting)

    @cached_property
    def _directory(self) -> Path:
        return _find(self.model, self.revision)

    @property
    def _device_name(self) -> str:
        if self.device != "auto":
            return self.device
        return "cuda" if torch.cuda.is_available() else "cpu"

    @property
    def _dtype_name(self) -> str:
        if self.dtype != "auto":
            return self.dtype
        if torch.device(self._device_name).type == "cpu":
            return "float32"
        config = json.loads((self._directory / "config.json").read_text(encoding="utf-8"))
        return str(config.get("dtype") or config.get("torch_dtype") or "float32")

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            with quiet_transformers():
                return AutoTokenizer.from_pretrained(self._directory, local_files_only=True)
        except Exception as error:
            raise JudgeError(
                f"The tokenizer of the language model {self.model!r} cannot be loaded "
                f"({_first_line(error)}): the directory must hold its files."
            ) from error

    @cached_property
    def _model(self) -> Any:
        from transformers import AutoModelForCausalLM

        if not any(self._directory.glob("*.safetensors")):
            raise JudgeError(
                f"{self.model!r} holds no safetensors weights, and pickled weights are never "
                "loaded: convert them once with save_pretrained, or pick another revision."
            )
        try:
            device = torch.device(self._device_name)
            with quiet_transformers():
                model = AutoModelForCausalLM.from_pretrained(
                    self._directory,
                    dtype=getattr(torch, self._dtype_name),
                    use_safetensors=True,
                    local_files_only=True,
                )
            return model.to(device).eval().requires_grad_(False)
        except Exception as error:
            # Other architectures, truncated weights, devices and memory each raise their own class.
            raise JudgeError(
                f"The language model {self.model!r} cannot be loaded on "
                f"{self._device_name!r} ({_first_line(error)}): give a causal model with a chat "
                "template and complete files that fits there."
            ) from error

    @cached_property
    def _engine(self) -> YesNoModel:
        yes, no = answer_tokens(self._tokenizer)
        if not yes or not no:
            raise JudgeError(
                f"The tokenizer of {self.model!r} begins Yes and No with the same token, so their "
                "probabilities cannot be told apart: use mode='official'."
            )
        model = self._model
        budget = self.token_budget or _TOKEN_BUDGET.get(model.device.type, _GPU_TOKEN_BUDGET)
        pad = self._tokenizer.pad_token_id
        return YesNoModel(model, yes, no, pad_id=pad or 0, token_budget=budget)


def answer_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the token ids that open a yes, and those that open a no.

    Spellings that are one token count; where a tokenizer has none of these, the first token of
    each does. A token that opens both counts for neither.
    """
    found: dict[bool, set[int]] = {}
    for yes, forms in _FORMS.items():
        spelled = [
            tokenizer.encode(space + form, add_special_tokens=False)
            for form in forms
            for space in ("", " ")
        ]
        whole = {ids[0] for ids in spelled if len(ids) == 1}
        found[yes] = whole or {ids[0] for ids in spelled if ids}
    both = found[True] & found[False]
    return sorted(found[True] - both), sorted(found[False] - both)


def _find(model: str, revision: str | None) -> Path:
    path = Path(model).expanduser()
    if path.is_dir():
        return path.resolve()
    if path.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1:
        raise JudgeError(
            f"{model!r} is not a directory: give one that holds a causal language model, or a hub "
            "id such as 'Qwen/Qwen2.5-14B-Instruct'."
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(model, revision=revision, allow_patterns=list(_HUB_FILES)))
    except Exception as error:
        # The HTTP client's exception classes change between releases of huggingface_hub.
        raise JudgeError(
            f"The language model {model!r} is not in the local cache and cannot be fetched from "
            f"the hub ({_first_line(error)}): check its name and the connection, or give a local "
            "directory."
        ) from error


def _fingerprint(directory: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(directory.iterdir()):
        if file.suffix == ".safetensors":
            size = file.stat().st_size
            digest.update(f"{file.name} {size}".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(_EDGE))
                stream.seek(max(0, size - _EDGE))
                digest.update(stream.read())
        elif file.suffix in {".json", ".model", ".txt", ".jinja"}:
            digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
