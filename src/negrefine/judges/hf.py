"""NegFilter's judge as published: an instruct model in this process, through transformers."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

from negrefine.errors import InputError
from negrefine.judges.base import Answer, Query, Usage, answer_all
from negrefine.judges.prompts import PUBLISHED_PROMPTS, JudgePrompts, judge_identity
from negrefine.judges.store import AnswerStore, answer_through_store

MODES = ("probability", "official")
_REPLY_SHOWN = 60


class HFJudge:
    """Asks a causal instruct model, NegRefine (ICCV 2025, arXiv 2507.09795), section on NegFilter.

    In mode "probability" a question costs no generation: P(yes) and P(no) of the reply's first
    token are summed over their spellings and normalised, and the answer is yes if P(yes) > 0.5. In
    mode "official" the reply is generated from one prompt at a time with the model's own generation
    settings, and is a yes if it begins with "yes" in any case; anything else is a no.

    Every answer is stored at once. The model is loaded for the first question that is not stored.

    Attributes:
        model: Hub id or directory.
        mode: "probability" or "official".
        name: "hf:" and the model.
        ranks_per_round: How many class names about one word it wants to hear of together, because
            the word is then read once.
        usage: Questions and tokens so far; prompt tokens are those that were computed, so a prefix
            that several questions share counts once.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = "Qwen/Qwen2.5-14B-Instruct",
        *,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        mode: str = "probability",
        token_budget: int | None = None,
        batch_size: int | None = None,
        ranks_per_round: int | None = None,
        share_prefixes: bool = True,
        greedy: bool = False,
        seed: int = 0,
        max_new_tokens: int = 512,
        prompts: JudgePrompts = PUBLISHED_PROMPTS,
        store: AnswerStore | str | os.PathLike[str] | None = "default",
    ) -> None:
        """Take the settings; nothing is loaded yet.

        Args:
            model: Directory of a causal language model in safetensors, or a hub id.
            device: "auto" (a GPU if there is one, otherwise the processor) or a torch device.
            dtype: "float32", "float16", "bfloat16" or "auto": float32 on the processor, the
                checkpoint's own on a GPU.
            revision: Branch, tag or commit on the hub.
            mode: "probability" or "official".
            token_budget: Tokens of one forward pass; by default a number for the device. Halved
                for good whenever memory runs out.
            batch_size: At most so many prompts in one forward pass, whatever the budget.
            ranks_per_round: By default 10 in mode "probability" and 1 in mode "official", where
                questions share nothing.
            share_prefixes: Read what prompts have in common once. Never done for models whose
                cache is not plain keys and values.
            greedy: In mode "official", the most probable token instead of a sampled one.
            seed: In mode "official", of the samples. Every question has its own generator, made of
                the seed and the question, so answers depend on no order; torch's global one stays
                as it is.
            max_new_tokens: In mode "official", the longest reply.
            prompts: The questions in words.
            store: Where answers are kept: an AnswerStore, a file, "default" for the one in the
                user's cache directory, or None to keep none.

        Raises:
            InputError: A setting that cannot be used.
        """
        if mode not in MODES:
            raise InputError(f"mode must be 'probability' or 'official', not {mode!r}.")
        for setting, number in (
            ("token_budget", token_budget),
            ("batch_size", batch_size),
            ("ranks_per_round", ranks_per_round),
            ("max_new_tokens", max_new_tokens),
        ):
            if number is not None and number < 1:
                raise InputError(f"{setting} must be at least 1, not {number}.")
        self.model = os.fspath(model)
        self.mode = mode
        self.name = f"hf:{self.model}"
        default_ranks = 10 if mode == "probability" else 1
        self.ranks_per_round = default_ranks if ranks_per_round is None else ranks_per_round
        self.usage = Usage()
        self._device = device
        self._dtype = dtype
        self._revision = revision
        self._token_budget = token_budget
        self._batch_size = batch_size
        self._share_prefixes = share_prefixes
        self._greedy = greedy
        self._seed = seed
        self._max_new_tokens = max_new_tokens
        self._prompts = prompts
        self._store_setting = store
        self._store: AnswerStore | None = None
        self._identity: str | None = None
        self._ask_loaded: Callable[[Sequence[Query]], Iterator[list[tuple[int, Answer]]]] | None
        self._ask_loaded = None

    @property
    def identity(self) -> str:
        """What decides the answers: model, its version, dtype, mode and prompts.

        The first call reads every file of a local directory (about a second per gigabyte), or asks
        the hub for the commit unless `revision` is one.

        Raises:
            InputError: The model or its version cannot be found.
        """
        if self._identity is None:
            from negrefine.hub import pick_device
            from negrefine.judges.causal_lm import model_version, pick_dtype

            name, version = model_version(self.model, self._revision)
            decoding = {}
            if self.mode == "official":
                decoding = {
                    "decoding": "greedy" if self._greedy else f"sampled, seed {self._seed}",
                    "max_new_tokens": str(self._max_new_tokens),
                }
            self._identity = judge_identity(
                self._prompts,
                judge="hf",
                model=name,
                revision=version,
                mode=self.mode,
                dtype=pick_dtype(self._dtype, pick_device(self._device)),
                **decoding,
            )
        return self._identity

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return self._ask_loaded is not None

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        """Is each word a proper noun?"""
        return answer_all(self, [Query(word) for word in words])

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """For each (word, class name): is the word a subcategory of the class name?"""
        return answer_all(self, [Query(word, (name,)) for word, name in pairs])

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[list[tuple[int, Answer]]]:
        """Yield lists of (position in `queries`, answer) batch by batch.

        Raises:
            InputError: The model cannot be found, loaded or used.
        """
        if not queries:
            return
        yield from answer_through_store(
            self._open_store(), self.identity, queries, self._ask, self.usage
        )

    def _open_store(self) -> AnswerStore | None:
        if self._store is None and self._store_setting is not None:
            setting = self._store_setting
            if isinstance(setting, AnswerStore):
                self._store = setting
            else:
                self._store = AnswerStore(None if setting == "default" else Path(setting))
        return self._store

    def _ask(self, queries: Sequence[Query]) -> Iterator[list[tuple[int, Answer]]]:
        if self._ask_loaded is None:
            self._ask_loaded = self._load()
        yield from self._ask_loaded(queries)

    def _load(self) -> Callable[[Sequence[Query]], Iterator[list[tuple[int, Answer]]]]:
        from negrefine.hub import pick_device
        from negrefine.judges.causal_lm import load_causal_lm, pick_dtype
        from negrefine.judges.chat_text import chat_renderer

        device = pick_device(self._device)
        dtype = pick_dtype(self._dtype, device)
        model, tokenizer = load_causal_lm(self.model, self._revision, device, dtype)
        render = chat_renderer(tokenizer)
        if self.mode == "official":
            return lambda queries: self._generate(model, tokenizer, render, queries)
        from negrefine.judges.yes_no_model import YesNoModel

        engine = YesNoModel(
            model,
            tokenizer,
            self.model,
            token_budget=self._token_budget,
            batch_size=self._batch_size,
            share_prefixes=self._share_prefixes,
        )
        return lambda queries: self._compare(engine, render, queries)

    def _compare(
        self, engine: Any, render: Callable[[Any], list[int]], queries: Sequence[Query]
    ) -> Iterator[list[tuple[int, Answer]]]:
        prompts = [render(self._prompts.messages(query)) for query in queries]
        before = engine.tokens
        for batch in engine.score(prompts, [_family(query) for query in queries]):
            self.usage.asked += len(batch)
            self.usage.prompt_tokens += engine.tokens - before
            before = engine.tokens
            yield [
                (i, Answer(p > 0.5, f"P(yes) = {p:.2f}", p if p > 0.5 else 1 - p)) for i, p in batch
            ]

    def _generate(
        self,
        model: Any,
        tokenizer: Any,
        render: Callable[[Any], list[int]],
        queries: Sequence[Query],
    ) -> Iterator[list[tuple[int, Answer]]]:
        import torch

        settings = copy.deepcopy(model.generation_config)
        settings.max_new_tokens = self._max_new_tokens
        # Both would contradict max_new_tokens; a padding token is never used with one prompt.
        settings.max_length = None
        if settings.pad_token_id is None:
            end = settings.eos_token_id
            settings.pad_token_id = end[0] if isinstance(end, list) else end
        if self._greedy:
            settings.do_sample = False
            settings.temperature = settings.top_p = settings.top_k = None
        device = model.device
        cuda = [device] if device.type == "cuda" else []
        for i, query in enumerate(queries):
            ids = torch.tensor([render(self._prompts.messages(query))], device=device)
            seed = _seed_of(self._seed, self._prompts.question(query))
            with torch.random.fork_rng(devices=cuda), torch.inference_mode():
                # torch.manual_seed would seed the devices that are not forked, too.
                if cuda:
                    with torch.cuda.device(device):
                        torch.cuda.manual_seed(seed)
                else:
                    torch.default_generator.manual_seed(seed)
                output = model.generate(
                    ids, attention_mask=torch.ones_like(ids), generation_config=settings
                )
            reply_ids = output[0, ids.shape[1] :]
            reply = tokenizer.decode(reply_ids, skip_special_tokens=True)
            self.usage.asked += 1
            self.usage.prompt_tokens += ids.shape[1]
            self.usage.completion_tokens += len(reply_ids)
            # As published: no stripping, so a reply that begins with a space is a no.
            yes = reply.lower().startswith("yes")
            yield [(i, Answer(yes, f"replied {reply[:_REPLY_SHOWN]!r}"))]


def _family(query: Query) -> Hashable:
    """Return a key that questions share which differ in their class names only."""
    return (query.word, min(len(query.class_names), 2))


def _seed_of(seed: int, question: str) -> int:
    digest = hashlib.sha256(f"{seed}\n{question}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
