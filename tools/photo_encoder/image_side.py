"""Teach the image head, on pseudo-features, what the backbone's classifier and WordNet know."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from backbone import HEAD_SIZE, Backbone, read_backbone
from numpy.typing import NDArray
from pseudo_features import draw
from safetensors.torch import save_file
from targets import centre_and_targets
from text_model import encode_all
from texts import Concept, imagenet_concepts, read_texts
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

BACKBONE = "lite0"
STEPS, BATCH, RATE, SEED = 2000, 384, 2e-3, 0
LEARNT_WEIGHT, CLASSES_WEIGHT = 1.0, 0.5
_TEMPLATES = ("{}", "a photo of a {}", "the nice {}", "a picture of a {}")


class LearntHead(nn.Module):
    """From pooled features to the joint space; the input is normalised by fixed statistics."""

    def __init__(self, mean: Tensor, deviation: Tensor, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.fc1, self.fc2 = nn.Linear(len(mean), HEAD_SIZE), nn.Linear(HEAD_SIZE, dim)
        self.dropout = nn.Dropout(0.2)

    def forward(self, features: Tensor, noise: float = 0.0) -> Tensor:
        """Return features (n, dim) of length one."""
        x = (features - self.mean) / self.deviation
        x = x + noise * torch.randn_like(x)
        return F.normalize(self.fc2(self.dropout(F.gelu(self.fc1(x)))), dim=-1)


def main(work: Path) -> None:
    """Write WORK/image_side.safetensors."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    backbone = read_backbone(work, BACKBONE)
    bank, probabilities = draw(backbone)
    classes, hypernyms = imagenet_concepts(work)
    class_texts = _Choices(work, classes, rng, n_names=4)
    hypernym_texts = _Choices(work, hypernyms, rng, n_names=2)
    members = torch.zeros(len(classes), len(hypernyms))
    for j, concept in enumerate(hypernyms):
        members[list(concept.classes), j] = 1
    head = LearntHead(bank.mean(0), bank.std(0) + 0.02, class_texts.dim)
    scale = nn.Parameter(torch.tensor(3.4))
    slope, offset = nn.Parameter(torch.tensor(30.0)), nn.Parameter(torch.tensor(-4.0))
    parameters = [*head.parameters(), scale, slope, offset]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS, pct_start=0.1)
    begin = time.monotonic()
    for step in range(STEPS):
        some = torch.randint(len(bank), (BATCH,))
        wanted = probabilities[some]
        image = head(bank[some], noise=0.1)
        logits = scale.exp() * image @ class_texts.draw().T
        loss_classes = -(wanted * logits.log_softmax(-1)).sum(-1).mean()
        kinds = slope * image @ hypernym_texts.draw().T + offset
        loss_kinds = F.binary_cross_entropy_with_logits(kinds, (wanted @ members).clamp(0, 1))
        loss = loss_classes + loss_kinds * len(hypernyms) / 60
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        scale.data.clamp_(max=float(np.log(100)))
        if (step + 1) % 100 == 0:
            minutes = (time.monotonic() - begin) / 60
            losses = f"{loss_classes.item():.2f} {loss_kinds.item():.4f}"
            print(f"{step + 1}: {losses}, {minutes:.1f} min", flush=True)
    head.eval()
    tensors = _folded(head, backbone)
    tensors["logit_scale"] = scale.detach().clone()
    print(f"logit scale {scale.exp().item():.1f}", flush=True)
    save_file(tensors, work / "image_side.safetensors")


class _Choices:
    """Targets of the names of concepts, of which each draw takes one of each concept."""

    def __init__(
        self, work: Path, concepts: Sequence[Concept], rng: np.random.Generator, n_names: int
    ) -> None:
        row_of = {text.text: row for row, text in enumerate(read_texts(work))}
        lists = [[row_of[name] for name in each.names[:n_names]] for each in concepts]
        self._sizes = np.array([len(rows) for rows in lists])
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)[:-1]])
        targets = centre_and_targets(work)[1]
        self._targets = torch.from_numpy(targets[[row for rows in lists for row in rows]])
        self._rng = rng
        self.dim = self._targets.shape[1]

    def draw(self) -> Tensor:
        """Return one name of each concept, about as far off as the text tower is, (n, dim)."""
        rows = self._starts + self._rng.integers(0, self._sizes)
        some = self._targets[torch.from_numpy(rows)]
        return F.normalize(some + 0.015 * torch.randn_like(some), dim=-1)


def class_means(work: Path) -> Tensor:
    """Return the mean of the text tower's features of the names of each class, (1000, dim)."""
    classes, _ = imagenet_concepts(work)
    lists = [
        [template.format(name) for name in each.names[:4] for template in _TEMPLATES]
        for each in classes
    ]
    features = torch.from_numpy(encode_all(work, [line for lines in lists for line in lines]))
    parts = torch.split(features, [len(lines) for lines in lists])
    return F.normalize(torch.stack([part.mean(0) for part in parts]), dim=-1)


def _folded(head: LearntHead, backbone: Backbone) -> dict[str, Tensor]:
    """Return the tensors of the head, the normalisation of its input folded into them."""
    fc1 = head.fc1.weight.detach() / head.deviation
    tensors = {
        "visual_mlp.fc1.weight": fc1,
        "visual_mlp.fc1.bias": head.fc1.bias.detach() - fc1 @ head.mean,
        "visual_mlp.fc2.weight": head.fc2.weight.detach(),
        "visual_mlp.fc2.bias": head.fc2.bias.detach(),
        "visual_classifier.weight": backbone.weight,
        "visual_classifier.bias": backbone.bias,
        "visual_mixture": torch.tensor([LEARNT_WEIGHT, CLASSES_WEIGHT]),
    }
    return {name: tensor.contiguous().clone() for name, tensor in tensors.items()}


def features_of(tensors: dict[str, Tensor], pooled: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the joint-space features of pooled features, as the library computes them."""
    x = torch.from_numpy(pooled)
    hidden = F.gelu(F.linear(x, tensors["visual_mlp.fc1.weight"], tensors["visual_mlp.fc1.bias"]))
    learnt = F.linear(hidden, tensors["visual_mlp.fc2.weight"], tensors["visual_mlp.fc2.bias"])
    logits = F.linear(x, tensors["visual_classifier.weight"], tensors["visual_classifier.bias"])
    known = F.linear(logits.softmax(-1), tensors["visual_projection.weight"])
    weights = tensors["visual_mixture"]
    mixed = weights[0] * F.normalize(learnt, dim=-1) + weights[1] * F.normalize(known, dim=-1)
    return mixed.numpy()
