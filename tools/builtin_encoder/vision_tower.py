"""Train the vision tower against the frozen text tower. Continues from its last checkpoint."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import text_tower
import torch
from augment import augment, on_white
from fetch import read_sources
from muon import Muon
from safetensors.torch import save_file
from text_tower import split_parameters
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

STEPS, BATCH, SEED = 4000, 256, 0
KEPT_PATCHES = 12
"""Of 16, for the first 60 % of the steps."""
MUON_RATE, ADAM_RATE = 4e-3, 2e-3
TEMPLATES = ("{}", "a photo of a {}", "the nice {}", "a photo of the nice {}.")
VARIANT_SHARES = {"plain": 0.4, "thin": 0.2, "thick": 0.25, "line": 0.15}
# people, components, symbols and flags count less: there are many, and nobody asks for them
GROUP_SHARES = {0: 0.7, 1: 0.2, 2: 0.1, 8: 0.5, 9: 0.2}
EVALUATED_GROUPS = (0, 3, 4, 5, 6, 7, 8)
"""All but people, components and flags."""
CONFIG = CLIPVisionConfig(
    hidden_size=256,
    intermediate_size=1024,
    projection_dim=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    image_size=64,
    patch_size=16,
    hidden_act="quick_gelu",
)
CONFIG._attn_implementation = "eager"


class Images:
    """All rendered images, and how often each is drawn in training."""

    def __init__(self, work: Path) -> None:
        lines = (work / "images.jsonl").read_text(encoding="utf-8").splitlines()
        self.rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
        self.squares = torch.from_numpy(np.load(work / "images.npy"))
        sources = {s["style"]: s for s in read_sources() if "style" in s}
        weights = np.zeros(len(self.rows))
        for i, row in enumerate(self.rows):
            source = sources[row["style"]]
            if source["role"] == "train":
                outlined = source["kind"] == "colour"
                share = VARIANT_SHARES[row["variant"]] if outlined else 1.0
                weights[i] = source["weight"] * share * GROUP_SHARES.get(row["group"], 1.0)
        self.probabilities = weights / weights.sum()
        self.plain = torch.tensor([row["variant"] == "plain" for row in self.rows])
        used = [row for row, weight in zip(self.rows, weights, strict=True) if weight]
        names = {row["name"] for row in used} | {tag for row in used for tag in row["tags"]}
        self.captions = sorted(names)
        self.number = {name: i for i, name in enumerate(self.captions)}


def main(work: Path) -> None:
    """Write WORK/vision_tower.safetensors."""
    images = Images(work)
    banks, targets = _banks(work, images)
    torch.manual_seed(SEED)
    model = CLIPVisionModelWithProjection(CONFIG)
    _initialise(model, images)
    scale = torch.nn.Parameter(torch.tensor(10.0).log())
    matrices, others = split_parameters(model)
    muon = Muon(matrices, lr=MUON_RATE)
    adam = torch.optim.AdamW([*others, scale], lr=ADAM_RATE, weight_decay=0.01)
    state = {"model": model, "muon": muon, "adam": adam}
    first = _continue(work, state, scale)
    begin, losses = time.monotonic(), []
    for step in range(first, STEPS):
        left = min(1.0, (STEPS - step) / (0.8 * STEPS)) * min(1.0, (step + 1) / 100)
        muon.param_groups[0]["lr"] = MUON_RATE * left
        adam.param_groups[0]["lr"] = ADAM_RATE * left
        pixels, labels, kept, number = _batch(images, step, len(banks))
        bank, others_too = banks[number], _captions(labels, len(targets), step)
        features = encode(model, pixels, kept if step < 0.6 * STEPS else None)
        # Captions that the teacher hardly tells apart share the label.
        wanted = F.softmax(targets[labels] @ targets[others_too].T / 0.06, dim=-1)
        logits = scale.exp().clamp(max=100) * features @ bank[others_too].T
        loss = F.cross_entropy(logits, wanted) + 1 - (features * bank[labels]).sum(-1).mean()
        muon.zero_grad()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        muon.step()
        adam.step()
        losses.append(loss.item())
        if (step + 1) % 100 == 0 or step + 1 == STEPS:
            _save(work, state, scale, step + 1)
            seconds = time.monotonic() - begin
            print(
                f"{step + 1}: loss {np.mean(losses):.3f}, scale {scale.exp().item():.1f}, "
                f"validation {validation_accuracy(model, images, banks[0], 'noto-v1'):.3f}, "
                f"{(step + 1 - first) * BATCH / seconds:.0f} images/s, {seconds / 60:.1f} min",
                flush=True,
            )
            losses = []
    tensors = {name: t.detach().contiguous().clone() for name, t in model.state_dict().items()}
    save_file({**tensors, "logit_scale": scale.data.clone()}, work / "vision_tower.safetensors")


def _batch(images: Images, step: int, n_banks: int) -> tuple[Tensor, Tensor, Tensor, int]:
    """Return pixels, captions, kept patches and the template's number: the step decides all."""
    rng = np.random.default_rng([SEED, step])
    generator = torch.Generator().manual_seed(1_000_003 * SEED + step)
    chosen = rng.choice(len(images.rows), BATCH, p=images.probabilities)
    labels = torch.tensor([_label(images, i, rng) for i in chosen])
    picked = torch.from_numpy(chosen)
    squares = images.squares[picked]
    pixels = augment(squares, images.plain[picked], generator)
    easy = torch.rand(BATCH, generator=generator) >= changed_share(step)
    pixels[easy] = on_white(squares[easy])
    kept = torch.rand(BATCH, 16, generator=generator).argsort(1)[:, :KEPT_PATCHES]
    return pixels, labels, kept, int(rng.integers(n_banks))


