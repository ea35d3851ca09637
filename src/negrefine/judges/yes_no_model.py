"""P(yes) of prompts under a causal language model, in one forward pass per batch.

Prompts of one kind begin alike. Their common prefix is read once per call, the common prefix of a
family (the questions about one word) once per family, and each prompt's own rest last. The keys and
values of prefixes are kept in a `DynamicCache`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, TypeAlias

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from negrefine.errors import InputError

# Few tokens keep a CPU busy; more only cost memory.
CPU_TOKEN_BUDGET = 1024
GPU_TOKEN_BUDGET = 8192
_FORMS = (("Yes", "yes", "YES"), ("No", "no", "NO"))
# Families whose prefixes are read together have this many batches of rests: enough to sort them by
# length, so that hardly any padding is needed.
_BATCHES_PER_BLOCK = 4

Ids: TypeAlias = list[int]
Scored: TypeAlias = list[tuple[int, float]]


def yes_no_tokens(tokenizer: Any, name: str) -> tuple[list[int], list[int]]:
    """Return the tokens with which the replies yes and no can begin.

    These are the first tokens of yes, Yes and YES with and without a leading space, likewise no.
    First tokens that both share, or that are blank, are left out.

    Raises:
        InputError: No token is left for one of them.
    """
    first: list[set[int]] = []
    for forms in _FORMS:
        spellings = [f"{space}{form}" for form in forms for space in ("", " ")]
        encoded = [tokenizer.encode(text, add_special_tokens=False) for text in spellings]
        first.append({ids[0] for ids in encoded if ids and ids[0] != tokenizer.unk_token_id})
    yes, no = (
        sorted(token for token in own - other if tokenizer.decode([token]).strip())
        for own, other in (first, first[::-1])
    )
    if not yes or not no:
        raise InputError(
            f"The tokenizer of {name!r} cannot tell 'Yes' from 'No' by their first tokens: use "
            "another model, or mode='official', which reads the whole reply."
        )
    return yes, no


@dataclass(frozen=True, slots=True)
class _Prefixes:
    """Token sequences that a model has read.

    Attributes:
        layers: Keys and values of each layer, each of shape (B, heads, S, size).
        mask: (B, S) int64, 0 for padding.
        lengths: (B,) int64, numbers of tokens.
    """

    layers: list[tuple[torch.Tensor, torch.Tensor]]
    mask: torch.Tensor
    lengths: torch.Tensor

    def rows(self, index: Sequence[int]) -> _Prefixes:
        """Return the sequences at `index`; a single one is repeated without a copy."""

        def take(values: torch.Tensor) -> torch.Tensor:
            if len(values) == 1:
                return values.expand(len(index), *values.shape[1:])
            return values.index_select(0, torch.tensor(index, device=values.device))

        layers = [(take(keys), take(values)) for keys, values in self.layers]
        return _Prefixes(layers, take(self.mask), take(self.lengths))


class YesNoModel:
    """Computes P(yes) / (P(yes) + P(no)) for prompts given as token ids.

    Attributes:
        name: Of the model, for messages.
        token_budget: Tokens per forward pass, padding included; halved permanently whenever memory
            runs out.
        shares_prefixes: Whether common prefixes are read once; None until the first call has
            checked that it is exact. False for models whose cache is not plain keys and values.
        tokens: Tokens read so far, without padding.
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
        """Find the tokens of yes and no, and the cheapest way to their logits.

        Args:
            model: A causal model of transformers, in evaluation mode.
            tokenizer: Its tokenizer.
            name: For messages.
            token_budget: Default: `CPU_TOKEN_BUDGET` or `GPU_TOKEN_BUDGET`.
            batch_size: At most this many prompts per forward pass.
            share_prefixes: False reads every prompt whole.

        Raises:
            InputError: Yes and no cannot be distinguished.
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
        self._keeps = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._rows = self._output_rows()

    def score(self, prompts: Sequence[Ids], families: Sequence[Hashable]) -> Iterator[Scored]:
        """Yield lists of (position in `prompts`, P(yes)), every position once.

        Args:
            prompts: Token ids, none empty.
            families: One key per prompt; equal keys suggest a long common prefix, which is then
                found by comparing the ids.

        Raises:
            InputError: One prompt alone does not fit into memory, or the model returns NaN.
        """
        if self.shares_prefixes is None and len(prompts) > 1:
            self.shares_prefixes = self._sharing_is_exact(prompts, families)
        if self.shares_prefixes and len(prompts) > 1:
            batches = self._score_sharing(prompts, families)
        else:
            batches = self._score_whole(prompts)
        for batch in batches:
            if any(math.isnan(p) for _, p in batch):
                raise InputError(
                    f"The model {self.name!r} returns NaN in {self._model.dtype}: use "
                    "dtype='float32' or 'bfloat16'."
                )
            yield batch

    def _score_whole(self, prompts: Sequence[Ids]) -> Iterator[Scored]:
        return self._score_rests(None, [(i, 0, ids) for i, ids in enumerate(prompts)])

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

        def read(first: int, last: int) -> tuple[int, int, _Prefixes]:
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
        self, before: _Prefixes | None, rests: Sequence[tuple[int, int, Ids]]
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
            run: Takes the bounds of a slice.
            widths: Tokens of each item, in decreasing order.
            followed_by: Tokens of the rests that belong to each item.
        """
        first = 0
        while first < len(widths):
            size = max(1, self.token_budget // max(1, widths[first]))
            if self._batch_size is not None:
                size = min(size, self._batch_size)
            last = min(first + size, len(widths))
            if followed_by is not None:
                room = _BATCHES_PER_BLOCK * self.token_budget
                totals = accumulate(followed_by[first:last])
                last = first + max(1, sum(total <= room for total in totals))
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
            # Outside the handler, whose traceback keeps the tensors alive.
            if failed:
                self.token_budget = max(1, (last - first) * widths[first] // 2)
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            yield result
            first = last

    @torch.inference_mode()
    def _read(self, before: _Prefixes | None, texts: Sequence[Ids]) -> _Prefixes:
        """Return what the model caches of `texts`, each of which follows the one of `before`."""
        past = None if before is None else before.rows([0] * len(texts))
        inputs, cache, _ = self._inputs(past, texts)
        options = {"logits_to_keep": 1} if self._rows is None and self._keeps else {}
        (self._model.base_model if self._rows is not None else self._model)(**inputs, **options)
        lengths = torch.tensor([len(text) for text in texts], device=self._device)
        return _Prefixes(
            [(layer.keys, layer.values) for layer in cache.layers],
            inputs["attention_mask"],
            lengths if past is None else lengths + past.lengths,
        )

    @torch.inference_mode()
    def _p_yes(self, before: _Prefixes | None, texts: Sequence[Ids]) -> list[float]:
        inputs, _, last = self._inputs(before, texts)
        p = torch.softmax(self._logits(inputs, last).double(), dim=-1)
        return p[:, : self._n_yes].sum(dim=-1).tolist()

    def _inputs(
        self, before: _Prefixes | None, texts: Sequence[Ids]
    ) -> tuple[dict[str, Any], Any, torch.Tensor]:
        """Return the model's arguments, the cache, and the index of the last token of each text."""
        width = max(map(len, texts))
        self.tokens += sum(map(len, texts))
        # Right padding: no token attends to its right, so any id will do.
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
        """Return the logits of the tokens of yes and no after the tokens at `last`: float32."""
        row = torch.arange(len(last), device=self._device)
        if self._rows is not None:
            weight, bias = self._rows
            hidden = self._model.base_model(**inputs).last_hidden_state[row, last]
            logits: torch.Tensor = hidden.float() @ weight.T
            return logits if bias is None else logits + bias
        options = {}
        if self._keeps:
            options["logits_to_keep"], last = torch.unique(last, return_inverse=True)
        logits = self._model(**inputs, **options).logits[row, last][:, self._ids]
        return logits.float()

    @torch.inference_mode()
    def _output_rows(self) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """Return the output weights (and biases) of yes and no, or None if they are not enough.

        Some models scale, cap or project in between, which a comparison with the model's own output
        shows.
        """
        head = self._model.get_output_embeddings()
        if type(head) is not torch.nn.Linear or self._model.base_model is self._model:
            return None
        bias = None if head.bias is None else head.bias[self._ids].float()
        rows = (head.weight[self._ids].float(), bias)
        # Any short text will do; these tokens exist.
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

    def _sharing_is_exact(self, prompts: Sequence[Ids], families: Sequence[Hashable]) -> bool:
        """Score a few prompts both ways; the result decides for all later ones."""
        by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        twin = next((i for i in range(1, len(prompts)) if families[i] == families[0]), 1)
        chosen = sorted({0, twin, by_length[0], by_length[-1]})
        sample = [prompts[i] for i in chosen]
        self.shares_prefixes = False
        whole = dict(chain(*self._score_whole(sample)))
        self.shares_prefixes = True
        try:
            parts = dict(chain(*self._score_sharing(sample, [families[i] for i in chosen])))
        except (AttributeError, TypeError, ValueError, IndexError, RuntimeError) as error:
            if isinstance(error, torch.cuda.OutOfMemoryError | InputError):
                raise
            return False
        p = torch.tensor([[whole[i], parts[i]] for i in whole], dtype=torch.float64)
        log_odds = torch.logit(p, eps=1e-12)
        return bool(((log_odds[:, 0] - log_odds[:, 1]).abs() <= self._tolerance).all())


def _has_plain_cache(model: Any) -> bool:
    """Return whether every layer keeps all keys and values, and nothing else."""
    try:
        layers = DynamicCache(config=model.config).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def _common_prefix(texts: Sequence[Ids]) -> int:
    """Return the length of the common prefix, leaving at least one token of each text."""
    low, high = min(texts), max(texts)
    limit = min(map(len, texts)) - 1
    return next((n for n in range(limit) if low[n] != high[n]), limit)
