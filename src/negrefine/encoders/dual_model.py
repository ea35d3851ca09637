"""A model of `transformers` with image and text features, as an encoder runs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from negrefine.encoders import vision_tower
from negrefine.encoders.tokenizer_reading import PaddedTokenizer, Padding
from negrefine.errors import EncoderError

# How far features may differ that are equal but for rounding, relative to the largest number.
_ROUNDING = {torch.float32: 1e-4}
_COARSE_ROUNDING = 5e-2
_PROBES = ("a", "a red cat")


class TwoTowers(nn.Module):
    """A model whose `get_image_features` and `get_text_features` are called.

    Args:
        towers: The model of `transformers`.
        config: Its `DualArchitecture`.

    Attributes:
        logit_scale: Logarithm of the factor on cosines, of no dimension.
        logit_bias: The summand after it, or None.
        value_path: The image tower is CLIP's, so that features of patches can be read.
    """

    def __init__(self, towers: Any, config: Any) -> None:
        super().__init__()
        self.config = config
        self.towers = towers
        scale: Any = getattr(towers, "logit_scale", None)
        # ALIGN divides by a temperature instead.
        known = -towers.temperature.log() if scale is None else scale
        self.logit_scale = nn.Parameter(known.detach().reshape(()), requires_grad=False)
        bias = getattr(towers, "logit_bias", None)
        self.logit_bias = (
            None if bias is None else nn.Parameter(bias.detach().reshape(()), requires_grad=False)
        )
        self.value_path = False


def image_features(model: TwoTowers, pixels: Tensor) -> Tensor:
    """Return features (n, d) of pixels (n, 3, h, w), which have the model's dtype."""
    if model.value_path:
        return vision_tower.image_features(model.towers, pixels)
    return _pooled(model.towers.get_image_features(pixel_values=pixels))


def image_and_patch_features(model: TwoTowers, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return features (n, d) of images and (n, p, d) of patches of a model with `value_path`."""
    return vision_tower.image_and_patch_features(model.towers, pixels)


def encode_padded(
    model: TwoTowers,
    ids: Sequence[Sequence[int]],
    batch_size: int,
    token_budget: int,
    *,
    padding: Padding,
) -> Iterator[tuple[NDArray[np.intp], Tensor]]:
    """Encode token sequences with any text tower, each as a whole.

    `ids` have start and end tokens and no padding. At most `batch_size` sequences are encoded at a
    time, of at most `token_budget` tokens once padded. Yields indices into `ids`, and the features
    of these texts, (len(indices), d).
    """
    lengths = [len(row) if padding.length is None else padding.length for row in ids]
    for rows in length_batches(lengths, batch_size, token_budget):
        texts = [ids[row] for row in rows]
        longest = max(len(text) for text in texts) if padding.length is None else padding.length
        fill = [[padding.token] * (longest - len(text)) for text in texts]
        tokens = [
            [*more, *text] if padding.left else [*text, *more]
            for text, more in zip(texts, fill, strict=True)
        ]
        device = model.logit_scale.device
        given = {"input_ids": torch.tensor(tokens, device=device)}
        if padding.length is None:
            mask = [[1] * len(text) + [0] * (longest - len(text)) for text in texts]
            given["attention_mask"] = torch.tensor(mask, device=device)
        yield np.array(rows, dtype=np.intp), _pooled(model.towers.get_text_features(**given))


def length_batches(
    lengths: Sequence[int], batch_size: int, token_budget: int
) -> Iterator[list[int]]:
    """Yield indices by ascending length, ties in order, in batches within both limits.

    A batch of one text may exceed `token_budget`; longer ones count tokens once padded.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        full = len(batch) >= batch_size or lengths[index] * (len(batch) + 1) > token_budget
        if batch and full:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _pooled(output: Any) -> Tensor:
    features: Tensor = output if isinstance(output, Tensor) else output.pooler_output
    return features


@dataclass(frozen=True)
class Measured:
    """What one image and two texts show of a model.

    Attributes:
        dim: Dimension of the joint space.
        n_patches: Patches of an image, 0 if the image tower is not CLIP's.
    """

    dim: int
    n_patches: int


@torch.inference_mode()
def measure(
    model: TwoTowers, tokenizer: PaddedTokenizer, size: tuple[int, int], name: str
) -> Measured:
    """Encode one image of `size` = (height, width) and two texts, and set `value_path`.

    Raises:
        EncoderError: The model does not take them, their features do not lie in one space, or
            those of a text depend on the texts beside it.
    """
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(1, 3, *size, generator=generator).to(model.logit_scale)
    try:
        image = _pooled(model.towers.get_image_features(pixel_values=pixels))
    except Exception as error:
        # Each tower raises a class of its own for images of another size.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".")
        raise EncoderError(
            f"The image preprocessing of {name!r} is unusable: its images come out as {size} and "
            f"the model does not take them ({reason}); correct the sizes."
        ) from error
    ids = tokenizer(_PROBES)
    alone = torch.cat([_texts(model, [row], tokenizer.padding) for row in ids])
    together = _texts(model, ids, tokenizer.padding)
    if image.ndim != 2 or alone.ndim != 2 or image.shape[1] != alone.shape[1]:
        raise EncoderError(
            f"The features of {name!r} do not lie in one space: those of an image have the shape "
            f"{tuple(image.shape[1:])} and those of a text {tuple(alone.shape[1:])}."
        )
    if not _equal(alone, together):
        raise EncoderError(
            f"The features of a text in {name!r} change with the texts beside it, so this family "
            "of models cannot be run here: give one of another family (docs/encoders.md)."
        )
    n_patches = _value_path(model, pixels, image)
    model.value_path = n_patches > 0
    return Measured(int(image.shape[1]), n_patches)


def _texts(model: TwoTowers, ids: Sequence[Sequence[int]], padding: Padding) -> Tensor:
    """Return the features of texts that go through the model together."""
    total = len(ids) * max(len(row) for row in ids) * (padding.length or 1)
    ((rows, features),) = encode_padded(model, ids, len(ids), total, padding=padding)
    return features[torch.from_numpy(rows).argsort().to(features.device)]


def _value_path(model: TwoTowers, pixels: Tensor, expected: Tensor) -> int:
    """Return the number of patches if the image tower computes what CLIP's does, else 0."""
    try:
        image, patches = vision_tower.image_and_patch_features(model.towers, pixels)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return 0
    return int(patches.shape[1]) if _equal(image, expected) else 0


def _equal(features: Tensor, others: Tensor) -> bool:
    """Say whether features are equal but for rounding."""
    if features.shape != others.shape:
        return False
    largest = float(others.abs().max())
    allowed = _ROUNDING.get(features.dtype, _COARSE_ROUNDING) * max(largest, 1e-12)
    return bool(((features - others).abs() <= allowed).all())
