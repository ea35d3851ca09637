"""Prompt ensembles on disk, so that no text is encoded twice by the same model."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError
from negrefine.files.cache_directory import cache_directory, expanded
from negrefine.files.sqlite import OtherFileError, SQLiteFile, checksum

# Below the number of parameters that any SQLite allows in one statement.
_TEXTS_PER_QUERY = 500
# How the numbers of a vector are stored.
_STORED = np.dtype("<f4")
# Eviction goes below the limit, so that it does not run at every write.
_KEPT_SHARE = 0.8
_COLUMNS = {
    "spaces": ["id", "name"],
    "embeddings": ["id", "space", "text", "vector", "checksum", "used"],
}


def _empty(db: sqlite3.Connection) -> None:
    """Remove embeddings of the first version, whose checksums said nothing of texts and spaces."""
    if db.execute("DELETE FROM embeddings").rowcount:
        (path,) = db.execute("SELECT file FROM pragma_database_list").fetchone()
        warnings.warn(
            f"The embeddings in {path!r} are of an earlier version of negrefine, which did not "
            "check them well enough: they are removed, and texts are encoded again.",
            stacklevel=2,
        )


_FILE = SQLiteFile(
    mark=int.from_bytes(b"NrEm", "big"),
    version=2,
    tables=(
        "CREATE TABLE spaces (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
        "CREATE TABLE embeddings (id INTEGER PRIMARY KEY, "
        "space INTEGER NOT NULL REFERENCES spaces (id), text TEXT NOT NULL, vector BLOB NOT NULL, "
        "checksum INTEGER NOT NULL, used INTEGER NOT NULL, UNIQUE (space, text))",
        "CREATE INDEX by_use ON embeddings (used)",
    ),
    columns=_COLUMNS,
    first_columns=_COLUMNS,
    upgrade=_empty,
)
_FAILURES = (sqlite3.Error, OSError, OtherFileError, UnicodeEncodeError)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StoredSpace:
    """What is stored of one space.

    Attributes:
        name: The space; its first word is the fingerprint of the encoder.
        dim: d of its embeddings.
        n: Their number.
        used: When one of them was last used, in days since 1970.
    """

    name: str
    dim: int
    n: int
    used: int


class EmbeddingCache:
    """Embeddings by (space, text) in one SQLite file that several processes may share.

    A space is what else decides the numbers: the model, its precision and the prompt templates.
    Every row has a checksum; one that does not fit is no embedding. A damaged file is begun anew,
    with a warning. After another failure to read or write, which warns too, the file is not used
    any more. A file of another program is never changed. At `max_bytes` the least recently used
    embeddings are removed.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = None, max_bytes: int = 4 << 30
    ) -> None:
        """Use a file, by default "embeddings.sqlite" in `cache_directory()`; nothing is opened.

        Raises InputError if there is no home directory for the default or for "~".
        """
        self.path = cache_directory() / "embeddings.sqlite" if path is None else expanded(path)
        self.max_bytes = max_bytes
        self._is_default = path is None
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._owner = 0
        self._usable = True

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles open the file for themselves."""
        return EmbeddingCache, (None if self._is_default else self.path, self.max_bytes)

    def get(self, space: str, texts: Sequence[str]) -> list[FloatArray | None]:
        """Return for each text its embedding, float32 (d,), or None."""
        found = self._try(lambda db: self._get(db, space, texts)) or {}
        vectors = map(found.get, texts)
        return [
            None if v is None else np.frombuffer(v, _STORED).astype(np.float32) for v in vectors
        ]

    def rows(
        self, space: str, texts: Sequence[str], dim: int
    ) -> tuple[FloatArray, NDArray[np.bool_]]:
        """Return float32 (m, dim), and for each of m texts whether its row is an embedding."""
        found = self._try(lambda db: self._get(db, space, texts)) or {}
        size = dim * _STORED.itemsize
        known = [i for i, text in enumerate(texts) if len(found.get(text, b"")) == size]
        content = b"".join([found[texts[i]] for i in known])
        rows = np.zeros((len(texts), dim), dtype=np.float32)
        rows[known] = np.frombuffer(content, _STORED).reshape(-1, dim)
        mask = np.zeros(len(texts), dtype=np.bool_)
        mask[known] = True
        return rows, mask

    def put(self, space: str, texts: Sequence[str], embeddings: FloatArray) -> bool:
        """Store the embeddings, float32 (m, d), of m texts in one transaction.

        Returns False if they are too many for the bound, or the file cannot be used.
        """
        return bool(self._try(lambda db: self._put(db, space, texts, embeddings)))

    def spaces(self) -> list[StoredSpace]:
        """Return what is stored of each space and dimension, in the order of their names."""
        return self._try(_spaces) or []

    def stored(self, space: StoredSpace) -> tuple[list[str], FloatArray]:
        """Return the n texts of a space in their order, and their embeddings, float32 (n, d).

        Rows whose checksums are wrong are left out.
        """
        rows = self._try(lambda db: _stored(db, space)) or []
        vectors = b"".join([vector for _, vector in rows])
        array = np.frombuffer(vectors, _STORED).reshape(-1, space.dim).astype(np.float32)
        return [text for text, _ in rows], array

    def _try(self, action: Callable[[sqlite3.Connection], _T]) -> _T | None:
        with self._lock:
            try:
                return action(self._open()) if self._usable else None
            except _FAILURES as error:
                failure = error
            self._close()
            try:
                if self._begin_anew(failure):
                    return action(self._open())
            except _FAILURES as error:
                failure = error
            self._close()
            self._usable = False
            warnings.warn(
                f"The embedding cache {str(self.path)!r} cannot be used ({failure}); texts are "
                "encoded again. Check disk space and permissions, delete the file if it is "
                "negrefine's, or choose another.",
                stacklevel=4,
            )
            return None

    def _open(self) -> sqlite3.Connection:
        # SQLite connections must not be carried over into a forked process.
        if self._db is None or self._owner != os.getpid():
            # A power cut may lose the last embeddings, which only costs computing them again.
            self._db = _FILE.open(self.path, timeout=10.0, synchronous="NORMAL")
            self._owner = os.getpid()
        return self._db

    def _close(self) -> None:
        if self._db is not None and self._owner == os.getpid():
            self._db.close()
        self._db = None

    def _begin_anew(self, failure: Exception) -> bool:
        """Remove the file, with a warning, if it is damaged and was an embedding cache."""
        if not (
            isinstance(failure, sqlite3.Error)
            and _FILE.is_damaged(self.path)
            # What stands in the default place is negrefine's, however little is left of it.
            and (self._is_default or _FILE.bears_mark(self.path))
        ):
            return False
        # Where another process does the same at this moment, what it writes may be lost.
        for suffix in ("-wal", "-shm", ""):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        warnings.warn(
            f"The embedding cache {str(self.path)!r} was damaged ({failure}) and is begun anew; "
            "texts are encoded again.",
            stacklevel=5,
        )
        return True

    def _get(self, db: sqlite3.Connection, space: str, texts: Sequence[str]) -> dict[str, bytes]:
        """Return the vectors whose checksums are right, as they are stored."""
        found: dict[str, bytes] = {}
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
            for key, text, vector, check, used in db.execute(query, (space, *batch)):
                # SQLite does not notice a changed byte inside a row or its index.
                if isinstance(vector, bytes) and check == embedding_checksum(space, text, vector):
                    found[text] = vector
                    if used != today:
                        stale.append((today, key))
        if stale:
            # Eviction needs the day of the last use, no more.
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.executemany("UPDATE embeddings SET used = ? WHERE id = ?", stale)
        return found

    def _put(
        self, db: sqlite3.Connection, space: str, texts: Sequence[str], embeddings: FloatArray
    ) -> bool:
        vectors = [row.tobytes() for row in embeddings.astype(_STORED)]
        if sum(map(len, vectors)) > self.max_bytes:
            return False
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.execute("INSERT OR IGNORE INTO spaces (name) VALUES (?)", (space,))
            db.executemany(
                "INSERT OR REPLACE INTO embeddings (space, text, vector, checksum, used) "
                "VALUES ((SELECT id FROM spaces WHERE name = ?), ?, ?, ?, ?)",
                [
                    (space, text, vector, embedding_checksum(space, text, vector), _today())
                    for text, vector in zip(texts, vectors, strict=True)
                ],
            )
        if _size(db) > self.max_bytes:
            self._evict(db)
        return True

    def _evict(self, db: sqlite3.Connection) -> None:
        while (size := _size(db)) > _KEPT_SHARE * self.max_bytes:
            (n,) = db.execute("SELECT COUNT(*) FROM embeddings").fetchone()
            if not n:
                return
            # A page is freed only when all its rows are gone, so the share is a first guess.
            share = max(0.05, 1 - _KEPT_SHARE * self.max_bytes / size)
            with db:
                db.execute("BEGIN IMMEDIATE")
                db.execute(
                    "DELETE FROM embeddings WHERE id IN "
                    "(SELECT id FROM embeddings ORDER BY used, id LIMIT ?)",
                    (max(1, int(n * share)),),
                )
            db.execute("PRAGMA incremental_vacuum").fetchall()


def open_cache(setting: EmbeddingCache | str | os.PathLike[str] | bool) -> EmbeddingCache | None:
    """Return what `load_encoder`'s `cache` means: True for the default file, False for none."""
    if isinstance(setting, EmbeddingCache):
        return setting
    try:
        return EmbeddingCache(None if setting is True else setting) if setting else None
    except InputError as error:
        warnings.warn(f"{error} No text embedding is kept.", stacklevel=3)
        return None


