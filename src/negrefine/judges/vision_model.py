"""log P(yes) - log P(no) of questions about images, the images of a batch read once.

What the prompts about one image have in common, its vision tokens among it, is read once; its keys
and values stay in a `DynamicCache` while the ends of the prompts are read, those of all images of
a batch together. Where a model does not allow that, which a comparison on the first image shows,
each prompt is read whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from PIL.Image import Image
from torch.nn.utils.rnn import pad_sequence
from transformers import BatchFeature, DynamicCache
from transformers.cache_utils import DynamicLayer

from negrefine.errors import InputError, is_out_of_memory
from negrefine.judges.vision_lm import question_text
from negrefine.judges.yes_no_model import common_prefix, yes_no_tokens

Ids: TypeAlias = list[int]
# (log P(yes) - log P(no), P(yes or no))
Found: TypeAlias = tuple[float, float]
# What belongs to tokens and not to the pixels.
_OF_TOKENS = frozenset({"input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids"})


@dataclass(frozen=True)
class _Asked:
    """An image with the token ids of its questions, and the model's arguments for its pixels."""

    position: int
    prompts: list[Ids]
    # Equally many first tokens of all prompts, among them those of the image.
    shared: int
    inputs: dict[str, Any]


@dataclass(eq=False)
class VisionModel:
    """Computes log P(yes) - log P(no), and P(yes or no), of questions about images.

    `batch_size` images are read at a time, one after the other where their sizes differ. `tokens`
    counts the tokens read so far, without padding.
    """

    model: Any
    processor: Any
    name: str
    batch_size: int
    share_images: bool = True
    tokens: int = 0

    def __post_init__(self) -> None:
        """Find the tokens of yes and no."""
        self._device = next(self.model.parameters()).device
        yes, no = yes_no_tokens(self.processor.tokenizer, self.name)
        self._yes = torch.tensor(yes, device=self._device)
        self._no = torch.tensor(no, device=self._device)
        # None until the first image has shown whether sharing is exact.
        self._shares: bool | None = None if self.share_images else False
        self._tolerance = 1e-3 if self.model.dtype is torch.float32 else 0.25

    def score(
        self, images: Sequence[Image], questions: Sequence[Sequence[str]]
    ) -> Iterator[tuple[int, list[Found] | str]]:
        """Yield (position of an image, what was found for its questions in order), in any order.

        Of an image that the processor cannot prepare, why stands in place of what was found.
        Raises InputError if one image does not fit into memory, or for NaN.
        """
        for first in range(0, len(images), self.batch_size):
            rows = range(first, min(first + self.batch_size, len(images)))
            asked: list[_Asked] = []
            for i in rows:
                made = self._prepare(i, images[i], questions[i])
                if isinstance(made, str):
                    yield i, made
                else:
                    asked.append(made)
            if self._shares is None and asked and len(asked[0].prompts) > 1:
                self._shares = self._sharing_is_exact(asked[0])
            # Of equal length, so that nothing stands between a prompt's beginning and its end.
            alike: dict[Any, list[_Asked]] = {}
            for each in asked:
                alike.setdefault((each.shared, _shapes(each.inputs)), []).append(each)
            for group in alike.values():
                yield from self._group(group)

    def _group(self, group: list[_Asked]) -> Iterator[tuple[int, list[Found]]]:
        try:
            found = self._read(group)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            if len(group) == 1:
                raise InputError(
                    f"One image with its questions does not fit into the memory of {self._device} "
                    f"beside {self.name!r}: use a smaller model or dtype."
                ) from error
            found = None
        # Outside the handler, whose traceback keeps the tensors alive.
        if found is None:
            self.batch_size = max(1, len(group) // 2)
            if self._device.type == "cuda":
                torch.cuda.empty_cache()
            for start in range(0, len(group), self.batch_size):
                yield from self._group(group[start : start + self.batch_size])
            return
        for each, answers in zip(group, found, strict=True):
            if any(math.isnan(margin) for margin, _ in answers):
                raise InputError(
                    f"The model {self.name!r} returns NaN in {self.model.dtype}: use "
                    "dtype='float32' or 'bfloat16'."
                )
            yield each.position, answers

    def _prepare(self, position: int, image: Image, questions: Sequence[str]) -> _Asked | str:
        texts = [question_text(self.processor, question, self.name) for question in questions]
        try:
            made = self.processor(text=[texts[0]], images=[[image]], return_tensors="pt")
            prompts = [made["input_ids"][0].tolist()]
            for text in texts[1:]:
                other = self.processor(text=[text], images=[[image]], return_tensors="pt")
                prompts.append(other["input_ids"][0].tolist())
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            return (
                f"The processor of {self.name!r} cannot prepare an image of {image.width} x "
                f"{image.height} pixels with a question ({str(error)[:200]})."
            )
        return _Asked(position, prompts, common_prefix(prompts), dict(made))

    def _read(self, group: list[_Asked]) -> list[list[Found]]:
        return self._read_shared(group) if self._shares else [self._read_whole(e) for e in group]

    @torch.inference_mode()
    def _read_whole(self, asked: _Asked) -> list[Found]:
        found = []
        for prompt in asked.prompts:
            ids = torch.tensor([prompt], device=self._device)
            logits = self.model(**self._pixels([asked]), **self._tokens([asked], ids)).logits
            self.tokens += len(prompt)
            found.append(self._found(logits[:, -1])[0])
        return found

    @torch.inference_mode()
    def _read_shared(self, group: list[_Asked]) -> list[list[Found]]:
        length = group[0].shared
        ids = torch.tensor([each.prompts[0][:length] for each in group], device=self._device)
        cache = DynamicCache(config=self.model.config.get_text_config())
        self.model(
            **self._pixels(group),
            **self._tokens(group, ids),
            past_key_values=cache,
            use_cache=True,
        )
        ends = [prompt[length:] for each in group for prompt in each.prompts]
        owners = [row for row, each in enumerate(group) for _ in each.prompts]
        padded = pad_sequence(
            [torch.tensor(end) for end in ends], batch_first=True, padding_value=-1
        ).to(self._device)
        rows = torch.tensor(owners, device=self._device)
        repeated = DynamicCache(config=self.model.config.get_text_config())
        for layer, read in zip(repeated.layers, cache.layers, strict=True):
            keys, values = read.keys.index_select(0, rows), read.values.index_select(0, rows)
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
        # Without a mask, because no token attends to the padding on its right; some models make
        # wrong positions of one.
        logits = self.model(
            input_ids=padded.clamp(min=0),
            past_key_values=repeated,
            use_cache=True,
        ).logits
        self.tokens += length * len(group) + sum(map(len, ends))
        last = (padded >= 0).sum(dim=1) - 1
        found = iter(self._found(logits[torch.arange(len(ends), device=self._device), last]))
        return [[next(found) for _ in each.prompts] for each in group]

    def _tokens(self, group: Sequence[_Asked], ids: torch.Tensor) -> dict[str, Any]:
        """Return the model's arguments that belong to these tokens, the first of each image."""
        inputs: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        for name in sorted(_OF_TOKENS & group[0].inputs.keys() - inputs.keys()):
            # After the image there is text alone.
            kinds = [each.inputs[name][:, : ids.shape[1]] for each in group]
            rows = [torch.nn.functional.pad(k, (0, ids.shape[1] - k.shape[1])) for k in kinds]
            inputs[name] = torch.cat(rows).to(self._device)
        return inputs

    def _pixels(self, group: Sequence[_Asked]) -> dict[str, Any]:
        names = [name for name in group[0].inputs if name not in _OF_TOKENS]
        made = {name: torch.cat([each.inputs[name] for each in group]) for name in names}
        return dict(BatchFeature(made).to(self._device, self.model.dtype))

    def _found(self, logits: torch.Tensor) -> list[Found]:
        logits = logits.double()
        total = logits.logsumexp(dim=-1)
        yes = logits[:, self._yes].logsumexp(dim=-1)
        no = logits[:, self._no].logsumexp(dim=-1)
        mass = (torch.logaddexp(yes, no) - total).exp()
        return list(zip((yes - no).tolist(), mass.tolist(), strict=True))

    def _sharing_is_exact(self, asked: _Asked) -> bool:
        """Read one image alone and twice in a batch; the result decides for all later ones."""
        if asked.shared == 0 or not _has_plain_cache(self.model):
            return False
        whole = self._read_whole(asked)
        try:
            parts = self._read_shared([asked, asked])
        except InputError:
            raise
        except (AttributeError, TypeError, ValueError, IndexError, RuntimeError):
            return False
        pairs = zip([*whole, *whole], [*parts[0], *parts[1]], strict=True)
        return all(abs(one - other) <= self._tolerance for (one, _), (other, _) in pairs)


def _has_plain_cache(model: Any) -> bool:
    """Return whether every layer keeps all keys and values, and nothing else."""
    try:
        layers = DynamicCache(config=model.config.get_text_config()).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def _shapes(inputs: dict[str, Any]) -> tuple[Any, ...]:
    """Return what must agree for images to be read together: names and shapes of their pixels."""
    return tuple(
        (name, tuple(value.shape))
        for name, value in sorted(inputs.items())
        if name not in _OF_TOKENS
    )
