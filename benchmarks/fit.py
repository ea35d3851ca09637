"""Where the time of `fit` goes: the first one, the second one, and the judge.

Ratios are taken within one run, of user and system time, so that they say something on a busy
machine too. The first fit is measured on a part of the lexicon, and its encoder alone on the same
texts in the same chunks.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from negrefine import Lexicon, NegRefine, load_encoder
from negrefine.benchmarks import class_list
from negrefine.judges.base import Answer
from negrefine.judges.wordnet import WordNetJudge
from negrefine.labels.mining import MiningRule, candidate_pool

CLASSES = ["cat", "dog", "apple"]


def seconds(action: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return user and system seconds of all threads, seconds on the clock, and the result."""
    clock, busy = time.perf_counter(), sum(os.times()[:2])
    result = action()
    return sum(os.times()[:2]) - busy, time.perf_counter() - clock, result


def fits(encoder_name: str, max_words: int | None, names: list[str], folder: Path) -> None:
    """Time a first fit, its encoder, and a second fit."""
    encoder = load_encoder(encoder_name, device="cpu", cache=folder / "e.sqlite")
    encoder.encode_texts(["warm"])
    load_encoder(encoder_name, device="cpu", cache=False)
    batches: list[list[str]] = []
    encode = encoder.encode_texts

    def noting(texts: list[str], batch_size: int = 1024) -> Any:
        batches.append(list(texts))
        return encode(texts, batch_size)

    # The encoder's own time is taken again on the texts of the fit.
    encoder.encode_texts = noting  # type: ignore[method-assign, assignment]
    detector = NegRefine(encoder, max_words=max_words)
    _ = encoder.fingerprint
    first, first_clock, _ = seconds(lambda: detector.fit(names))
    n_texts = sum(map(len, batches))
    alone, _, _ = seconds(lambda: [encode(texts) for texts in batches])
    batches.clear()
    second, second_clock, _ = seconds(lambda: NegRefine(encoder, max_words=max_words).fit(names))
    if batches:
        raise RuntimeError("the second fit encoded texts")
    print(f"{encoder_name}, {len(names)} classes, {n_texts:,} texts (CPU s, s on the clock)")
    print(f"  first fit            {first:8.2f} {first_clock:8.2f}")
    print(f"  its encoder alone    {alone:8.2f}           {alone / first:6.1%} of the first fit")
    print(
        f"  second fit           {second:8.2f} {second_clock:8.2f}  {first / second:6.1f} x faster"
    )


def judge(names: list[str]) -> None:
    """Time the WordNet judge on as many questions as NegFilter asks for ImageNet."""
    lexicon = Lexicon.wordnet().select("official-csp")
    pool = candidate_pool(lexicon, names, MiningRule(), seed=0)
    words = [label.text for label in pool[::7]]
    rng = np.random.default_rng(0)
    pairs = [(word, names[k]) for word in words for k in rng.choice(len(names), 9, replace=False)]
    asked = WordNetJudge()

    def quick() -> tuple[list[Answer], list[Answer]]:
        return asked.is_proper_noun(words), asked.is_subcategory(pairs)

    plain_judge = WordNetJudge()
    busy, clock, (_, answers) = seconds(quick)
    rules = plain_judge._subcategories
    plain, _, expected = seconds(lambda: [rules.answer(word, name) for word, name in pairs])
    if answers != expected:
        raise RuntimeError("the quick answers differ from those of trying every rule")
    n = len(words) + len(pairs)
    print(f"WordNet judge, {n:,} questions: {busy:.2f} CPU s, {clock:.2f} s on the clock; every")
    print(f"  rule for every pair: {plain:.2f} CPU s, the same answers")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default="builtin", metavar="ID_OR_DIR")
    parser.add_argument(
        "--max-words", type=int, default=4000, help="of the lexicon; 0 for all (minutes)"
    )
    args = parser.parse_args()
    many = list(dict.fromkeys(class_list("imagenet-1k")))
    judge(many)
    for names in (CLASSES, many):
        with tempfile.TemporaryDirectory() as folder:
            fits(args.encoder, args.max_words or None, names, Path(folder))


if __name__ == "__main__":
    main()
