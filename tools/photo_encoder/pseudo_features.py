"""Features of photographs that nobody took: drawn from batch statistics and class directions.

No photograph takes part in training. What the backbone says about photographs without one: its last
batch normalisation keeps mean and deviation of each feature before the last ReLU6, over images and
positions, and its classifier the direction of each class.
"""

from __future__ import annotations

import torch
from backbone import Backbone
from torch import Tensor

N_FEATURES, SEED = 40_000, 0
_POSITIONS = 10
_SHARED = 0.5
"""Part of the variance that the positions of an image have in common."""
_BLOCK = 2000


def draw(backbone: Backbone) -> tuple[Tensor, Tensor]:
    """Return pooled features (n, 1280) and the classifier's probabilities (n, 1000).

    Each image shows a class, some with a second one, more or less clearly and on some positions;
    the other positions show anything.
    """
    generator = torch.Generator().manual_seed(SEED)
    blocks = [_draw_block(backbone, generator) for _ in range(N_FEATURES // _BLOCK)]
    features = torch.cat(blocks)
    return features, (features @ backbone.weight.T + backbone.bias).softmax(-1)


def _draw_block(backbone: Backbone, generator: torch.Generator) -> Tensor:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    width = len(backbone.mean)
    directions = (backbone.weight - backbone.weight.mean(0)) * backbone.deviation
    directions = directions / directions.pow(2).mean(1, keepdim=True).sqrt()
    first, second = torch.randint(len(directions), (2, _BLOCK), generator=generator)
    clarity = 0.2 + uniform(_BLOCK, 1)
    mixed = (uniform(_BLOCK, 1) < 0.3) * uniform(_BLOCK, 1)
    shared = clarity * (directions[first] + mixed * directions[second])
    shared = shared + 0.8 * normal(_BLOCK, width)
    shows = 0.2 + 0.8 * uniform(_BLOCK, 1)
    pooled = torch.zeros(_BLOCK, width)
    for _ in range(_POSITIONS):
        anything = normal(_BLOCK, width)
        something = _SHARED**0.5 * shared + (1 - _SHARED) ** 0.5 * anything
        seen = torch.where(uniform(_BLOCK, 1) < shows, something, anything)
        pooled += (backbone.mean + backbone.deviation * seen).clamp(0, 6)
    return pooled / _POSITIONS
