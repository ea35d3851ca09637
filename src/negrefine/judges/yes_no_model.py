"""P(yes) of prompts under a causal language model, one forward pass for a batch.

Prompts of one kind begin alike. Their common prefix is read once per call, the common prefix of a
family (the questions about one word) once per family, and each prompt's own rest last. Keys and
values of what is read stay in a `DynamicCache`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from negrefine.errors import InputError

# A processor is busy with few tokens; more only cost memory.
CPU_TOKEN_BUDGET = 1024
GPU_TOKEN_BUDGET = 8192
_FORMS = (("Yes", "yes", "YES"), ("No", "no", "NO"))
# Families whose prefixes are read together hold this many batches of rests: enough to sort them
# by length, so that next to nothing is padded.
_BATCHES_PER_BLOCK = 4

Ids: TypeAlias = list[int]
Scored: TypeAlias = list[tuple[int, float]]


def yes_no_tokens(tokenizer: Any, name: str) -> tuple[list[int], list[int]]:
    """Return the tokens that replies of yes and of no can begin with.

    Those are the first tokens of yes, Yes and YES with and without a space before, likewise no.
    First tokens that both share, or that are blank, tell nothing and are left out.

    Raises:
        InputError: No token is left for one of them.
    """
    first: list[set[int]] = []
    for forms in _FORMS:
        spellings = [f"{space}{form}" for form in forms for space in ("", " ")]
        encoded = [tokenizer.encode(text, add_special_tokens=False) for text in spellings]
        first.append({ids[0] for ids in encoded if ids and ids[0] != tokenizer.unk_token_id})
    yes, no = (
        sorted(i for i in mine - others if tokenizer.decode([i]).strip())
        for mine, others in ((first[0], first[1]), (first[1], first[0]))
    )
    if not yes or not no:
        raise InputError(
            f"The tokenizer of {name!r} cannot tell 'Yes' from 'No' by their first tokens: use "
            "another model, or mode='official', which reads the whole reply."
        )
    return yes, no


@dataclass(frozen=True, slots=True)
class _Read:
    """Tokens that a model has read.

    Attributes:
        layers: Keys and values of each layer, each of shape (B, heads, S, size).
        mask: (B, S) int64, 0 where a slot is padding.
        lengths: B numbers of tokens.
    """

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    mask: torch.Tensor
    lengths: torch.Tensor

    def rows(self, index: Sequence[int]) -> _Read:
        """Return the reads at `index`; a single one is repeated without a copy."""
        if len(self.lengths) == 1:
            n = len(index)
            return _Read(
                [(k.expand(n, -1, -1, -1), v.expand(n, -1, -1, -1)) for k, v in self.layers],
                self.mask.expand(n, -1),
                self.lengths.expand(n),
            )
        at = torch.tensor(index, device=self.mask.device)
        return _Read(
            [(k.index_select(0, at), v.index_select(0, at)) for k, v in self.layers],
            self.mask.index_select(0, at),
            self.lengths.index_select(0, at),
        )


class YesNoModel:
    """Gives P(yes) against P(no) for prompts in token ids.

    Attributes:
        name: Of the model, for messages.
        token_budget: Tokens of one forward pass, padding included; halved for good whenever memory
            runs out.
        shares_prefixes: Whether common prefixes are read once; None until the first call proves
            it. False for models with another cache than plain keys and values.
        tokens: Tokens read so far, without padding.
        padding: Tokens of padding so far.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        name: str,
        *,
        token_budget: int | None = None,
        batch_size: int | None = None,
        share_prefixes: bool = True,
    ) -> None:
        """Find the tokens of yes and no, and how to get their logits.

        Args:
            model: A causal model of transformers, in evaluation mode.
            tokenizer: Its tokenizer.
            name: For messages.
            token_budget: Default: `CPU_TOKEN_BUDGET` or `GPU_TOKEN_BUDGET`.
            batch_size: At most so many prompts in one forward pass.
            share_prefixes: False reads every prompt whole.

        Raises:
            InputError: Yes and no cannot be told apart.
        """
        self.name = name
        self._model = model
        self._device = next(model.parameters()).device
        default = CPU_TOKEN_BUDGET if self._device.type == "cpu" else GPU_TOKEN_BUDGET
        self.token_budget = default if token_budget is None else token_budget
        self._batch_size = batch_size
        yes, no = yes_no_tokens(tokenizer, name)
        self._n_yes = len(yes)
        self._ids = torch.tensor([*yes, *no], device=self._device)
        self.shares_prefixes = None if share_prefixes and _has_plain_cache(model) else False
        self.tokens = 0
        self.padding = 0
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._rows = self._output_rows()

    def score(self, prompts: Sequence[Ids], families: Sequence[Hashable]) -> Iterator[Scored]:
        """Yield lists of (position in `prompts`, P(yes)), every position once.

        Args:
            prompts: Token ids, none empty.
            families: One key per prompt; equal keys promise a long common prefix, which is found
                on the ids themselves.

        Raises:
            InputError: One prompt alone does not fit into memory, or the model gives NaN.
        """
        if self.shares_prefixes is None and len(prompts) > 1:
            self.shares_prefixes = self._proves_sharing(prompts, families)
        if self.shares_prefixes and len(prompts) > 1:
            batches = self._score_sharing(prompts, families)
        else:
            batches = self._score_rests(None, [(i, 0, ids) for i, ids in enumerate(prompts)])
        for batch in batches:
            if any(math.isnan(p) for _, p in batch):
                raise InputError(
                    f"The model {self.name!r} gives NaN in {self._model.dtype}: use "
                    "dtype='float32' or 'bfloat16'."
                )
            yield batch

    def _score_sharing(
        self, prompts: Sequence[Ids], families: Sequence[Hashable]
    ) -> Iterator[Scored]:
        start = _common_prefix(prompts)
        head = self._read(None, [prompts[0][:start]]) if start else None
        members: dict[Hashable, list[int]] = {}
        for i, family in enumerate(families):
            members.setdefault(family, []).append(i)
        single: list[tuple[int, int, Ids]] = []
        shared: list[tuple[list[int], int]] = []
        for positions in members.values():
            end = _common_prefix([prompts[i] for i in positions])
            if len(positions) > 1 and end > start:
                shared.append((positions, end))
            else:
                single.extend((i, 0, prompts[i][start:]) for i in positions)
        yield from self._score_rests(head, single)

        shared.sort(key=lambda family: (-family[1], family[0]))
        n_rests = [sum(len(prompts[i]) - end for i in positions) for positions, end in shared]

        def read(first: int, last: int) -> tuple[int, int, _Read]:
            prefixes = [prompts[positions[0]][start:end] for positions, end in shared[first:last]]
            return first, last, self._read(head, prefixes)

        widths = [end - start for _, end in shared]
        for first, last, block in self._in_batches(read, widths, n_rests):
            rests = [
                (i, row, prompts[i][end:])
                for row, (positions, end) in enumerate(shared[first:last])
                for i in positions
            ]
            yield from self._score_rests(block, rests)

    def _score_rests(
        self, before: _Read | None, rests: Sequence[tuple[int, int, Ids]]
    ) -> Iterator[Scored]:
        """Score (position, row of `before`, tokens), longest first."""
        ordered = sorted(rests, key=lambda rest: (-len(rest[2]), rest[0]))

        def run(first: int, last: int) -> Scored:
            part = ordered[first:last]
            past = None if before is None else before.rows([row for _, row, _ in part])
            p_yes = self._p_yes(past, [ids for _, _, ids in part])
            return [(i, p) for (i, _, _), p in zip(part, p_yes, strict=True)]

        yield from self._in_batches(run, [len(ids) for _, _, ids in ordered])

    def _in_batches(
        self,
        run: Callable[[int, int], Any],
        widths: Sequence[int],
        followed_by: Sequence[int] | None = None,
    ) -> Iterator[Any]:
        """Run over slices that fit the token budget, halving it whenever memory runs out.

        Args:
            run: Takes the first item and the one after the last.
            widths: Tokens of each item, falling.
            followed_by: Tokens that each item makes necessary later.
        """
        first = 0
        while first < len(widths):
            size = max(1, self.token_budget // max(1, widths[first]))
            if self._batch_size is not None:
                size = min(size, self._batch_size)
            last = min(first + size, len(widths))
            if followed_by is not None:
                room = _BATCHES_PER_BLOCK * self.token_budget
                last = first + max(1, _how_many(followed_by[first:last], room))
            failed = False
            try:
                result = run(first, last)
            except torch.cuda.OutOfMemoryError as error:
                if last - first == 1:
                    raise InputError(
                        f"One prompt of {widths[first]} tokens does not fit into the memory of "
                        f"{self._device} beside {self.name!r}: use a smaller model or dtype."
                    ) from error
                failed = True
            # Outside of the handler, whose traceback keeps the tensors alive.
            if failed:
                self.token_budget = max(1, (last - first) * widths[first] // 2)
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            yield result
            first = last

    @torch.inference_mode()
    def _read(self, before: _Read | None, texts: Sequence[Ids]) -> _Read:
        """Return what the model keeps of `texts`, which follow the row or rows of `before`."""
        past = None if before is None else before.rows([0] * len(texts))
        inputs, cache, _ = self._inputs(past, texts)
        options = {"logits_to_keep": 1} if self._rows is None and self._keeps else {}
        (self._model.base_model if self._rows is not None else self._model)(**inputs, **options)
        return _Read(
            [(layer.keys, layer.values) for layer in cache.layers],
            inputs["attention_mask"],
            _lengths(past, texts, self._device),
        )

    @torch.inference_mode()
    def _p_yes(self, before: _Read | None, texts: Sequence[Ids]) -> list[float]:
        inputs, _, last = self._inputs(before, texts)
        return self._share_of_yes(self._logits(inputs, last)).tolist()

    def _share_of_yes(self, logits: torch.Tensor) -> torch.Tensor:
        return torch.softmax(logits.double(), dim=-1)[:, : self._n_yes].sum(dim=-1)

    def _inputs(
        self, before: _Read | None, texts: Sequence[Ids]
    ) -> tuple[dict[str, Any], Any, torch.Tensor]:
        """Return the model's arguments, the cache among them, and where each text ends."""
        width = max(map(len, texts))
        n_tokens = sum(map(len, texts))
        self.tokens += n_tokens
        self.padding += width * len(texts) - n_tokens
        # Right padding: no token looks to its right, so any id will do.
        ids = torch.tensor([[*text, *[0] * (width - len(text))] for text in texts])
        ends = torch.tensor([len(text) for text in texts])
        mask = (torch.arange(width) < ends[:, None]).long()
        ids, ends, mask = ids.to(self._device), ends.to(self._device), mask.to(self._device)
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        if not self.shares_prefixes:
            return inputs, None, ends - 1
        cache = DynamicCache(config=self._model.config)
        positions = torch.arange(width, device=self._device).expand(len(texts), -1)
        if before is not None:
            inputs["attention_mask"] = torch.cat([before.mask, mask], dim=1)
            positions = positions + before.lengths[:, None]
            for layer, (keys, values) in zip(cache.layers, before.layers, strict=True):
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values = keys, values
        inputs |= {"position_ids": positions, "past_key_values": cache, "use_cache": True}
        return inputs, cache, ends - 1

    def _logits(self, inputs: dict[str, Any], last: torch.Tensor) -> torch.Tensor:
        """Return float32 (B, tokens of yes and no) at the places `last`."""
        row = torch.arange(len(last), device=self._device)
        if self._rows is not None:
            weight, bias = self._rows
            hidden = self._model.base_model(**inputs).last_hidden_state[row, last]
            logits: torch.Tensor = hidden.float() @ weight.T
            return logits if bias is None else logits + bias
        if not self._keeps:
            logits = self._model(**inputs).logits[row, last][:, self._ids]
            return logits.float()
        places, at = torch.unique(last, return_inverse=True)
        logits = self._model(**inputs, logits_to_keep=places).logits[row, at][:, self._ids]
        return logits.float()

    @torch.inference_mode()
    def _output_rows(self) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """Return the rows (and biases) of yes and no, or None if the logits are not their product.

        Some models scale, cap or project in between; the proof is the model's own output.
        """
        head = self._model.get_output_embeddings()
        if type(head) is not torch.nn.Linear or self._model.base_model is self._model:
            return None
        bias = None if head.bias is None else head.bias[self._ids].float()
        rows = (head.weight[self._ids].float(), bias)
        # Any short text will do, and these tokens exist.
        inputs = {"input_ids": self._ids[None, :4], "use_cache": False}
        expected = self._model(**inputs).logits[:, -1, self._ids].float()
        try:
            hidden = self._model.base_model(**inputs).last_hidden_state[:, -1].float()
            found = hidden @ rows[0].T + (0 if bias is None else bias)
        except (AttributeError, TypeError, RuntimeError):
            return None
        exact = self._model.dtype is torch.float32
        close = torch.allclose(found, expected, rtol=1e-4 if exact else 0.05, atol=self._tolerance)
        return rows if close else None

    @property
    def _tolerance(self) -> float:
        return 1e-3 if self._model.dtype is torch.float32 else 0.25

    def _proves_sharing(self, prompts: Sequence[Ids], families: Sequence[Hashable]) -> bool:
        """Score a few prompts both ways; the answer decides for all later ones."""
        by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        twin = next((i for i in range(1, len(prompts)) if families[i] == families[0]), 1)
        chosen = sorted({0, twin, by_length[0], by_length[-1]})
        some = [prompts[i] for i in chosen]
        self.shares_prefixes = False
        whole = dict(chain(*self._score_rests(None, [(i, 0, ids) for i, ids in enumerate(some)])))
        self.shares_prefixes = True
        try:
            parts = dict(chain(*self._score_sharing(some, [families[i] for i in chosen])))
        except (AttributeError, TypeError, ValueError, IndexError, RuntimeError) as error:
            if isinstance(error, torch.cuda.OutOfMemoryError | InputError):
                raise
            return False
        return all(abs(_log_odds(whole[i]) - _log_odds(parts[i])) <= self._tolerance for i in whole)


def _has_plain_cache(model: Any) -> bool:
    """Whether every layer keeps all keys and values, and nothing else."""
    try:
        layers = DynamicCache(config=model.config).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def _lengths(before: _Read | None, texts: Sequence[Ids], device: torch.device) -> torch.Tensor:
    own = torch.tensor([len(text) for text in texts], device=device)
    return own if before is None else own + before.lengths


def _common_prefix(texts: Sequence[Ids]) -> int:
    """Return how many first tokens all texts share, leaving at least one of each."""
    low, high = min(texts), max(texts)
    limit = min(map(len, texts)) - 1
    return next((n for n in range(limit) if low[n] != high[n]), limit)


def _how_many(sizes: Sequence[int], room: int) -> int:
    total = 0
    for n, size in enumerate(sizes):
        total += size
        if total > room:
            return n
    return len(sizes)


def _log_odds(p: float) -> float:
    p = min(max(p, 1e-12), 1 - 1e-12)
    return math.log(p / (1 - p))
