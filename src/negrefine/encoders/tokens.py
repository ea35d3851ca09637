"""From strings to token ids."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Sequence

from tokenizers import Tokenizer

from negrefine.errors import InputError


def clean_text(text: str) -> str:
    """Repair and normalise `text` as OpenAI's CLIP tokenizer does before lower-casing it.

    Mojibake is repaired (ftfy), HTML entities are unescaped twice, runs of white space become one
    space.
    """
    if not (text.isascii() and text.isprintable() and "&" not in text):
        import ftfy

        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())


class TextTokenizer:
    """Token ids with start and end tokens, never longer than the model's context.

    The post-processor of `tokenizer`, a `tokenizers.Tokenizer`, adds the start and end tokens, and
    `clean` prepares a text for it. A text of more than `context_length` tokens raises `InputError`;
    `truncate` cuts it before its end tokens instead, with one warning per tokenizer.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        context_length: int,
        *,
        truncate: bool,
        clean: Callable[[str], str] = clean_text,
    ) -> None:
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._clean = clean
        self.context_length = context_length
        self.truncate = truncate
        self._warned = False
        marks = self._tokenizer.encode("a").special_tokens_mask
        self._n_end = marks[::-1].index(0) if 0 in marks else 0

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text, start and end tokens included."""
        for text in texts:
            if not isinstance(text, str):
                raise InputError(f"A text is {text!r}, a {type(text).__name__}: give strings.")
        encodings = self._tokenizer.encode_batch_fast([self._clean(text) for text in texts])
        return [
            self._fit(encoding.ids, text) for encoding, text in zip(encodings, texts, strict=True)
        ]

    def _fit(self, ids: list[int], text: str) -> list[int]:
        if len(ids) <= self.context_length:
            return ids
        shown = text if len(text) <= 60 else text[:57] + "..."
        fact = (
            f"the text {shown!r} has {len(ids)} tokens and the encoder reads "
            f"at most {self.context_length}"
        )
        if not self.truncate:
            raise InputError(
                f"{fact}: shorten it, or load the encoder with truncate=True to cut such texts."
            )
        if not self._warned:
            self._warned = True
            warnings.warn(f"{fact}: it and other long texts are cut.", stacklevel=4)
        end = len(ids) - self._n_end
        return [*ids[: self.context_length - self._n_end], *ids[end:]]
