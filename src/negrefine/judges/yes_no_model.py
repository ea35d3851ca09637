"""P(yes) and P(yes or no) of prompts under a causal language model, in one pass per batch.

The common prefix of all prompts is read once per call, that of a family (the questions about one
word) once per family; their keys and values are kept in a `DynamicCache`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Any, NamedTuple, TypeAlias

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from negrefine.errors import InputError, is_out_of_memory

# Few tokens keep a CPU busy; more only cost memory.
_CPU_TOKEN_BUDGET = 1024
_GPU_TOKEN_BUDGET = 8192
# Families whose prefixes are read together have this many batches of rests: enough to sort them by
# length, so that hardly any padding is needed.
_BATCHES_PER_BLOCK = 4
# Logits of the whole vocabulary that are in memory at a time.
_LOGITS_PER_CHUNK = 1 << 24

Ids: TypeAlias = list[int]
# (position of the prompt, P(yes) / P(yes or no), P(yes or no))
Scored: TypeAlias = list[tuple[int, float, float]]
# The arguments of a forward pass. Afterwards their cache holds what the model has read.
_Inputs: TypeAlias = dict[str, Any]


class _Text(NamedTuple):
    """Tokens that follow row `row` of what was read before: a prompt's end or a family's prefix."""

    position: int
    ids: Ids
    row: int = 0
    rests: Sequence[_Text] = ()


def yes_no_tokens(tokenizer: Any, name: str) -> tuple[Ids, Ids]:
    """Return the tokens with which the replies yes and no can begin.

    These are the first tokens of yes, Yes and YES with and without a leading space, likewise no.
    First tokens that both share, or that are blank, are left out; InputError if no other is left.
    """
    first: list[set[int]] = []
    for word in ("yes", "no"):
        forms = (word.title(), word, word.upper())
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


@dataclass(eq=False)
class YesNoModel:
    """Computes P(yes) / P(yes or no), and P(yes or no), for prompts given as token ids.

    `tokens` counts the tokens read so far, without padding.
    """

    model: Any
    tokenizer: Any
    name: str
    token_budget: int | None
    batch_size: int | None
    share_prefixes: bool
    tokens: int = 0

    def __post_init__(self) -> None:
        """Find the tokens of yes and no, and the cheapest way to their logits."""
        self._device = next(self.model.parameters()).device
        default = _CPU_TOKEN_BUDGET if self._device.type == "cpu" else _GPU_TOKEN_BUDGET
        self._token_budget = self.token_budget or default
        yes, no = yes_no_tokens(self.tokenizer, self.name)
        self._n_yes = len(yes)
        self._ids = torch.tensor([*yes, *no], device=self._device)
        # None until the first call has checked that sharing is exact.
        plain = _has_plain_cache(self.model)
        self._shares_prefixes = None if self.share_prefixes and plain else False
        self._keeps = "logits_to_keep" in inspect.signature(self.model.forward).parameters
        exact = self.model.dtype is torch.float32
        self._tolerance = 1e-3 if exact else 0.25
        self._head: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self._use_head(rtol=1e-4 if exact else 0.05)

    def score(self, prompts: Sequence[Ids], families: Sequence[Hashable]) -> Iterator[Scored]:
        """Yield lists of (position in `prompts`, P(yes) / P(yes or no), P(yes or no)).

        Every position comes once. A small P(yes or no) means that the model was about to write
        something else, and that the share of yes is noise.

        Equal keys in `families`, one per prompt, suggest a long common prefix, which is then found
        by comparing the ids. InputError if one prompt alone does not fit into memory, or for NaN.
        """
        if self._shares_prefixes is None and len(prompts) > 1:
            self._shares_prefixes = self._sharing_is_exact(prompts, families)
        shared = self._shares_prefixes and len(prompts) > 1
        whole = self._score_whole(prompts)
        for batch in self._score_sharing(prompts, families) if shared else whole:
            if any(math.isnan(p) for _, p, _ in batch):
                raise InputError(
                    f"The model {self.name!r} returns NaN in {self.model.dtype}: use "
                    "dtype='float32' or 'bfloat16'."
                )
            yield batch

    def _score_whole(self, prompts: Sequence[Ids]) -> Iterator[Scored]:
        return self._score_texts(None, [_Text(i, ids) for i, ids in enumerate(prompts)])

    def _score_sharing(
        self, prompts: Sequence[Ids], families: Sequence[Hashable]
    ) -> Iterator[Scored]:
        start = common_prefix(prompts)
        head = None
        if start:
            ((_, head),) = self._in_batches(None, [_Text(0, prompts[0][:start])], self._read)
        members: dict[Hashable, list[int]] = {}
        for i, family in enumerate(families):
            members.setdefault(family, []).append(i)
        single: list[_Text] = []
        shared: list[_Text] = []
        for positions in members.values():
            end = common_prefix([prompts[i] for i in positions])
            if len(positions) > 1 and end > start:
                rests = [_Text(i, prompts[i][end:]) for i in positions]
                shared.append(_Text(positions[0], prompts[positions[0]][start:end], rests=rests))
            else:
                single.extend(_Text(i, prompts[i][start:]) for i in positions)
        yield from self._score_texts(head, single)
        for part, block in self._in_batches(head, shared, self._read):
            rests = [rest._replace(row=row) for row, text in enumerate(part) for rest in text.rests]
            yield from self._score_texts(block, rests)

    def _score_texts(self, before: _Inputs | None, texts: Sequence[_Text]) -> Iterator[Scored]:
        for part, found in self._in_batches(before, texts, self._p_yes):
            yield [(text.position, *both) for text, both in zip(part, found, strict=True)]

    def _in_batches(
        self,
        before: _Inputs | None,
        texts: Sequence[_Text],
        run: Callable[[_Inputs | None, list[_Text]], Any],
    ) -> Iterator[tuple[list[_Text], Any]]:
        """Yield (texts, result of `run`) for batches that fit the token budget, longest first."""
        ordered = sorted(texts, key=lambda text: (-len(text.ids), text.position))
        first = 0
        while first < len(ordered):
            width = len(ordered[first].ids)
            size = min(max(1, self._token_budget // width), self.batch_size or len(ordered))
            part = ordered[first : first + size]
            n_rests = accumulate(sum(len(rest.ids) for rest in text.rests) for text in part)
            room = _BATCHES_PER_BLOCK * self._token_budget
            part = part[: max(1, sum(total <= room for total in n_rests))]
            self.tokens += sum(len(text.ids) for text in part)
            try:
                result = run(before, part)
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if len(part) == 1:
                    raise InputError(
                        f"One prompt of {width} tokens does not fit into the memory of "
                        f"{self._device} beside {self.name!r}: use a smaller model or dtype."
                    ) from error
                result = None
            # Outside the handler, whose traceback keeps the tensors alive.
            if result is None:
                self._token_budget = max(1, len(part) * width // 2)
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
                continue
            yield part, result
            first += len(part)

    @torch.inference_mode()
    def _read(self, before: _Inputs | None, texts: Sequence[_Text]) -> _Inputs:
        inputs, last = self._inputs(before, texts)
        # For what the pass leaves in the cache; the logits of one text are computed for nothing.
        self._logits(inputs, last[:1])
        return inputs

    @torch.inference_mode()
    def _p_yes(self, before: _Inputs | None, texts: Sequence[_Text]) -> list[tuple[float, float]]:
        logits = self._logits(*self._inputs(before, texts)).double()
        chosen, total = logits[:, :-1], logits[:, -1]
        p_yes = torch.softmax(chosen, dim=-1)[:, : self._n_yes].sum(dim=-1)
        mass = (chosen.logsumexp(dim=-1) - total).exp()
        return list(zip(p_yes.tolist(), mass.tolist(), strict=True))

    def _inputs(
        self, before: _Inputs | None, texts: Sequence[_Text]
    ) -> tuple[_Inputs, torch.Tensor]:
        """Return the model's arguments, and the index of the last token of each text."""
        # Right padding: no token attends to its right, so any id will do.
        padded = pad_sequence(
            [torch.tensor(text.ids) for text in texts], batch_first=True, padding_value=-1
        ).to(self._device)
        ids, mask = padded.clamp(min=0), (padded >= 0).long()
        last = mask.sum(dim=1) - 1
        inputs: _Inputs = {"input_ids": ids, "attention_mask": mask, "use_cache": False}
        if not self._shares_prefixes:
            return inputs, last
        cache = DynamicCache(config=self.model.config)
        if before is not None:
            rows = torch.tensor([text.row for text in texts], device=self._device)
            mask = torch.cat([before["attention_mask"][rows], mask], dim=1)
            for layer, read in zip(cache.layers, before["past_key_values"].layers, strict=True):
                keys, values = _take(read.keys, rows), _take(read.values, rows)
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values = keys, values
        positions = (mask.cumsum(dim=1) - 1)[:, -ids.shape[1] :]
        inputs |= {"attention_mask": mask, "position_ids": positions}
        return inputs | {"past_key_values": cache, "use_cache": True}, last

    def _logits(self, inputs: _Inputs, last: torch.Tensor) -> torch.Tensor:
        """Return the logits of the tokens of yes and no after the tokens at `last`: float32.

        The last column is the logarithm of the sum of the exponentials of all logits.
        """
        row = torch.arange(len(last), device=self._device)
        if self._head is not None:
            hidden = self.model.base_model(**inputs).last_hidden_state[row, last]
            chosen = functional.linear(hidden.float(), *self._head)
            return torch.column_stack([chosen, self._log_total(hidden)])
        options = {}
        if self._keeps:
            options["logits_to_keep"], last = torch.unique(last, return_inverse=True)
        logits = self.model(**inputs, **options).logits[row, last].float()
        return torch.column_stack([logits[:, self._ids], logits.logsumexp(dim=-1)])

    def _log_total(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of the sum of the exponentials of all logits, by parts."""
        head = self.model.get_output_embeddings()
        rows = max(1, _LOGITS_PER_CHUNK // len(head.weight))
        parts = torch.split(hidden, rows)
        return torch.cat([head(part).float().logsumexp(dim=-1) for part in parts])

    @torch.inference_mode()
    def _use_head(self, *, rtol: float) -> None:
        """Keep the output weights (and biases) of yes and no, if the output is no more than them.

        Some models scale, cap or project in between, which a comparison with the model's own output
        shows.
        """
        head = self.model.get_output_embeddings()
        if type(head) is not torch.nn.Linear or self.model.base_model is self.model:
            return
        # Any short text will do; these tokens exist.
        inputs, last = self._inputs(None, [_Text(0, self._ids[:4].tolist())])
        expected = self._logits(inputs, last)
        bias = None if head.bias is None else head.bias[self._ids].float()
        self._head = (head.weight[self._ids].float(), bias)
        with suppress(AttributeError, TypeError, RuntimeError):
            found = self._logits(inputs, last)
            if torch.allclose(found, expected, rtol=rtol, atol=self._tolerance):
                return
        self._head = None

    def _sharing_is_exact(self, prompts: Sequence[Ids], families: Sequence[Hashable]) -> bool:
        """Score a few prompts both ways; the result decides for all later ones."""
        by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        twin = next((i for i in range(1, len(prompts)) if families[i] == families[0]), 1)
        chosen = sorted({0, twin, by_length[0], by_length[-1]})
        sample = [prompts[i] for i in chosen]
        self._shares_prefixes = False
        whole = {i: p for i, p, _ in chain(*self._score_whole(sample))}
        self._shares_prefixes = True
        try:
            shared = self._score_sharing(sample, [families[i] for i in chosen])
            parts = {i: p for i, p, _ in chain(*shared)}
        except InputError:
            raise
        except (AttributeError, TypeError, ValueError, IndexError, RuntimeError):
            return False
        p = torch.tensor([[whole[i], parts[i]] for i in whole], dtype=torch.float64)
        log_odds = torch.logit(p, eps=1e-12)
        return bool(((log_odds[:, 0] - log_odds[:, 1]).abs() <= self._tolerance).all())


def _has_plain_cache(model: Any) -> bool:
    """Return whether every layer keeps all keys and values, and nothing else."""
    with suppress(AttributeError, KeyError, TypeError, ValueError):
        layers = DynamicCache(config=model.config).layers
        return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)
    return False


def _take(values: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return the sequences at `rows`; a single one is repeated without a copy."""
    if len(values) == 1:
        return values.expand(len(rows), -1, -1, -1)
    return values.index_select(0, rows)


def common_prefix(texts: Sequence[Ids]) -> int:
    """Return the length of the common prefix, leaving at least one token of each text."""
    low, high = min(texts), max(texts)
    limit = min(map(len, texts)) - 1
    return next((n for n in range(limit) if low[n] != high[n]), limit)
