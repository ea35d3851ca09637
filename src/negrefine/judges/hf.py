"""NegFilter's published judge: an instruct model in this process, through transformers."""

from __future__ import annotations

import copy
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from negrefine.errors import InputError
from negrefine.judges.base import Answer, AnswerBatch, Query
from negrefine.judges.causal_lm import (
    chat_renderer,
    load_causal_lm,
    model_version,
    pick_dtype,
    reply_opening,
)
from negrefine.judges.chat_reply import LEAST_MASS
from negrefine.judges.language_model import LanguageModelJudge
from negrefine.judges.prompts import judge_identity
from negrefine.judges.thoughts import ends_in_thoughts
from negrefine.pretrained.loading import pick_device

if TYPE_CHECKING:
    from negrefine.judges.yes_no_model import YesNoModel

_SHOWN_CHARACTERS = 60


@dataclass(repr=False, eq=False)
class HFJudge(LanguageModelJudge):
    """Asks a causal instruct model; NegRefine (ICCV 2025, arXiv 2507.09795), section on NegFilter.

    In mode "probability" nothing is generated: P(yes) and P(no) of the reply's first token are
    summed over their spellings and normalised, and the answer is yes if P(yes) > 0.5. In mode
    "official" the reply is generated from one prompt at a time with the model's own generation
    settings, and is a yes if it begins with "yes" in any case; anything else is a no.

    A question is undecided if the model was about to write something else (P(yes) and P(no)
    together are below `least_mass`) or, in mode "official", if its reply ends within its thoughts.
    Each call with undecided questions warns, also if they were stored: another chat template or
    model has other answers.

    The model is loaded for the first question that is not stored.

    Args:
        model: Directory of a causal language model in safetensors, or a hub id.
        device: "auto" (a GPU if there is one, otherwise the CPU) or a torch device.
        dtype: "float32", "float16", "bfloat16" or "auto": float32 on the CPU, the checkpoint's own
            on a GPU.
        revision: Branch, tag or commit on the hub.
        mode: "probability" or "official".
        token_budget: Tokens per forward pass; the default depends on the device. It is halved
            permanently whenever memory runs out.
        batch_size: At most this many prompts per forward pass, whatever the budget.
        ranks_per_round: How many class names per word it prefers to be asked about together: 10 by
            default, where the word is then read once, and 1 in mode "official".
        share_prefixes: Compute what prompts have in common once, if the model's cache is plain keys
            and values.
        greedy: In mode "official", take the most probable token instead of a sampled one.
        seed: In mode "official", the seed of sampling. Every question has its own generator, so
            that answers do not depend on the order; torch's global generator is not changed.
        max_new_tokens: In mode "official", the largest number of tokens of a reply.
        least_mass: In mode "probability", the smallest P(yes) + P(no) of an answer, 0 to 1. The
            default is also that below which `OpenAIJudge` uses no probabilities.
        prompts: As for `LanguageModelJudge`, like `store`.

    Attributes:
        usage: Questions and tokens so far. Prompt tokens are those that were computed: a prefix
            that several questions share counts once.

    Raises:
        InputError: A setting is out of range.

    Example:
        >>> judge = negrefine.HFJudge("qwen/", store=None)
        >>> answer, = judge.is_proper_noun(["Paris"])
        >>> answer.yes in (True, False), 0.5 <= answer.confidence <= 1
        (True, True)
    """

    model: str | os.PathLike[str] = "Qwen/Qwen2.5-14B-Instruct"
    _: KW_ONLY
    device: str = "auto"
    dtype: str = "auto"
    revision: str | None = None
    mode: str = "probability"
    token_budget: int | None = None
    batch_size: int | None = None
    ranks_per_round: int | None = None
    share_prefixes: bool = True
    greedy: bool = False
    seed: int = 0
    max_new_tokens: int = 512
    least_mass: float = LEAST_MASS

    def __post_init__(self) -> None:
        """Check the settings; the model is loaded later."""
        if self.mode not in ("probability", "official"):
            raise InputError(f"mode must be 'probability' or 'official', not {self.mode!r}.")
        self._check_at_least(token_budget=1, batch_size=1, ranks_per_round=1, max_new_tokens=1)
        if not 0 <= self.least_mass <= 1:
            raise InputError(f"least_mass must be between 0 and 1, not {self.least_mass!r}.")
        if self.ranks_per_round is None:
            self.ranks_per_round = 10 if self.mode == "probability" else 1
        self.model = self._model = os.fspath(self.model)
        self.name = f"hf:{self.model}"

    @cached_property
    def identity(self) -> str:
        """Everything that determines the answers: model, its version, dtype, mode and prompts.

        The first call reads every file of a local directory (about a second per gigabyte), or asks
        the hub for the commit unless `revision` is one. InputError if the model cannot be found.
        """
        name, version = model_version(self._model, self.revision)
        official = self.mode == "official"
        decoding = "greedy" if self.greedy else f"sampled, seed {self.seed}"
        return judge_identity(
            self.prompts,
            judge="hf",
            model=name,
            revision=version,
            mode=self.mode,
            dtype=pick_dtype(self.dtype, pick_device(self.device)),
            decoding=decoding if official else None,
            max_new_tokens=str(self.max_new_tokens) if official else None,
            # Answers of before there were undecided ones may be noise: they have neither fact.
            least_mass=None if official else f"{self.least_mass:g}",
            unfinished_thoughts="undecided" if official else None,
        )

    @property
    def loaded(self) -> bool:
        """Whether the model is in memory."""
        return "_lm" in vars(self)

    @cached_property
    def _lm(self) -> tuple[Any, Any, Callable[[Sequence[dict[str, str]]], list[int]]]:
        """The model, its tokenizer, and the function from messages to token ids."""
        device = pick_device(self.device)
        dtype = pick_dtype(self.dtype, device)
        model, tokenizer = load_causal_lm(self._model, self.revision, device, dtype)
        return model, tokenizer, chat_renderer(tokenizer)

    @cached_property
    def _yes_no_model(self) -> YesNoModel:
        from negrefine.judges.yes_no_model import YesNoModel

        model, tokenizer, _ = self._lm
        limits = (self.token_budget, self.batch_size)
        return YesNoModel(model, tokenizer, self._model, *limits, self.share_prefixes)

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        """Yield lists of (position in `queries`, answer), as `LanguageModelJudge` does.

        Warns at the end about questions for which the model had no answer.

        Raises:
            InputError: The model or the store cannot be found, loaded or used.
        """
        undecided: list[str] = []
        for batch in super().iter_answers(queries):
            undecided += [answer.reason for _, answer in batch if answer.yes is None]
            yield batch
        if undecided:
            warnings.warn(
                f"{len(undecided)} of {len(queries)} questions to {self.name!r} are undecided and "
                f"remove no label; the first: {undecided[0]}. Use an instruct model, with a chat "
                "template that does not open a thought, or serve a model that thinks and use "
                "OpenAIJudge (--judge openai:MODEL), which reads the answer after the thoughts.",
                stacklevel=2,
            )

    @cached_property
    def _opening(self) -> str:
        """What the chat template writes at the beginning of a reply."""
        return reply_opening(self._lm[1])

    def _ask(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        return self._compare(queries) if self.mode == "probability" else self._generate(queries)

    def _compare(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        model = self._yes_no_model
        _, _, render = self._lm
        prompts = [render(self.prompts.messages(query)) for query in queries]
        # Questions of one family differ only in their class names.
        families = [(query.word, min(len(query.class_names), 2)) for query in queries]
        for batch in model.score(prompts, families):
            self.usage.asked += len(batch)
            self.usage.prompt_tokens = model.tokens
            yield [(i, self._answer(p, mass)) for i, p, mass in batch]

    def _answer(self, p: float, mass: float) -> Answer:
        if mass < self.least_mass:
            thinks = ends_in_thoughts(self._opening)
            why = "the chat template opens a thought" if thinks else "about to write something else"
            return Answer(None, f"{why}, P(yes) + P(no) = {mass:.2g}")
        return Answer(p > 0.5, f"P(yes) = {p:.2f}", p if p > 0.5 else 1 - p)

    def _generate(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        for i, reply, _, unfinished in self._replies(queries):
            if unfinished:
                yield [(i, Answer(None, f"{unfinished}: {reply[:_SHOWN_CHARACTERS]!r}"))]
                continue
            # As published: nothing is stripped, so a reply that begins with a space is a no.
            yes = reply.lower().startswith("yes")
            yield [(i, Answer(yes, f"replied {reply[:_SHOWN_CHARACTERS]!r}"))]

    def _replies(self, queries: Sequence[Query]) -> Iterator[tuple[int, str, int, str]]:
        """Yield (position, reply, its tokens, why it is none), one prompt after the other."""
        import torch

        model, tokenizer, render = self._lm
        settings = copy.deepcopy(model.generation_config)
        # max_length would contradict max_new_tokens.
        settings.update(max_new_tokens=self.max_new_tokens, max_length=None)
        if settings.pad_token_id is None:
            # Only silences a warning: one prompt needs no padding.
            end = settings.eos_token_id
            settings.pad_token_id = end[0] if isinstance(end, list) else end
        if self.greedy:
            settings.update(do_sample=False, temperature=None, top_p=None, top_k=None)
        device = model.device
        cuda = device.type == "cuda"
        # torch.manual_seed would also seed the devices that are not forked.
        generators = torch.cuda.default_generators if cuda else [torch.default_generator]
        for i, query in enumerate(queries):
            ids = torch.tensor([render(self.prompts.messages(query))], device=device)
            text = f"{self.seed}\n{self.prompts.question(query)}"
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
            with torch.random.fork_rng(devices=[device] if cuda else []), torch.inference_mode():
                generators[device.index or 0].manual_seed(seed)
                output = model.generate(
                    ids, attention_mask=torch.ones_like(ids), generation_config=settings
                )
            reply_ids = output[0, ids.shape[1] :]
            reply = tokenizer.decode(reply_ids, skip_special_tokens=True)
            self.usage.asked += 1
            self.usage.prompt_tokens += ids.shape[1]
            self.usage.completion_tokens += len(reply_ids)
            thinks = ends_in_thoughts(self._opening + tokenizer.decode(reply_ids))
            why = f"the reply ends within thoughts after {len(reply_ids)} tokens"
            yield i, reply, len(reply_ids), why if thinks else ""
