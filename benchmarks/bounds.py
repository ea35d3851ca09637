"""What the times of new pairs and of a first fit are bounded by: operations that must be done.

    python benchmarks/bounds.py [--reference DIR] [--tokenizer DIR]

Counts the multiplications and additions of the image tower and of the text tower on the distinct
prefixes of S_MM's texts, and measures how many the text engine does in a second beside the largest
rate that this processor reaches in products of matrices. An engine without any loss would be
faster by the ratio of the two rates at most; `benchmarks/scoring.py` measures the times themselves.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from negrefine import Lexicon, load_encoder
from negrefine.detectors.multi_match import pair_text
from negrefine.encoders.token_trie import trie_blocks
from negrefine.labels.prompts import CSP_PROMPTS
from scoring import (
    DEFAULT_REFERENCE,
    DEFAULT_TOKENIZER,
    Labels,
    builtin_directory,
    make_vit_b16,
    read_labels,
)

K = 5
MAX_NODES = 256


def linear_operations(module: Any, skip: Sequence[str] = ()) -> int:
    """Return multiplications and additions of a module's matrices for one token."""
    weights = [
        w
        for name, w in module.named_parameters()
        if w.ndim == 2 and not any(s in name for s in skip)
    ]
    return 2 * sum(w.numel() for w in weights)


def text_operations(encoder: Any, texts: Sequence[str]) -> tuple[int, int, float]:
    """Return tokens, distinct prefixes, and operations of the text tower on them."""
    tower = encoder._model.text_model
    per_layer = linear_operations(tower.encoder.layers[0])
    n_layers, width = (
        len(tower.encoder.layers),
        tower.encoder.layers[0].self_attn.q_proj.out_features,
    )
    ids = [row[: row.index(row[-1]) + 1] for row in encoder._tokenizer(list(texts))]
    blocks = list(trie_blocks(ids, len(ids), MAX_NODES))
    nodes = [len(block.tokens) for block in blocks]
    # Keys and values of the last layer are needed of every node, the rest of end tokens only.
    layers = n_layers - 1 + 1 / 6
    attention = sum(4 * n * n * width * n_layers for n in nodes)
    return sum(map(len, ids)), sum(nodes), sum(nodes) * per_layer * layers + attention


def image_operations(encoder: Any) -> float:
    """Return operations of the image tower for one image."""
    tower = encoder._model.vision_model
    tokens = encoder.n_patches + 1
    layers = tower.encoder.layers
    width = layers[0].self_attn.q_proj.out_features
    patches = 2 * tower.embeddings.patch_embedding.weight.numel() * encoder.n_patches
    per_token = linear_operations(layers)
    return tokens * per_token + 4 * tokens**2 * width * len(layers) + patches


def best_rate() -> float:
    """Return the operations a second of a product of large matrices in one thread."""
    a, b = torch.randn(2048, 768), torch.randn(768, 3072)
    rates = []
    for _ in range(20):
        start = time.process_time()
        a @ b
        rates.append(2 * a.shape[0] * b.numel() / (time.process_time() - start))
    return max(rates)


def engine_rate(encoder: Any, texts: Sequence[str]) -> float:
    """Return the operations a second of the text engine in one thread."""
    operations = text_operations(encoder, texts)[2]
    encoder.encode_texts(texts[:64])
    times = []
    for _ in range(3):
        start = time.process_time()
        encoder.encode_texts(texts)
        times.append(time.process_time() - start)
    return operations / min(times)


def pair_texts(labels: Labels, n_images: int, rng: np.random.Generator) -> list[str]:
    """Return the distinct texts of images, each with K class names and labels of its own."""
    words = [entry.word for entry in labels.entries]
    texts: dict[str, None] = {}
    for _ in range(n_images):
        names = rng.choice(labels.names, K, replace=False)
        negatives = rng.choice(words, K, replace=False)
        for template in CSP_PROMPTS.noun:
            for name in names:
                for negative in negatives:
                    texts[template.format(pair_text(name, negative))] = None
    return list(texts)


def main() -> None:
    """Print what was counted and measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reference", type=Path, default=DEFAULT_REFERENCE)
    parser.add_argument("--tokenizer", type=Path, default=DEFAULT_TOKENIZER)
    given = parser.parse_args()
    torch.set_num_threads(1)
    labels = read_labels(given.reference)
    words = sorted(entry.word for entry in Lexicon.wordnet().select("official-csp").entries)[::14]
    best = best_rate()
    print(f"Product of matrices: {best / 1e9:.0f} GFLOP/s, one thread")
    with tempfile.TemporaryDirectory() as folder:
        for name, place in (
            ("built-in", builtin_directory()),
            ("ViT-B/16 sizes", make_vit_b16(Path(folder), given.tokenizer)),
        ):
            encoder: Any = load_encoder(str(place), cache=False)
            image = image_operations(encoder)
            print(f"{name}: image {image / 1e9:.2f} GFLOP")
            for n_images in (1, 16):
                texts = pair_texts(labels, n_images, np.random.default_rng(0))
                tokens, nodes, operations = text_operations(encoder, texts)
                bound = image / (image + operations / n_images)
                print(
                    f"  all pairs of {n_images} images new: {len(texts) / n_images:.0f} texts, "
                    f"{tokens / n_images:.0f} tokens, {nodes / n_images:.0f} prefixes, "
                    f"{operations / n_images / 1e9:.1f} GFLOP an image; share of the image "
                    f"encoder's speed at equal rates {bound:.2f}"
                )
            some = words if name == "built-in" else words[:200]
            texts = [CSP_PROMPTS.noun[0].format(word) for word in some]
            rate = engine_rate(encoder, texts)
            print(
                f"  words of the lexicon: {rate / 1e9:.0f} GFLOP/s, {rate / best:.2f} of the "
                "product of matrices"
            )


if __name__ == "__main__":
    sys.exit(main())
