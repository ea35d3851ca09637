"""The rendered images, their sampling weights in training, and batches of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from augment import Strength, augment, on_white
from device import DEVICE
from fetch import read_sources
from torch import Tensor

VARIANT_SHARES = {"plain": 0.4, "thin": 0.2, "thick": 0.25, "line": 0.15}
# people, components, symbols and flags: lower weights, for they are many and of little use
GROUP_SHARES = {0: 0.7, 1: 0.15, 2: 0.1, 8: 0.5, 9: 0.1}
EVALUATED_GROUPS = (0, 3, 4, 5, 6, 7, 8)
"""All but people, components and flags."""
TAG_SHARE = 0.15
"""Share of images whose caption is one of their tags instead of their name."""


@dataclass(frozen=True)
class Batch:
    """The batch of one training step.

    Attributes:
        pixels: float32 (n, 3, 64, 64), augmented.
        labels: int64 (n,), indices of captions.
        second_labels: int64 (n,), of the images blended in (mixup).
        weights: float32 (n,), from 0.5 to 1: share of the first image.
        others: int64 (m,), candidate captions: those of the batch and more.
        generator: For all other random numbers of the step.
    """

    pixels: Tensor
    labels: Tensor
    second_labels: Tensor
    weights: Tensor
    others: Tensor
    generator: torch.Generator


class Images:
    """All rendered images with captions that occur in training."""

    def __init__(self, work: Path) -> None:
        lines = (work / "images.jsonl").read_text(encoding="utf-8").splitlines()
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.squares = torch.from_numpy(np.load(work / "images.npy"))
        self.plain = torch.tensor([row["variant"] == "plain" for row in self.rows])
        sources = {s["style"]: s for s in read_sources() if "style" in s}
        weights = np.zeros(len(self.rows))
        for i, row in enumerate(self.rows):
            source = sources[row["style"]]
            if source["role"] == "train":
                outlined = source["kind"] == "colour"
                share = VARIANT_SHARES[row["variant"]] if outlined else 1.0
                weights[i] = source["weight"] * share * GROUP_SHARES.get(row["group"], 1.0)
        self.probabilities = weights / weights.sum()
        self._cumulated = np.cumsum(self.probabilities)
        used = [row for row, weight in zip(self.rows, weights, strict=True) if weight]
        names = {row["name"] for row in used} | {tag for row in used for tag in row["tags"]}
        self.captions = sorted(names)
        self.number = {name: i for i, name in enumerate(self.captions)}

    def batch(self, seed: int, step: int, size: int, strength: Strength) -> Batch:
        """Return the batch of a step, which depends on seed and step only."""
        rng = np.random.default_rng([seed, step])
        generator = torch.Generator().manual_seed(1_000_003 * seed + step)
        chosen = np.searchsorted(self._cumulated, rng.random(size) * self._cumulated[-1])
        labels = torch.tensor([self._label(i, rng) for i in chosen])
        picked = torch.from_numpy(chosen)
        squares, plain = self.squares[picked].to(DEVICE), self.plain[picked].to(DEVICE)
        pixels = augment(squares, plain, generator, strength)
        more = torch.randint(len(self.captions), (1500,), generator=generator)
        others = torch.cat([labels, more]).unique().to(DEVICE)
        labels = labels.to(DEVICE)
        weights = 1 - 0.5 * torch.rand(size, generator=generator)
        mixed = torch.rand(size, generator=generator) < strength.mixed
        weights = torch.where(mixed, weights, 1.0).to(DEVICE)
        share = weights.view(-1, 1, 1, 1)
        pixels = share * pixels + (1 - share) * pixels.roll(1, 0)
        return Batch(pixels, labels, labels.roll(1), weights, others, generator)

    def _label(self, i: int, rng: np.random.Generator) -> int:
        row = self.rows[i]
        if row["tags"] and rng.random() < TAG_SHARE:
            return self.number[row["tags"][int(rng.integers(len(row["tags"])))]]
        return self.number[row["name"]]

    def shown(self, style: str) -> tuple[Tensor, Tensor]:
        """Return pixels and captions of a style's plain images whose names occur in training."""
        some = [
            i
            for i, row in enumerate(self.rows)
            if row["style"] == style
            and row["variant"] == "plain"
            and row["group"] in EVALUATED_GROUPS
            and row["name"] in self.number
        ]
        labels = torch.tensor([self.number[self.rows[i]["name"]] for i in some])
        return on_white(self.squares[some]).to(DEVICE), labels.to(DEVICE)
