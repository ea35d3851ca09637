"""Embed all texts with the sentence encoder: plain, as a photograph, and with their definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from device import fast_arithmetic
from teacher import embed
from texts import read_texts

PROMPT = "a photo of a {}"


def main(work: Path) -> None:
    """Write WORK/plain.npy, photo.npy and gloss.npy, float16 (n, 384), rows of length one."""
    texts = read_texts(work)
    print(
        f"{len(texts)} texts, {sum(text.frequent for text in texts)} of them frequent", flush=True
    )
    forms = {
        "plain": [text.text for text in texts],
        "photo": [PROMPT.format(text.text) for text in texts],
        "gloss": [text.gloss or text.text for text in texts],
    }
    for name, lines in forms.items():
        with fast_arithmetic():
            embeddings = embed(work, lines)
        np.save(work / f"{name}.npy", embeddings.astype(np.float16))
