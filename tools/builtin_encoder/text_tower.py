"""Distil the text tower: in any prompt, a text's features are the teacher's of the bare text."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from device import DEVICE, fast_arithmetic
from muon import Muon, split_parameters
from safetensors.torch import save_file
from teacher import embed
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer
from words import read_words

STEPS, BATCH, SEED = 1600, 512, 0
TEMPLATES = (
    "{}",
    "a photo of a {}",
    "the nice {}",
    "a photo of the nice {}.",
    "a close-up photo of the nice {}.",
    "a good photo with the nice {}.",
    "a photo with the nice {}.",
    "the {}",
    "the good {}",
    "This is a {} photo",
    "a sketch of a {}",
    "an emoji of a {}",
    "a drawing of the {}",
)
CONFIG = CLIPTextConfig(
    vocab_size=8189,
    hidden_size=192,
    intermediate_size=768,
    projection_dim=256,
    num_hidden_layers=4,
    num_attention_heads=6,
    max_position_embeddings=32,
    hidden_act="quick_gelu",
    pad_token_id=8188,
    bos_token_id=8187,
    eos_token_id=8188,
)
CONFIG._attn_implementation = "eager"


def main(work: Path) -> None:
    """Write WORK/text_tower.safetensors."""
    rng = np.random.default_rng(SEED)
    words = read_words(work)
    targets = torch.from_numpy(np.load(work / "targets.npy")).to(DEVICE)
    tokenizer = CLIPTokenizer.from_pretrained(work / "model")
    known = np.array([i for i, word in enumerate(words) if not word.held_out])
    # Captions are only a twelfth of the texts, but the names of the images.
    captions = np.array([i for i in known if words[i].caption])
    torch.manual_seed(SEED)
    model = CLIPTextModelWithProjection(CONFIG)
    _start_from_teacher(work, model, tokenizer)
    model.to(DEVICE)
    matrices, others = split_parameters(model)
    muon = Muon(matrices, lr=2e-3)
    adam = torch.optim.AdamW(others, lr=2e-3, weight_decay=0.0)
    begin = time.monotonic()
    total = 0.0
    for step in range(STEPS):
        rate = min(1.0, (step + 1) / 50) * min(1.0, (STEPS - step) / (0.7 * STEPS))
        for optimizer in (muon, adam):
            optimizer.param_groups[0]["lr"] = 2e-3 * rate
        texts, wanted = _batch(rng, words, targets, known, captions)
        with fast_arithmetic():
            features = encode(model, tokenizer, texts)
        cosines = (features * wanted).sum(-1)
        logits = features @ wanted.T / 0.05
        # Texts with nearly the same target are not negatives of each other.
        same = (wanted @ wanted.T > 0.95) & ~torch.eye(len(wanted), dtype=torch.bool, device=DEVICE)
        loss = 4 * (1 - cosines).mean() + torch.nn.functional.cross_entropy(
            logits.masked_fill(same, -1e4), torch.arange(len(wanted), device=DEVICE)
        )
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        muon.step()
        adam.step()
        total += cosines.mean().item()
        if (step + 1) % 100 == 0:
            minutes = (time.monotonic() - begin) / 60
            print(f"{step + 1}: cosine {total / 100:.3f}, {minutes:.1f} min", flush=True)
            total = 0.0
    save_file(
        {name: t.detach().cpu().contiguous().clone() for name, t in model.state_dict().items()},
        work / "text_tower.safetensors",
    )
    unseen = [i for i, word in enumerate(words) if word.held_out]
    for template in TEMPLATES[:4]:
        features = encode_all(model, tokenizer, [template.format(words[i].text) for i in unseen])
        cosine = (features * targets[unseen]).sum(-1).mean()
        print(f"unseen nouns, {template!r}: {cosine:.3f}", flush=True)


def _batch(
    rng: np.random.Generator,
    words: list,  # type: ignore[type-arg]
    targets: Tensor,
    known: np.ndarray,  # type: ignore[type-arg]
    captions: np.ndarray,  # type: ignore[type-arg]
) -> tuple[list[str], Tensor]:
    some = rng.choice(known, 3 * BATCH // 4)
    some = np.concatenate([some, rng.choice(captions, BATCH - len(some))])
    texts = [words[i].text for i in some]
    wanted = targets[some].clone()
    # Two names in one text, as in the pairs of NegRefine: the target is between both.
    for j in np.flatnonzero(rng.random(BATCH) < 0.12):
        other = int(rng.choice(known if rng.random() < 0.5 else captions))
        texts[j] = f"{texts[j]} and {words[other].text}"
        wanted[j] = torch.nn.functional.normalize(wanted[j] + targets[other], dim=0)
    for j in np.flatnonzero(rng.random(BATCH) < 0.4):
        texts[j] = TEMPLATES[int(rng.integers(1, len(TEMPLATES)))].format(texts[j])
    return texts, wanted


def _start_from_teacher(
    work: Path, model: CLIPTextModelWithProjection, tokenizer: CLIPTokenizer
) -> None:
    """Initialise token embeddings with the teacher's embeddings of the tokens as words."""
    texts = [tokenizer.decode([i]).strip() or "." for i in range(len(tokenizer))]
    embeddings = embed(work, texts)
    embeddings -= embeddings.mean(axis=0)
    _, _, axes = np.linalg.svd(embeddings, full_matrices=False)
    reduced = embeddings @ axes[: CONFIG.hidden_size].T
    weights = torch.from_numpy(0.02 * reduced / reduced.std(axis=0))
    with torch.no_grad():
        model.text_model.embeddings.token_embedding.weight.copy_(weights)


def encode(
    model: CLIPTextModelWithProjection, tokenizer: CLIPTokenizer, texts: list[str]
) -> Tensor:
    """Return features (n, 256) of length one."""
    order = np.argsort([len(text) for text in texts], kind="stable")
    rows: list[Tensor] = []
    for some in np.array_split(order, max(1, len(texts) // 128)):
        inputs = tokenizer(
            [texts[i] for i in some], padding=True, truncation=True, return_tensors="pt"
        )
        rows.append(model(**inputs.to(model.device)).text_embeds.float())
    back = torch.from_numpy(np.argsort(order, kind="stable"))
    return torch.nn.functional.normalize(torch.cat(rows)[back], dim=-1)


@torch.inference_mode()
def encode_all(
    model: CLIPTextModelWithProjection, tokenizer: CLIPTokenizer, texts: list[str]
) -> Tensor:
    """Return features of any number of texts."""
    model.eval()
    blocks = [texts[i : i + 2048] for i in range(0, len(texts), 2048)]
    return torch.cat([encode(model, tokenizer, block) for block in blocks])


def load(work: Path) -> tuple[CLIPTextModelWithProjection, CLIPTokenizer]:
    """Return the trained tower and its tokenizer."""
    from safetensors.torch import load_file

    model = CLIPTextModelWithProjection(CONFIG)
    model.load_state_dict(load_file(work / "text_tower.safetensors"), strict=False)
    return model.eval().to(DEVICE), CLIPTokenizer.from_pretrained(work / "model")
