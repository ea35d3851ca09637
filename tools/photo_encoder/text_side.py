"""Distil the text tower: in any prompt, a text's features are the target of the bare text.

Two processes train on draws of their own, and the mean of their weights replaces both every few
steps (local SGD, arXiv 1805.09767): the products are too small for two threads to share them well.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from device import fast_arithmetic
from muon import Muon, split_parameters
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from targets import centre_and_targets
from text_model import CONTEXT, END, START, TextModel, start_as_mean, tokenizer_of
from texts import Text, read_texts
from torch import Tensor, distributed, multiprocessing
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import parameters_to_vector, vector_to_parameters

PROCESSES, STEPS, BATCH, SEED, RATE = 2, 700, 512, 0, 2e-3
TABLE_RATE = 6e-3
"""Of the token embeddings, of which a step sees only a few."""
_AVERAGE_EVERY, _SHOW_EVERY = 10, 50
_FILE = "text_side.safetensors"
_TEMPLATES = (
    "a photo of a {}",
    "a photo of a {}",
    "the nice {}",
    "a photo of the nice {}.",
    "a close-up photo of the nice {}.",
    "a good photo with the nice {}.",
    "a photo with the nice {}.",
    "the {}",
    "the good {}",
    "This is a {} photo",
    "a nice photo of {}",
    "a good photo of {}",
    "a close-up photo of {}",
    "a photo of an {}",
    "a photo of the {}.",
    "a picture of a {}",
    "a {}",
    "itap of a {}.",
    "a sketch of a {}",
)


def main(work: Path) -> None:
    """Write WORK/text_side.safetensors; go on from it if it is unfinished."""
    torch.manual_seed(SEED)
    model, path, first = TextModel(), work / _FILE, 0
    if path.exists():
        with safe_open(path, "pt") as stored:
            first = int((stored.metadata() or {})["step"])
        model.load_state_dict(load_file(path))
    else:
        start_as_mean(work, model, tokenizer_of(work))
    meeting = work / "text_side.meeting"
    meeting.unlink(missing_ok=True)
    multiprocessing.spawn(_train, (work, model, meeting, first), PROCESSES)


def _train(rank: int, work: Path, model: TextModel, meeting: Path, first: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=meeting.as_uri(), rank=rank, world_size=PROCESSES
    )
    draws = _Draws(work, (SEED, rank, first))
    matrices, others = split_parameters(model)
    muon = Muon(matrices, lr=RATE)
    table = model.text_model.embeddings["token_embedding"].weight
    others = [parameter for parameter in others if parameter is not table]
    groups = [{"params": [table], "lr": TABLE_RATE}, {"params": others, "lr": RATE}]
    adam = torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(each, lambda step: _rate(step, first))
        for each in (muon, adam)
    ]
    begin, total = time.monotonic(), 0.0
    for step in range(first, STEPS):
        lines, wanted = draws.batch()
        with fast_arithmetic():
            features = model(lines)
        cosines = (features * wanted).sum(-1)
        # Texts with nearly the same target are not negatives of each other.
        alike = wanted @ wanted.T > 0.9
        alike.fill_diagonal_(fill_value=False)
        logits = (features @ wanted.T / 0.05).masked_fill(alike, -1e4)
        loss = 4 * (1 - cosines).mean() + F.cross_entropy(logits, torch.arange(len(lines)))
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        for optimizer, schedule in zip((muon, adam), schedules, strict=True):
            optimizer.step()
            schedule.step()
        if (step + 1) % _AVERAGE_EVERY == 0 or step + 1 == STEPS:
            _average(model)
        total += cosines.mean().item()
        if (step + 1) % _SHOW_EVERY == 0 and rank == 0:
            minutes, spent = (time.monotonic() - begin) / 60, time.process_time() / 60
            cosine = total / _SHOW_EVERY
            print(
                f"{step + 1}: cosine {cosine:.3f}, {minutes:.1f} min, CPU {spent:.1f}", flush=True
            )
            total = 0.0
            # To look at before it is finished.
            _save(model, work / _FILE, step + 1)
    if rank == 0:
        _save(model, work / _FILE, STEPS)
    distributed.destroy_process_group()


def _rate(steps: int, first: int) -> float:
    """Return the factor on rates, `steps` after the first one of this run."""
    return min(1.0, (steps + 1) / 50) * min(1.0, (STEPS - first - steps) / (0.7 * STEPS))


@torch.no_grad()
def _average(model: TextModel) -> None:
    weights = parameters_to_vector(model.parameters())
    distributed.all_reduce(weights)
    vector_to_parameters(weights / PROCESSES, model.parameters())


def _save(model: TextModel, path: Path, step: int) -> None:
    tensors = {name: t.detach().contiguous().clone() for name, t in model.state_dict().items()}
    save_file(tensors, path.with_suffix(".part"), metadata={"step": str(step)})
    path.with_suffix(".part").rename(path)


def is_held_out(text: Text) -> bool:
    """Say whether a text is left out of training, to measure the distillation: 1 % of the rare."""
    return text.weight == 1 and hashlib.sha256(text.text.encode()).digest()[0] < 3


class _Draws:
    """Batches of prompts, as token ids, with their targets."""

    def __init__(self, work: Path, seed: tuple[int, ...]) -> None:
        texts, tokenizer = read_texts(work), tokenizer_of(work)
        self._rng = np.random.default_rng(seed)
        self._targets = torch.from_numpy(centre_and_targets(work)[1])
        weights = [0 if is_held_out(text) else text.weight for text in texts]
        self._reached = np.cumsum(weights) / np.sum(weights)

        def ids(lines: list[str]) -> list[list[int]]:
            # Words are split at spaces and punctuation, so parts can be tokenised alone.
            return [encoding.ids[1:-1] for encoding in tokenizer.encode_batch(lines)]

        self._ids = ids([text.text for text in texts])
        self._templates = [ids(template.split("{}")) for template in _TEMPLATES]
        self._and = ids(["and"])[0]

    def batch(self) -> tuple[list[list[int]], Tensor]:
        """Return prompts and their targets (n, 384)."""
        rng = self._rng
        some, others = np.searchsorted(self._reached, rng.random((2, BATCH)))
        wanted = self._targets[some].clone()
        pairs, framed = rng.random((2, BATCH)) < np.array([[0.12], [0.45]])
        frames = rng.integers(len(self._templates), size=BATCH)
        prompts = []
        for j, (i, other) in enumerate(zip(some, others, strict=True)):
            ids = self._ids[i]
            # Two names in one text, as in the pairs of NegRefine: the target is between both.
            if pairs[j]:
                ids = [*ids, *self._and, *self._ids[other]]
                wanted[j] = F.normalize(wanted[j] + self._targets[other], dim=0)
            before, after = self._templates[frames[j]] if framed[j] else ([], [])
            prompt = [START, *before, *ids, *after]
            prompts.append([*prompt[: CONTEXT - 1], END])
        return prompts, wanted
