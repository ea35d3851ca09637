"""Distil the text tower: in any prompt, a text's features are the target of the bare text."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from device import DEVICE, fast_arithmetic
from muon import Muon, split_parameters
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from targets import centre_and_targets, embed_new
from texts import Text, read_texts
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import CLIPTextConfig, CLIPTextModelWithProjection
from vocabulary import CONTEXT, VOCABULARY

from negrefine.encoders.clip_tokenizer import read_plain_tokenizer

STEPS, BATCH, SEED, RATE = 1300, 448, 0, 2e-3
TEMPLATES = (
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
CONFIG = CLIPTextConfig(
    vocab_size=VOCABULARY,
    hidden_size=256,
    intermediate_size=1024,
    projection_dim=384,
    num_hidden_layers=2,
    num_attention_heads=4,
    max_position_embeddings=CONTEXT,
    hidden_act="quick_gelu",
    pad_token_id=VOCABULARY - 1,
    bos_token_id=VOCABULARY - 2,
    eos_token_id=VOCABULARY - 1,
)
CONFIG._attn_implementation = "sdpa"


def main(work: Path) -> None:
    """Write WORK/text_side.safetensors."""
    rng = np.random.default_rng(SEED)
    texts = read_texts(work)
    targets = torch.from_numpy(centre_and_targets(work)[1]).to(DEVICE)
    known = np.array([i for i, text in enumerate(texts) if not is_held_out(text)])
    frequent = np.array([i for i in known if texts[i].frequent])
    tokenizer = tokenizer_of(work)
    torch.manual_seed(SEED)
    model = CLIPTextModelWithProjection(CONFIG)
    _start_as_mean(work, model, tokenizer)
    model.to(DEVICE)
    matrices, others = split_parameters(model)
    muon, adam = Muon(matrices, lr=RATE), torch.optim.AdamW(others, lr=RATE, weight_decay=0.0)
    begin, total = time.monotonic(), 0.0
    for step in range(STEPS):
        rate = min(1.0, (step + 1) / 50) * min(1.0, (STEPS - step) / (0.7 * STEPS))
        for optimizer in (muon, adam):
            optimizer.param_groups[0]["lr"] = RATE * rate
        lines, wanted = _batch(rng, texts, targets, known, frequent)
        with fast_arithmetic():
            features = _encode(model, tokenizer, lines)
        cosines = (features * wanted).sum(-1)
        # Texts with nearly the same target are not negatives of each other.
        alike = wanted @ wanted.T > 0.9
        alike.fill_diagonal_(fill_value=False)
        logits = (features @ wanted.T / 0.05).masked_fill(alike, -1e4)
        loss = 4 * (1 - cosines).mean() + F.cross_entropy(logits, torch.arange(len(lines)))
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        muon.step()
        adam.step()
        total += cosines.mean().item()
        if (step + 1) % 50 == 0:
            minutes = (time.monotonic() - begin) / 60
            spent = time.process_time() / 60
            print(
                f"{step + 1}: cosine {total / 50:.3f}, {minutes:.1f} min, CPU {spent:.1f}",
                flush=True,
            )
            total = 0.0
            # To look at before it is finished.
            _save(work, model)
    _save(work, model)


def _save(work: Path, model: CLIPTextModelWithProjection) -> None:
    save_file(
        {name: t.detach().cpu().contiguous().clone() for name, t in model.state_dict().items()},
        work / "text_side.safetensors",
    )


def is_held_out(text: Text) -> bool:
    """Say whether a text is left out of training, to measure the distillation: 1 % of the rare."""
    return not text.frequent and hashlib.sha256(text.text.encode()).digest()[0] < 3


def tokenizer_of(work: Path) -> Tokenizer:
    """Return the tokenizer as the library reads it."""
    tokenizer = read_plain_tokenizer(work / "model")
    if tokenizer is None:
        raise SystemExit("The tokenizer is not one that the library reads by itself.")
    return tokenizer


def _batch(
    rng: np.random.Generator,
    texts: list[Text],
    targets: Tensor,
    known: NDArray[np.intp],
    frequent: NDArray[np.intp],
) -> tuple[list[str], Tensor]:
    n_often = 2 * BATCH // 5
    some = np.concatenate([rng.choice(known, BATCH - n_often), rng.choice(frequent, n_often)])
    lines = [texts[i].text for i in some]
    wanted = targets[some].clone()
    # Two names in one text, as in the pairs of NegRefine: the target is between both.
    for j in np.flatnonzero(rng.random(BATCH) < 0.12):
        other = int(rng.choice(known if rng.random() < 0.5 else frequent))
        lines[j] = f"{lines[j]} and {texts[other].text}"
        wanted[j] = F.normalize(wanted[j] + targets[other], dim=0)
    for j in np.flatnonzero(rng.random(BATCH) < 0.45):
        lines[j] = TEMPLATES[int(rng.integers(len(TEMPLATES)))].format(lines[j])
    return lines, wanted


@torch.no_grad()
def _start_as_mean(work: Path, model: CLIPTextModelWithProjection, tokenizer: Tokenizer) -> None:
    """Initialise the tower to return the mean of its tokens' targets.

    Tokens start at their targets, reduced to the width of the tower by PCA, which the projection
    undoes. The first layer attends to all tokens alike and copies them; the others add nothing yet.
    """
    texts, targets = read_texts(work), centre_and_targets(work)[1]
    row_of = {text.text: i for i, text in enumerate(texts)}
    tokens = [tokenizer.id_to_token(i) or "" for i in range(VOCABULARY - 2)]
    words = [token.removesuffix("</w>") for token in tokens]
    starts = np.zeros((VOCABULARY, targets.shape[1]), np.float32)
    starts[:-2] = embed_new(work, words)
    for i, (token, word) in enumerate(zip(tokens, words, strict=True)):
        if not token.endswith("</w>"):
            starts[i] *= 0.5
        elif word in row_of:
            starts[i] = targets[row_of[word]]
    _, axes = np.linalg.eigh(targets.T @ targets)
    axes = axes[:, ::-1][:, : CONFIG.hidden_size].copy()
    text = model.text_model
    text.embeddings.token_embedding.weight.copy_(torch.from_numpy(starts @ axes))
    text.embeddings.position_embedding.weight.mul_(0.1)
    model.text_projection.weight.copy_(torch.from_numpy(axes / CONFIG.hidden_size**0.5))
    for number, layer in enumerate(text.encoder.layers):
        layer.mlp.fc2.weight.zero_()
        layer.self_attn.out_proj.weight.zero_()
        if number == 0:
            layer.self_attn.v_proj.weight.copy_(torch.eye(CONFIG.hidden_size))
            layer.self_attn.out_proj.weight.copy_(torch.eye(CONFIG.hidden_size))


def _encode(model: CLIPTextModelWithProjection, tokenizer: Tokenizer, lines: list[str]) -> Tensor:
    """Return features (n, 384) of length one."""
    ids = [encoding.ids[:CONTEXT] for encoding in tokenizer.encode_batch(lines)]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    rows: list[Tensor] = []
    for some in np.array_split(np.array(order), max(1, len(lines) // 112)):
        longest = max(len(ids[i]) for i in some)
        padded = [ids[i] + [VOCABULARY - 1] * (longest - len(ids[i])) for i in some]
        rows.append(model(torch.tensor(padded, device=DEVICE)).text_embeds.float())
    back = torch.from_numpy(np.argsort(order, kind="stable"))
    return F.normalize(torch.cat(rows)[back], dim=-1)


@torch.inference_mode()
def encode_all(work: Path, lines: list[str]) -> NDArray[np.float32]:
    """Return the trained tower's features (n, 384) of any number of texts."""
    model = CLIPTextModelWithProjection(CONFIG)
    model.load_state_dict(load_file(work / "text_side.safetensors"))
    model.eval()
    tokenizer = tokenizer_of(work)
    blocks = [lines[i : i + 2048] for i in range(0, len(lines), 2048)]
    return torch.cat([_encode(model, tokenizer, block) for block in blocks]).numpy()