def _spaces(db: sqlite3.Connection) -> list[StoredSpace]:
    rows = db.execute(
        "SELECT name, length(vector) / ?, count(*), max(used) FROM embeddings "
        "JOIN spaces ON spaces.id = embeddings.space GROUP BY 1, 2 ORDER BY 1, 2",
        (_STORED.itemsize,),
    )
    return [StoredSpace(*row) for row in rows]


def _stored(db: sqlite3.Connection, space: StoredSpace) -> list[tuple[str, bytes]]:
    rows = db.execute(
        "SELECT text, vector, checksum FROM embeddings "
        "WHERE space = (SELECT id FROM spaces WHERE name = ?) AND length(vector) = ?",
        (space.name, space.dim * _STORED.itemsize),
    )
    return sorted(
        (text, vector)
        for text, vector, check in rows
        if isinstance(vector, bytes) and check == embedding_checksum(space.name, text, vector)
    )


def embedding_checksum(space: str, text: str, vector: bytes) -> int:
    """Return the checksum of a row, whose vector is float32 in little-endian order."""
    return checksum(f"{space}\0{text}\0", vector)


def _today() -> int:
    return int(time.time()) // 86_400


def _size(db: sqlite3.Connection) -> int:
    pragmas = "pragma_page_count(), pragma_freelist_count(), pragma_page_size()"
    query = f"SELECT (page_count - freelist_count) * page_size FROM {pragmas}"  # noqa: S608
    return int(db.execute(query).fetchone()[0])
