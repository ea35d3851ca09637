"""Speed of the text tower on a trie of tokens against one shared prefix per text.

    python benchmarks/text_engine.py [--towers builtin,vit-b16] [--sizes 200,12800] [--runs N]
                                     [--reference DIR] [--tokenizer DIR]

Prints a Markdown table: for each tower and number of texts, the median over runs of the time of the
former engine (`one_prefix_engine`) divided by that of the present one, which take turns. Texts are

pairs    what S_MM asks for: 5 class names with 5 negatives in 8 templates for each image, all drawn
         from the published labels
words    lexicon words in 8 templates, as in mining

Times are those of the processor in one thread, which depend little on what else the machine does.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from negrefine import Lexicon, load_encoder
from negrefine.encoders import CLIPEncoder
from negrefine.encoders.text_tower import encode_tokens
from negrefine.labels.prompts import CSP_PROMPTS
from one_prefix_engine import encode_tokens as encode_with_one_prefix
from scoring import (
    DEFAULT_REFERENCE,
    DEFAULT_TOKENIZER,
    Labels,
    machine,
    make_vit_b16,
    quiet,
    read_labels,
)

TOWERS = ("builtin", "builtin-photo", "vit-b16")
SIZES = (200, 800, 3200, 12800)
TEMPLATES = CSP_PROMPTS.noun
K = 5
BATCH, FORMER_TOKENS, NODES = 1024, 2048, 256

Ids = list[list[int]]
Engine = Callable[[Any, Ids], Iterator[tuple[NDArray[np.intp], torch.Tensor]]]


def former(model: Any, ids: Ids) -> Iterator[tuple[NDArray[np.intp], torch.Tensor]]:
    return encode_with_one_prefix(model, ids, BATCH, FORMER_TOKENS)


def present(model: Any, ids: Ids) -> Iterator[tuple[NDArray[np.intp], torch.Tensor]]:
    return encode_tokens(model, ids, BATCH, NODES)


def pair_texts(
    names: Sequence[str], words: Sequence[str], n_images: int, rng: np.random.Generator
) -> list[str]:
    texts = []
    for _ in range(n_images):
        classes = rng.choice(len(names), K, replace=False)
        negatives = rng.choice(len(words), K, replace=False)
        pairs = [f"{names[i]} and {words[j]}" for i in classes for j in negatives]
        texts += [template.replace("{}", pair) for pair in pairs for template in TEMPLATES]
    return texts


def word_texts(count: int) -> list[str]:
    entries = Lexicon.wordnet().select("official-csp").entries
    places = np.linspace(0, len(entries) - 1, count // len(TEMPLATES)).astype(int)
    words = [entries[i].word.replace("_", " ") for i in places]
    return [template.replace("{}", word) for word in words for template in TEMPLATES]


def run(engine: Engine, encoder: CLIPEncoder, calls: list[Ids]) -> tuple[float, NDArray[Any]]:
    """Return processor seconds for all calls, and the features of all texts."""
    features = [np.empty((len(ids), encoder.dim), dtype=np.float32) for ids in calls]
    start = time.process_time()
    with torch.inference_mode():
        for ids, rows in zip(calls, features, strict=True):
            for indices, encoded in engine(encoder._model, ids):
                rows[indices] = encoded.numpy()
    return time.process_time() - start, np.concatenate(features)


def compare(
    title: str,
    encoder: CLIPEncoder,
    calls: list[Ids],
    engines: tuple[Callable[[], Engine], Callable[[], Engine]],
    n_runs: int,
) -> str:
    """Return a line of the table: the first engine's time divided by the second's."""
    times = []
    for _ in range(n_runs):
        first, expected = run(engines[0](), encoder, calls)
        second, features = run(engines[1](), encoder, calls)
        times.append((first, second, first / second))
    apart = np.linalg.norm(features - expected, axis=1) / np.linalg.norm(expected, axis=1)
    slow, fast, ratio = (median(column) for column in zip(*times, strict=True))
    ratios = [each for _, _, each in times]
    return (
        f"| {title} | {slow:.2f} s | {fast:.2f} s | {ratio:.2f} x "
        f"| {min(ratios):.2f} to {max(ratios):.2f} | {apart.max():.1e} |"
    )


def lines(
    tower: str, encoder: CLIPEncoder, sizes: Sequence[int], labels: Labels, runs: int
) -> Iterator[str]:
    words = [entry.word for entry in labels.entries]

    def tokens(texts: list[str]) -> Ids:
        return encoder._tokenizer(list(dict.fromkeys(texts)))

    for size in sizes:
        rng = np.random.default_rng(size)
        n_images = max(1, size // (K * K * len(TEMPLATES)))
        for kind, texts in (
            ("pairs", pair_texts(labels.names, words, n_images, rng)),
            ("words", word_texts(size)),
        ):
            title = f"{tower} | {kind} | {size:,}"
            n_runs = max(1, min(runs, runs * SIZES[1] // size))
            yield compare(
                title, encoder, [tokens(texts)], (lambda: former, lambda: present), n_runs
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--towers", default=",".join(TOWERS))
    parser.add_argument("--sizes", default=",".join(map(str, SIZES)), help="numbers of texts")
    parser.add_argument("--runs", type=int, default=5, help="of small sizes")
    parser.add_argument("--reference", type=Path, default=DEFAULT_REFERENCE)
    parser.add_argument("--tokenizer", type=Path, default=DEFAULT_TOKENIZER)
    options = parser.parse_args()
    if unknown := set(options.towers.split(",")) - set(TOWERS):
        parser.error(f"--towers has {min(unknown)!r}: choose from {', '.join(TOWERS)}.")
    torch.set_num_threads(1)
    print(", ".join(f"{key} {value}" for key, value in machine().items()) + "\n")
    print("| tower | texts | number | slower | faster | ratio | its range | largest difference |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder, quiet():
        labels = read_labels(options.reference)
        for tower in options.towers.split(","):
            name = tower
            if tower == "vit-b16":
                name = str(make_vit_b16(Path(folder), options.tokenizer))
            encoder = load_encoder(name, device="cpu", truncate=True, cache=False)
            sizes = [int(size) for size in options.sizes.split(",")]
            for line in lines(tower, encoder, sizes, labels, options.runs):
                print(line, flush=True)


if __name__ == "__main__":
    main()
