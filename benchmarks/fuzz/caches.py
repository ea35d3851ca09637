"""Damaged embedding caches: whatever is in the file, embeddings are right and nothing fails.

    python benchmarks/fuzz/caches.py [--count 300] [--seed 0]

Each case copies a cache that is full of embeddings, damages the copy in one way, and embeds texts
that are in there and others, twice. Prints how the cases ended and exits with 1 if an embedding was
wrong or anything but a warning came of it. The same seed makes the same cases.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from negrefine import load_encoder
from negrefine.encoders import CLIPEncoder
from negrefine.encoders.base import FloatArray
from negrefine.encoders.embedding_cache import EmbeddingCache
from negrefine.labels.embedding import embed, ensemble

WORDS = [
    f"{kind} {thing}" for kind in ("red", "old", "wet") for thing in ["cat", "bat", "hat", "dog"]
]
STORED, TEMPLATES = [*["cat", "bat", "dog", "fog"], *WORDS], (("{}",), ("a photo of {}", "{}"))
ASKED = ["hat", *STORED]

Generator = np.random.Generator
Damage = Callable[[Path, Generator], None]


def flip_bits(file: Path, rng: Generator) -> None:
    """Flip up to sixteen bits anywhere."""
    content = bytearray(file.read_bytes())
    for place in rng.integers(len(content), size=rng.integers(1, 17)):
        content[place] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)


def flip_in_page(file: Path, rng: Generator) -> None:
    """Flip four bits at the head of one page, where its structure is."""
    content = bytearray(file.read_bytes())
    start = int(rng.integers(len(content) // 4096)) * 4096
    for place in rng.integers(108, size=4):
        content[start + place] ^= 1 << int(rng.integers(8))
    file.write_bytes(content)


def change_text(file: Path, rng: Generator) -> None:
    """Change letters of stored texts, in the table or an index, to those of another text."""
    content = bytearray(file.read_bytes())
    places = [i for i in range(len(content) - 2) if content[i : i + 3] in (b"cat", b"dog")]
    for place in rng.choice(places, size=4):
        content[place] ^= ord("c") ^ ord("b") if content[place] == ord("c") else 2
    file.write_bytes(content)


def truncate(file: Path, rng: Generator) -> None:
    """Cut the file off, perhaps to nothing."""
    content = file.read_bytes()
    file.write_bytes(content[: int(rng.choice([0, 10, 90, 600, rng.integers(len(content))]))])


def fill(file: Path, rng: Generator) -> None:
    """Overwrite a stretch with zeros or noise, perhaps the whole file."""
    content = bytearray(file.read_bytes())
    start, length = (int(n) for n in rng.integers(len(content), size=2))
    if rng.random() < 0.3:
        start, length = 0, len(content)
    stretch = bytes(length) if rng.random() < 0.5 else rng.bytes(length)
    content[start : start + length] = stretch
    file.write_bytes(content)


def swap_pages(file: Path, rng: Generator) -> None:
    """Exchange two pages."""
    content = bytearray(file.read_bytes())
    first, second = (
        slice(i * 4096, (i + 1) * 4096) for i in rng.integers(len(content) // 4096, size=2)
    )
    content[first], content[second] = content[second], content[first]
    file.write_bytes(content)


STATEMENTS = [
    "UPDATE embeddings SET vector = 'abc'",
    "UPDATE embeddings SET vector = 5, used = 'x'",
    "UPDATE embeddings SET used = 'x'",
    "UPDATE embeddings SET used = 9e9",
    "UPDATE embeddings SET checksum = 'x'",
    "UPDATE embeddings SET checksum = checksum + 1 WHERE id % 2",
    "UPDATE embeddings SET vector = substr(vector, 1, 7)",
    "UPDATE embeddings SET vector = x''",
    "UPDATE embeddings SET vector = vector || vector",
    "UPDATE embeddings SET vector = zeroblob(length(vector))",
    "UPDATE embeddings SET text = CAST(text AS BLOB)",
    "UPDATE embeddings SET text = CAST(x'ff' || text AS TEXT)",
    "UPDATE embeddings SET space = 'x'",
    # Rows of another text, and of another space.
    "UPDATE embeddings SET vector = (SELECT vector FROM embeddings ORDER BY text LIMIT 1)",
    "UPDATE embeddings AS a SET vector = b.vector, checksum = b.checksum FROM embeddings AS b "
    "WHERE b.text = a.text AND b.space != a.space",
    "UPDATE spaces SET id = 3 - id + 10; UPDATE spaces SET id = id - 10",
    "DROP TABLE spaces",
    "DROP TABLE embeddings",
    "ALTER TABLE embeddings RENAME COLUMN vector TO vektor",
    "ALTER TABLE embeddings DROP COLUMN vector",
    "CREATE TRIGGER t AFTER UPDATE ON embeddings BEGIN DELETE FROM embeddings; END",
    "PRAGMA user_version = 1",
    "PRAGMA user_version = 99",
    "PRAGMA application_id = 0",
    "PRAGMA application_id = 7",
]


def change_rows(file: Path, rng: Generator) -> None:
    """Change values, tables or marks by SQL."""
    with closing(sqlite3.connect(file)) as db:
        # ALTER and DROP are refused where an index needs the column.
        db.execute("DROP INDEX by_use")
        try:
            db.executescript(STATEMENTS[int(rng.integers(len(STATEMENTS)))])
        except sqlite3.IntegrityError:
            db.executescript("UPDATE embeddings SET used = 0")


DAMAGES: Sequence[Damage] = (
    flip_bits, flip_in_page, change_text, truncate, fill, swap_pages, change_rows, change_rows
)  # fmt: skip


class CacheFuzz:
    """Makes and judges cases in a folder.

    Attributes:
        folder: An empty folder.
        seed: Decides all cases.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.encoder: CLIPEncoder = load_encoder("builtin", device="cpu", cache=False)
        self.expected = [ensemble(self.encoder.encode_texts, ASKED, each) for each in TEMPLATES]
        self.whole = folder / "whole.sqlite"
        self.encoder.text_cache = EmbeddingCache(self.whole)
        for templates in TEMPLATES:
            embed(self.encoder, STORED, templates)
        # From the log of changes into the file.
        with closing(sqlite3.connect(self.whole)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def run(self, number: int) -> str:
        """Return how a case ended, beginning with "WRONG" or "CRASH" where it must not."""
        rng = np.random.default_rng([self.seed, number])
        damage = DAMAGES[number % len(DAMAGES)]
        file = self.folder / f"{number}.sqlite"
        file.write_bytes(self.whole.read_bytes())
        damage(file, rng)
        messages: list[str] = []
        try:
            for _ in range(2):
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always")
                    right = self._embeds_rightly(EmbeddingCache(file))
                messages += [str(each.message) for each in caught]
                if not right:
                    return f"WRONG after {damage.__name__}"
        except Exception as error:
            return f"CRASH after {damage.__name__}: {error!r}"
        finally:
            for each in self.folder.glob(f"{file.name}*"):
                each.unlink()
        if any("begun anew" in message for message in messages):
            return "begun anew"
        if any("earlier version" in message for message in messages):
            return "emptied"
        return "not used" if messages else "used"

    def _embeds_rightly(self, cache: EmbeddingCache) -> bool:
        self.encoder.text_cache = cache
        found: list[FloatArray] = [embed(self.encoder, ASKED, each) for each in TEMPLATES]
        return all(
            np.allclose(row, right, atol=1e-5)
            for row, right in zip(found, self.expected, strict=True)
        )


def main() -> int:
    """Run the cases and print how they ended."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fuzz = CacheFuzz(Path(folder), options.seed)
        ends = Counter(fuzz.run(number) for number in range(options.count))
    for end, n in sorted(ends.items()):
        print(f"{n:6} {end}")
    return int(any(end.startswith(("WRONG", "CRASH")) for end in ends))


if __name__ == "__main__":
    sys.exit(main())
