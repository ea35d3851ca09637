"""Train the tokenizer: that of the other encoder, on this one's texts."""

from __future__ import annotations

from pathlib import Path

from texts import read_texts
from tokenizer import train

VOCABULARY, CONTEXT = 12285, 32


def main(work: Path) -> None:
    """Write the tokenizer to WORK/model."""
    texts = read_texts(work)
    # Frequent texts four times, so that most everyday words are one token.
    often = [text.text for text in texts if text.frequent]
    glosses = [text.gloss for text in texts if text.gloss][::2]
    train([text.text for text in texts] + 3 * often + glosses, VOCABULARY, CONTEXT, work / "model")