def changed_share(step: int) -> float:
    """Return the share of images that are augmented: none at first, 85 % from 35 % of the steps on.

    Without a start on plain drawings the features of all images stay alike for 100,000 samples.
    """
    return 0.85 * min(1.0, max(0.0, step / STEPS - 0.03) / 0.32)


def _captions(labels: Tensor, n: int, step: int) -> Tensor:
    """Return the captions to choose from: the batch's own and 6,000 others."""
    generator = torch.Generator().manual_seed(step)
    return torch.cat([labels, torch.randint(n, (6000,), generator=generator)]).unique()


def _save(work: Path, state: dict[str, Any], scale: Tensor, step: int) -> None:
    target = work / "vision_tower.pt"
    content = {name: part.state_dict() for name, part in state.items()}
    torch.save({**content, "scale": scale.data, "step": step}, target.with_suffix(".part"))
    target.with_suffix(".part").replace(target)


def _continue(work: Path, state: dict[str, Any], scale: Tensor) -> int:
    """Load the last checkpoint, if there is one; return the step it stands at."""
    if not (work / "vision_tower.pt").exists():
        return 0
    content = torch.load(work / "vision_tower.pt", weights_only=True)
    for name, part in state.items():
        part.load_state_dict(content[name])
    scale.data.copy_(content["scale"])
    return int(content["step"])


def encode(
    model: CLIPVisionModelWithProjection, pixels: Tensor, kept: Tensor | None = None
) -> Tensor:
    """Return features of length one, of some patches only if these are given."""
    tower = model.vision_model
    hidden = tower.embeddings(pixels)
    if kept is not None:
        index = torch.cat([torch.zeros_like(kept[:, :1]), kept + 1], 1)
        hidden = hidden.gather(1, index.unsqueeze(-1).expand(-1, -1, hidden.shape[-1]))
    hidden = tower.encoder(inputs_embeds=tower.pre_layrnorm(hidden)).last_hidden_state
    return F.normalize(model.visual_projection(tower.post_layernorm(hidden[:, 0])), dim=-1)


@torch.inference_mode()
def validation_accuracy(
    model: CLIPVisionModelWithProjection, images: Images, bank: Tensor, style: str
) -> float:
    """Return zero-shot top-1 of a style over all its names that training knows."""
    some = [
        i
        for i, row in enumerate(images.rows)
        if row["style"] == style
        and row["group"] in EVALUATED_GROUPS
        and row["name"] in images.number
    ]
    labels = torch.tensor([images.number[images.rows[i]["name"]] for i in some])
    names = labels.unique()
    features = torch.cat(
        [encode(model, on_white(images.squares[b])) for b in torch.tensor(some).split(512)]
    )
    found = names[(features @ bank[names].T).argmax(-1)]
    return float((found == labels).float().mean())


def _label(images: Images, i: int, rng: np.random.Generator) -> int:
    row = images.rows[i]
    if row["tags"] and rng.random() < 0.2:
        return images.number[row["tags"][int(rng.integers(len(row["tags"])))]]
    return images.number[row["name"]]


def _banks(work: Path, images: Images) -> tuple[list[Tensor], Tensor]:
    """Return features of all captions in each template, and the teacher's targets of them."""
    model, tokenizer = text_tower.load(work)
    banks = [
        text_tower.encode_all(model, tokenizer, [t.format(c) for c in images.captions]).clone()
        for t in TEMPLATES
    ]
    numbers = {word.text: i for i, word in enumerate(text_tower.read_words(work))}
    targets = np.load(work / "targets.npy")
    rows = [numbers[caption] for caption in images.captions]
    return banks, torch.from_numpy(targets[rows])


@torch.no_grad()
def _initialise(model: CLIPVisionModelWithProjection, images: Images) -> None:
    """Start from whitened patches, sine positions, and keys near queries."""
    generator = torch.Generator().manual_seed(SEED)
    some = torch.from_numpy(
        np.random.default_rng(SEED).choice(len(images.rows), 4000, p=images.probabilities)
    )
    pixels = augment(images.squares[some], images.plain[some], generator)
    patches = F.unfold(pixels, 16, stride=16).transpose(1, 2).reshape(-1, 768)
    patches = patches - patches.mean(0)
    values, axes = torch.linalg.eigh(patches.T @ patches / len(patches))
    filters = (axes / (values + 0.01 * values.max()).sqrt()).T.flip(0)[: CONFIG.hidden_size]
    embeddings = model.vision_model.embeddings
    embeddings.patch_embedding.weight.copy_(0.5 * filters.view(-1, 3, 16, 16))
    position = torch.zeros(17, CONFIG.hidden_size)
    quarter = CONFIG.hidden_size // 4
    frequency = 1 / 100 ** (torch.arange(quarter) / quarter)
    for i in range(16):
        for j, coordinate in enumerate((i // 4, i % 4)):
            angle = coordinate * frequency
            waves = torch.cat([angle.sin(), angle.cos()])
            position[i + 1, 2 * j * quarter : 2 * (j + 1) * quarter] = waves
    embeddings.position_embedding.weight.copy_(0.3 * position)
    for layer in model.vision_model.encoder.layers:
        attention = layer.self_attn
        attention.v_proj.weight.mul_(3)
        attention.k_proj.weight.copy_(
            attention.q_proj.weight
            + 0.3 * torch.randn_like(attention.q_proj.weight) * attention.q_proj.weight.std()
        )
