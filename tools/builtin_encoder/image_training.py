"""The training that the shape teacher and the image tower share: images against captions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import text_tower
import torch
from augment import Strength
from device import DEVICE, fast_arithmetic
from images import Batch, Images
from muon import Muon, split_parameters
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from words import read_words

Encode = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Pixels to features of length one, and to features of each position."""
VALIDATION = "noto-v1"
GUESSES, FEATURES, PLACES = 0.7, 4.0, 3.0
"""Weights of a shape teacher's predictions, features and positions in the loss."""


@dataclass(frozen=True)
class Plan:
    """Length, learning rates and augmentation of a training.

    Attributes:
        steps: Steps of `batch` images; the learning rates fall to zero over the last 80 %.
        muon_rate: Learning rate of the matrices and filters inside the model.
        adam_rate: Learning rate of all other parameters.
        strengths: Of the augmentation; consecutive steps take them in turn.
    """

    steps: int
    muon_rate: float
    adam_rate: float
    strengths: tuple[Strength, ...]
    batch: int = 256
    seed: int = 0


class Bank:
    """The captions' features in several templates, and which captions mean nearly the same.

    Attributes:
        features: A tensor (captions, 256) for each template.
        shares: (captions, captions), rows that sum to one: captions whose features of the text
            teacher are nearly the same share the label.
    """

    def __init__(self, work: Path, images: Images, templates: tuple[str, ...]) -> None:
        model, tokenizer = text_tower.load(work)
        with fast_arithmetic():
            self.features = [
                text_tower.encode_all(model, tokenizer, [t.format(c) for c in images.captions])
                .clone()
                .to(DEVICE)
                for t in templates
            ]
        numbers = {word.text: i for i, word in enumerate(read_words(work))}
        rows = [numbers[caption] for caption in images.captions]
        targets = torch.from_numpy(np.load(work / "targets.npy")[rows]).to(DEVICE)
        self.shares = F.softmax(targets @ targets.T / 0.06, dim=-1)


@dataclass(frozen=True)
class ShapeTeacher:
    """A trained model to imitate.

    Attributes:
        encode: Pixels to features and to a map (n, channels, height, width).
        scale: Its logit scale.
        channels: Number of channels of the map.
    """

    encode: Encode
    scale: float
    channels: int


def train(
    checkpoint: Path,
    model: torch.nn.Module,
    encode: Encode,
    images: Images,
    bank: Bank,
    plan: Plan,
    teacher: ShapeTeacher | None = None,
) -> float:
    """Train a model in place; return its logit scale. Continues from a checkpoint."""
    scale = torch.nn.Parameter(torch.tensor(10.0, device=DEVICE).log())
    matrices, others = split_parameters(model)
    muon = Muon(matrices, lr=plan.muon_rate)
    adam = torch.optim.AdamW([*others, scale], lr=plan.adam_rate, weight_decay=0.01)
    state = {"model": model, "muon": muon, "adam": adam}
    first = _continue(checkpoint, state, scale)
    begin, losses = time.monotonic(), []
    for step in range(first, plan.steps):
        left = min(1.0, (plan.steps - step) / (0.8 * plan.steps)) * min(1.0, (step + 1) / 50)
        muon.param_groups[0]["lr"] = plan.muon_rate * left
        adam.param_groups[0]["lr"] = plan.adam_rate * left
        loss = _loss(step, encode, images, bank, plan, scale, teacher)
        muon.zero_grad()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(others, 2.0)
        muon.step()
        adam.step()
        losses.append(loss.item())
        if (step + 1) % 250 == 0 or step + 1 == plan.steps:
            _save(checkpoint, state, scale, step + 1)
            seconds = time.monotonic() - begin
            print(
                f"{step + 1}: loss {np.mean(losses):.3f}, scale {scale.exp().item():.1f}, "
                f"validation {_accuracy(model, encode, images, bank.features[0]):.3f}, "
                f"{(step + 1 - first) * plan.batch / seconds:.0f} images/s, "
                f"{seconds / 60:.1f} min",
                flush=True,
            )
            losses = []
    return scale.exp().item()


def _loss(
    step: int,
    encode: Encode,
    images: Images,
    bank: Bank,
    plan: Plan,
    scale: Tensor,
    teacher: ShapeTeacher | None,
) -> Tensor:
    strength = plan.strengths[step % len(plan.strengths)]
    batch = images.batch(plan.seed, step, plan.batch, strength)
    number = int(torch.randint(len(bank.features), (1,), generator=batch.generator))
    choices = bank.features[number][batch.others]
    with fast_arithmetic():
        features, places = encode(batch.pixels)
    wanted = _mixed(batch, bank.shares)[:, batch.others]
    wanted = wanted / wanted.sum(-1, keepdim=True)
    own = F.normalize(_mixed(batch, bank.features[number]), dim=-1)
    extra = 1 - (features * own).sum(-1).mean()
    if teacher is not None:
        with torch.no_grad(), fast_arithmetic():
            aim, shapes = teacher.encode(batch.pixels)
        guesses = F.softmax(teacher.scale * aim @ choices.T, dim=-1)
        wanted = GUESSES * guesses + (1 - GUESSES) * wanted
        extra = FEATURES * (1 - (features * aim).sum(-1).mean())
        extra = extra + PLACES * _distance_of_places(places.float(), shapes.float())
    logits = scale.exp().clamp(max=100) * features @ choices.T
    return F.cross_entropy(logits, wanted) + extra


def _mixed(batch: Batch, rows: Tensor) -> Tensor:
    share = batch.weights[:, None]
    return share * rows[batch.labels] + (1 - share) * rows[batch.second_labels]


def _distance_of_places(places: Tensor, shapes: Tensor) -> Tensor:
    """Return one minus the mean cosine of (n, positions, channels) to a map of the same grid."""
    side = round(places.shape[1] ** 0.5)
    spread = shapes.std((0, 2, 3), keepdim=True) + 1e-4
    shapes = (shapes - shapes.mean((0, 2, 3), keepdim=True)) / spread
    shapes = F.interpolate(shapes, size=(side, side), mode="bilinear")
    return 1 - F.cosine_similarity(places, shapes.flatten(2).mT, dim=-1).mean()


@torch.inference_mode()
def _accuracy(model: torch.nn.Module, encode: Encode, images: Images, features: Tensor) -> float:
    """Return zero-shot top-1 of the validation style over its names that occur in training."""
    model.eval()
    pixels, labels = images.shown(VALIDATION)
    names = labels.unique()
    with fast_arithmetic():
        encoded = torch.cat([encode(some)[0] for some in pixels.split(256)])
    found = names[(encoded @ features[names].T).argmax(-1)]
    model.train()
    return float((found == labels).float().mean())


def _save(checkpoint: Path, state: dict[str, Any], scale: Tensor, step: int) -> None:
    content = {name: part.state_dict() for name, part in state.items()}
    torch.save({**content, "scale": scale.data, "step": step}, checkpoint.with_suffix(".part"))
    checkpoint.with_suffix(".part").replace(checkpoint)


def _continue(checkpoint: Path, state: dict[str, Any], scale: Tensor) -> int:
    """Load the checkpoint, if there is one; return its step."""
    if not checkpoint.exists():
        return 0
    content = torch.load(checkpoint, weights_only=True, map_location=DEVICE)
    for name, part in state.items():
        part.load_state_dict(content[name])
    scale.data.copy_(content["scale"])
    return int(content["step"])
