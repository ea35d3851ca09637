"""Train the tokenizer: byte-level BPE to begin with, then whole words by how much they matter."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from texts import read_texts, teacher_words
from tokenizer import train

VOCABULARY, CONTEXT = 20480, 32
_PIECES = 7000
"""Tokens of the BPE that rare words are made of."""
_WORD = re.compile(r"[a-z]+")


def main(work: Path) -> None:
    """Write the tokenizer to WORK/model."""
    texts = read_texts(work)
    glosses = [text.gloss for text in texts if text.gloss][::2]
    lines = [text.text for text in texts for _ in range(text.weight)]
    train(lines + glosses, _PIECES, VOCABULARY, CONTEXT, work / "model", _whole_words(work))


def _whole_words(work: Path) -> Sequence[str]:
    """Return the words that become one token, first the most important: as many as there is room.

    Words of ImageNet's and the benchmarks' names, then those of the sentence encoder's vocabulary
    that WordNet has, the most frequent first, then the others that occur in WordNet's corpus.
    """
    texts = read_texts(work)
    names = [word for text in texts if text.weight == 8 for word in _WORD.findall(text.text)]
    known = {text.text for text in texts if text.weight > 1}
    frequent = [word for word in teacher_words(work) if word in known]
    counted = [text.text for text in texts if text.weight > 1 and _WORD.fullmatch(text.text)]
    return list(dict.fromkeys([*names, *frequent, *counted]))
