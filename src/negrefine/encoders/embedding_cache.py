"""Prompt ensembles on disk, so that no text is encoded twice by the same model."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from negrefine.cache_directory import cache_directory
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError

# Below the number of parameters that any SQLite allows in one statement.
_TEXTS_PER_QUERY = 500
# Eviction goes below the limit, so that it does not run at every write.
_KEPT_SHARE = 0.8
_SCHEMA = """
CREATE TABLE IF NOT EXISTS spaces (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS embeddings (
    id INTEGER PRIMARY KEY,
    space INTEGER NOT NULL REFERENCES spaces (id),
    text TEXT NOT NULL,
    vector BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    used INTEGER NOT NULL,
    UNIQUE (space, text)
);
CREATE INDEX IF NOT EXISTS by_use ON embeddings (used);
"""
_T = TypeVar("_T")


class EmbeddingCache:
    """Embeddings by (space, text) in one SQLite file that several processes may share.

    A space is what else decides the numbers: the model, its precision and the prompt templates.
    After a first failure to read or write, which warns, the file is not used any more and
    embeddings are computed. At `max_bytes` the least recently used embeddings are removed.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, max_bytes: int = 4 << 30
    ) -> None:
        """Use a file, by default "embeddings.sqlite" in `cache_directory()`; nothing is opened."""
        self.path = cache_directory() / "embeddings.sqlite" if path is None else Path(path)
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._owner = 0
        self._usable = True

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles open the file for themselves."""
        return EmbeddingCache, (self.path, self.max_bytes)

    def get(self, space: str, texts: Sequence[str]) -> list[FloatArray | None]:
        """Return for each text its embedding, float32 (d,), or None."""
        found = self._try(lambda db: self._get(db, space, texts)) or {}
        return [found.get(text) for text in texts]

    def put(self, space: str, texts: Sequence[str], embeddings: FloatArray) -> None:
        """Store the embeddings, float32 (m, d), of m texts in one transaction."""
        self._try(lambda db: self._put(db, space, texts, embeddings))

    def _try(self, action: Callable[[sqlite3.Connection], _T]) -> _T | None:
        with self._lock:
            if not self._usable:
                return None
            try:
                return action(self._open())
            except (sqlite3.Error, OSError, UnicodeEncodeError) as error:
                self._usable = False
                warnings.warn(
                    f"The embedding cache {str(self.path)!r} cannot be used ({error}); texts are "
                    "encoded again. Check disk space and permissions, or delete the file.",
                    stacklevel=4,
                )
                return None

    def _open(self) -> sqlite3.Connection:
        # SQLite connections must not be carried over into a forked process.
        if self._db is None or self._owner != os.getpid():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(
                self.path, timeout=10.0, isolation_level="IMMEDIATE", check_same_thread=False
            )
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            db.execute("PRAGMA journal_mode = WAL")
            # A power cut may lose the last embeddings, which only costs computing them again.
            db.execute("PRAGMA synchronous = NORMAL")
            db.executescript(_SCHEMA)
            self._db, self._owner = db, os.getpid()
        return self._db

    def _get(
        self, db: sqlite3.Connection, space: str, texts: Sequence[str]
    ) -> dict[str, FloatArray]:
        found: dict[str, FloatArray] = {}
        today = _today()
        stale: list[tuple[int, int]] = []
        distinct = list(dict.fromkeys(texts))
        for start in range(0, len(distinct), _TEXTS_PER_QUERY):
            batch = distinct[start : start + _TEXTS_PER_QUERY]
            marks = ",".join("?" * len(batch))
            query = (
                "SELECT id, text, vector, checksum, used FROM embeddings "  # noqa: S608
                f"WHERE space = (SELECT id FROM spaces WHERE name = ?) AND text IN ({marks})"
            )
            for key, text, vector, checksum, used in db.execute(query, (space, *batch)):
                # SQLite does not notice a changed byte inside a row.
                if zlib.crc32(vector) == checksum:
                    found[text] = np.frombuffer(vector, dtype="<f4").astype(np.float32)
                    if used < today:
                        stale.append((today, key))
        if stale:
            # Eviction needs the day of the last use, no more.
            with db:
                db.executemany("UPDATE embeddings SET used = ? WHERE id = ?", stale)
        return found

    def _put(
        self, db: sqlite3.Connection, space: str, texts: Sequence[str], embeddings: FloatArray
    ) -> None:
        vectors = [row.astype("<f4").tobytes() for row in embeddings]
        if sum(map(len, vectors)) > self.max_bytes:
            return
        with db:
            db.execute("INSERT OR IGNORE INTO spaces (name) VALUES (?)", (space,))
            (key,) = db.execute("SELECT id FROM spaces WHERE name = ?", (space,)).fetchone()
            db.executemany(
                "INSERT OR REPLACE INTO embeddings (space, text, vector, checksum, used) "
                "VALUES (?, ?, ?, ?, ?)",
                [
                    (key, text, vector, zlib.crc32(vector), _today())
                    for text, vector in zip(texts, vectors, strict=True)
                ],
            )
        if _size(db) > self.max_bytes:
            self._evict(db)

    def _evict(self, db: sqlite3.Connection) -> None:
        while (size := _size(db)) > _KEPT_SHARE * self.max_bytes:
            (n,) = db.execute("SELECT COUNT(*) FROM embeddings").fetchone()
            if not n:
                return
            # A page is freed only when all its rows are gone, so the share is a first guess.
            share = max(0.05, 1 - _KEPT_SHARE * self.max_bytes / size)
            with db:
                db.execute(
                    "DELETE FROM embeddings WHERE id IN "
                    "(SELECT id FROM embeddings ORDER BY used, id LIMIT ?)",
                    (max(1, int(n * share)),),
                )
            db.execute("PRAGMA incremental_vacuum").fetchall()


def open_cache(setting: EmbeddingCache | str | os.PathLike[str] | bool) -> EmbeddingCache | None:
    """Return what `load_encoder`'s `cache` means: True for the default file, False for none."""
    if isinstance(setting, bool):
        try:
            return EmbeddingCache() if setting else None
        except InputError as error:
            warnings.warn(f"{error} No text embedding is kept.", stacklevel=3)
            return None
    return setting if isinstance(setting, EmbeddingCache) else EmbeddingCache(setting)


def _today() -> int:
    return int(time.time()) // 86_400


def _size(db: sqlite3.Connection) -> int:
    pragmas = "pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
    query = f"SELECT (page_count - freelist_count) * page_size FROM {pragmas}"  # noqa: S608
    return int(db.execute(query).fetchone()[0])
