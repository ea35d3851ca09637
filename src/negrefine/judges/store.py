"""One SQLite file that holds every answer a language model has given."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from negrefine.cache_directory import cache_directory
from negrefine.errors import InputError
from negrefine.judges.base import Answer, Query, Usage

FILE_NAME = "answers.sqlite"
# Another process that writes at the same time holds the file for milliseconds.
_BUSY_SECONDS = 60.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS judges (
    id INTEGER PRIMARY KEY,
    identity TEXT NOT NULL UNIQUE
);
CREATE TABLE IF NOT EXISTS answers (
    id INTEGER PRIMARY KEY,
    judge INTEGER NOT NULL REFERENCES judges (id),
    word TEXT NOT NULL,
    class_names TEXT NOT NULL,
    yes INTEGER,
    reason TEXT NOT NULL,
    confidence REAL,
    UNIQUE (judge, word, class_names)
);
"""


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """One line of the store: who answered what."""

    identity: str
    query: Query
    answer: Answer


@dataclass(frozen=True, slots=True)
class JudgeCounts:
    """What the store holds of one judge."""

    identity: str
    proper_noun: int
    subcategory: int
    yes: int
    no: int
    undecided: int


class AnswerStore:
    """Answers by (judge identity, question), safe for several processes and for SIGKILL.

    The file is SQLite in WAL mode. Every batch of answers is one transaction that is on the disk
    when `put` returns.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Open the file, or make it.

        Args:
            path: The file; by default "answers.sqlite" in `cache_directory()`.

        Raises:
            InputError: The file cannot be made, or is something else than an answer store.
        """
        self.path = cache_directory() / FILE_NAME if path is None else Path(path)
        self._lock = threading.Lock()
        with self._explain_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._db.execute("PRAGMA journal_mode = WAL")
            # FULL: a power cut after `put` loses nothing; NORMAL might lose the last answers.
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def get(self, identity: str, queries: Sequence[Query]) -> dict[int, Answer]:
        """Return the answers that are stored, by position in `queries`."""
        found: dict[int, Answer] = {}
        with self._lock, self._explain_errors():
            judge = self._judge_id(identity)
            if judge is None:
                return found
            for position, query in enumerate(queries):
                row = self._db.execute(
                    "SELECT yes, reason, confidence FROM answers "
                    "WHERE judge = ? AND word = ? AND class_names = ?",
                    (judge, query.word, _key(query.class_names)),
                ).fetchone()
                if row is not None:
                    found[position] = _answer(*row)
        return found

    def put(self, identity: str, answers: Iterable[tuple[Query, Answer]]) -> int:
        """Store answers in one transaction; what is stored already stays as it is.

        Returns:
            How many were new.
        """
        with self._lock, self._explain_errors(), self._transaction():
            self._db.execute("INSERT OR IGNORE INTO judges (identity) VALUES (?)", (identity,))
            judge = self._judge_id(identity)
            before = self._db.total_changes
            self._db.executemany(
                "INSERT OR IGNORE INTO answers "
                "(judge, word, class_names, yes, reason, confidence) VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (judge, query.word, _key(query.class_names), *_columns(answer))
                    for query, answer in answers
                ],
            )
            return self._db.total_changes - before

    def __iter__(self) -> Iterator[StoredAnswer]:
        """Yield everything, judge by judge in the order of their identities, oldest first."""
        with self._lock, self._explain_errors():
            rows = self._db.execute(
                "SELECT identity, word, class_names, yes, reason, confidence FROM answers "
                "JOIN judges ON judges.id = answers.judge ORDER BY identity, answers.id"
            ).fetchall()
        for identity, word, names, *columns in rows:
            yield StoredAnswer(identity, Query(word, tuple(json.loads(names))), _answer(*columns))

    def counts(self) -> list[JudgeCounts]:
        """Return what is stored of each judge, by identity."""
        with self._lock, self._explain_errors():
            rows = self._db.execute(
                "SELECT identity, SUM(class_names = '[]'), SUM(class_names != '[]'), "
                "SUM(yes IS 1), SUM(yes IS 0), SUM(yes IS NULL) FROM answers "
                "JOIN judges ON judges.id = answers.judge GROUP BY identity ORDER BY identity"
            ).fetchall()
        return [JudgeCounts(*row) for row in rows]

    def _judge_id(self, identity: str) -> int | None:
        row = self._db.execute("SELECT id FROM judges WHERE identity = ?", (identity,)).fetchone()
        return None if row is None else int(row[0])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise InputError(
                f"The answer store {str(self.path)!r} cannot be used ({error}): check that its "
                "folder can be written to and has room, or choose another file."
            ) from error
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{str(self.path)!r} is damaged or no answer store ({error}): move it away, or "
                "choose another file."
            ) from error
        except OSError as error:
            raise InputError(
                f"The answer store {str(self.path)!r} cannot be made: {error.strerror}."
            ) from error


def answer_through_store(
    store: AnswerStore | None,
    identity: str,
    queries: Sequence[Query],
    ask: Callable[[Sequence[Query]], Iterator[list[tuple[int, Answer]]]],
    usage: Usage,
) -> Iterator[list[tuple[int, Answer]]]:
    """Yield (position, answer): stored ones first, then those of `ask`, stored as they arrive.

    Equal queries are asked once.

    Args:
        store: None asks everything and stores nothing.
        identity: Of the judge.
        queries: The questions.
        ask: Given distinct questions, yields lists of (position in them, answer).
        usage: `cached` grows by the answers that were stored before; counting `asked` is up to
            `ask`.
    """
    known = {} if store is None else store.get(identity, queries)
    usage.cached += len(known)
    if known:
        yield sorted(known.items())
    positions: dict[Query, list[int]] = {}
    for position, query in enumerate(queries):
        if position not in known:
            positions.setdefault(query, []).append(position)
    missing = list(positions)
    for batch in ask(missing) if missing else ():
        if store is not None:
            store.put(identity, [(missing[i], answer) for i, answer in batch])
        yield [(position, answer) for i, answer in batch for position in positions[missing[i]]]


def _key(class_names: Sequence[str]) -> str:
    return json.dumps(list(class_names), ensure_ascii=False)


def _columns(answer: Answer) -> tuple[int | None, str, float | None]:
    return (None if answer.yes is None else int(answer.yes), answer.reason, answer.confidence)


def _answer(yes: int | None, reason: str, confidence: float | None) -> Answer:
    return Answer(None if yes is None else bool(yes), reason, confidence)


def open_store(setting: AnswerStore | str | os.PathLike[str] | None) -> AnswerStore | None:
    """Return what a judge's `store` means: a store, a file, "default", or None for nowhere."""
    if setting is None or isinstance(setting, AnswerStore):
        return setting
    return AnswerStore(None if setting == "default" else setting)
