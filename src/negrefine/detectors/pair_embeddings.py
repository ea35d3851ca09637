"""Embeddings of "class and negative" pairs, encoded once for a batch and remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negrefine.encoders.base import Encoder, FloatArray
from negrefine.labels.embedding import embed_counted

# Rows by which the memory grows.
_GROWTH = 4096


@dataclass(frozen=True, slots=True)
class PairLookups:
    """How often images asked for the embedding of a pair, and where it came from.

    Attributes:
        asked: Look-ups, k x k for each image.
        encoded: Texts of pairs that went through the text encoder.
        from_disk: Texts of pairs that were found in the encoder's cache on disk.
    """

    asked: int = 0
    encoded: int = 0
    from_disk: int = 0

    def __add__(self, other: PairLookups) -> PairLookups:
        """Return the counts of both."""
        return PairLookups(
            self.asked + other.asked,
            self.encoded + other.encoded,
            self.from_disk + other.from_disk,
        )

    def __sub__(self, before: PairLookups) -> PairLookups:
        """Return what was counted since."""
        return PairLookups(
            self.asked - before.asked,
            self.encoded - before.encoded,
            self.from_disk - before.from_disk,
        )

    @property
    def from_memory(self) -> int:
        """Look-ups that needed neither, because the pair had been looked up or kept before."""
        return self.asked - self.encoded - self.from_disk

    @property
    def hit_rate(self) -> float:
        """The share of look-ups that encoded nothing; NaN if nothing was asked."""
        return 1 - self.encoded / self.asked if self.asked else float("nan")


class PairEmbeddings:
    """Prompt ensembles of pair texts, with a memory of the `max_pairs` used last.

    A pair is identified by one code, made of the numbers that its class name and its negative label
    got when they were first seen; equal texts have equal numbers. The templates are those of nouns,
    for adjective phrases too, as published.

    Attributes:
        lookups: What was asked for so far.
    """

    def __init__(self, encoder: Encoder, templates: Sequence[str], max_pairs: int) -> None:
        self._encoder = encoder
        self._templates = templates
        self._max_pairs = max_pairs
        self._numbers: dict[str, int] = {}
        # Known codes in order, and for each the row of `_rows` that holds its embedding.
        self._codes = np.empty(0, dtype=np.int64)
        self._slots = np.empty(0, dtype=np.int64)
        # When each known code was used last, in calls.
        self._used = np.empty(0, dtype=np.int64)
        # How many images have asked for each known code.
        self._asked = np.empty(0, dtype=np.int64)
        self._calls = 0
        self._rows: FloatArray = np.empty((0, 0), dtype=np.float32)
        self.lookups = PairLookups()

    def __len__(self) -> int:
        """Return how many pairs are remembered."""
        return len(self._codes)

    def numbers(self, texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the numbers of class names or negative labels, int64 (len(texts),)."""
        known = self._numbers
        return np.array([known.setdefault(text, len(known)) for text in texts], dtype=np.int64)

    def __call__(
        self,
        codes: NDArray[np.int64],
        text_of: Callable[[int], str],
        times: NDArray[np.int64] | None = None,
    ) -> tuple[FloatArray, NDArray[np.int64]]:
        """Embed m pairs given by `pair_codes`; only those that are not remembered are encoded.

        Returns a float32 matrix (r, d) of rows of length one, valid until the next call, and int64
        (m,), the row of each pair in it. `text_of` is called only for pairs to encode. `times`
        (m,) says how many images ask for each pair; one each if it is left out.
        """
        self._calls += 1
        if times is None:
            times = np.ones(len(codes), dtype=np.int64)
        at, known = self._find(codes)
        self._used[at[known]] = self._calls
        np.add.at(self._asked, at[known], times[known])
        if len(codes) and known.all():
            self.lookups += PairLookups(int(times.sum()))
            return self._rows, self._slots[at]
        new = np.flatnonzero(~known)
        texts = [text_of(i) for i in new.tolist()]
        # Codes of a batch repeat where class names do; codes share a text where labels overlap.
        row_of = {text: row for row, text in enumerate(dict.fromkeys(texts))}
        fresh, n_encoded = embed_counted(self._encoder, list(row_of), self._templates)
        self.lookups += PairLookups(int(times.sum()), n_encoded, len(row_of) - n_encoded)
        row = np.array([row_of[text] for text in texts], dtype=np.int64)
        old = self._rows[self._slots[at[known]]].reshape(-1, fresh.shape[1])
        table = np.concatenate([old, fresh])
        position = np.empty(len(codes), dtype=np.int64)
        position[known] = np.arange(known.sum())
        position[new] = known.sum() + row
        new_codes, first, of = np.unique(codes[new], return_index=True, return_inverse=True)
        asked = np.zeros(len(new_codes), dtype=np.int64)
        np.add.at(asked, of, times[new])
        self._remember(new_codes, fresh[row[first]], asked)
        return table, position

    def known(self) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
        """Return the codes of remembered pairs, how many images asked for each, and their rows.

        int64 (m,), in order, int64 (m,) and float32 (m, d).
        """
        return self._codes, self._asked, self._rows[self._slots]

    def remember(
        self, codes: NDArray[np.int64], rows: FloatArray, asked: NDArray[np.int64]
    ) -> None:
        """Take up embeddings (m, d) of different pairs, and how many images asked for them (m,).

        If there are too many, the first ones are taken.
        """
        order = np.argsort(codes[: self._max_pairs])
        _, known = self._find(codes[order])
        new = order[~known]
        self._remember(codes[new], rows[new], asked[new])

    def _find(self, codes: NDArray[np.int64]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Return the index in `_codes` of each code, and whether it is there at all."""
        if not len(self._codes):
            return np.zeros(len(codes), dtype=np.intp), np.zeros(len(codes), dtype=np.bool_)
        at = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        return at, self._codes[at] == codes

    def _remember(
        self, codes: NDArray[np.int64], rows: FloatArray, asked: NDArray[np.int64]
    ) -> None:
        """Store rows of new codes, which are in order, in place of those used longest ago."""
        kept = slice(self._max_pairs)
        codes, rows, asked = codes[kept], rows[kept], asked[kept]
        if not len(codes):
            return
        excess = len(self._codes) + len(codes) - self._max_pairs
        slots = np.arange(len(self._codes), min(len(self._codes) + len(codes), self._max_pairs))
        if excess > 0:
            oldest = np.argsort(self._used, kind="stable")[:excess]
            slots = np.concatenate([self._slots[oldest], slots])
            self._codes = np.delete(self._codes, oldest)
            self._slots = np.delete(self._slots, oldest)
            self._used = np.delete(self._used, oldest)
            self._asked = np.delete(self._asked, oldest)
        self._grow(int(slots.max(initial=-1)) + 1, rows.shape[1])
        self._rows[slots] = rows
        at = np.searchsorted(self._codes, codes)
        self._codes = np.insert(self._codes, at, codes)
        self._slots = np.insert(self._slots, at, slots)
        self._used = np.insert(self._used, at, self._calls)
        self._asked = np.insert(self._asked, at, asked)

    def _grow(self, n_rows: int, dim: int) -> None:
        """Make room for n rows, and for at least half as many again so that copies stay few."""
        if n_rows <= len(self._rows):
            return
        room = max(n_rows, len(self._rows) * 3 // 2, len(self._rows) + _GROWTH)
        grown = np.empty((min(room, self._max_pairs), dim), dtype=np.float32)
        grown[: len(self._rows)] = self._rows.reshape(-1, dim)
        self._rows = grown
