"""The SQLite file that keeps every answer of a language model; its exchange as JSON Lines."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from negrefine.cache_directory import cache_directory
from negrefine.errors import InputError
from negrefine.judges.base import Answer, Query
from negrefine.shown_text import json_text

# Another process that writes at the same time locks the file for milliseconds.
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
    """One answer with the question and the identity of the judge."""

    identity: str
    query: Query
    answer: Answer


@dataclass(frozen=True, slots=True)
class JudgeCounts:
    """Numbers of stored answers of one judge."""

    identity: str
    proper_noun: int
    subcategory: int
    yes: int
    no: int
    undecided: int


class AnswerStore:
    """Answers by (judge identity, question). Several processes may share the file.

    The file is SQLite in WAL mode. Every batch of answers is one transaction that is on the disk
    when `put` returns, so that a process that is killed loses no stored answer.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Open or create the file, by default "answers.sqlite" in `cache_directory()`.

        Raises InputError if it cannot be created or is not an answer store.
        """
        self.path = cache_directory() / "answers.sqlite" if path is None else Path(path)
        self._lock = threading.Lock()
        with self._session():
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
        """Return the stored answers by position in `queries`."""
        command = (
            "SELECT yes, reason, confidence FROM answers WHERE word = ? AND class_names = ? "
            "AND judge = (SELECT id FROM judges WHERE identity = ?)"
        )
        return {
            position: _answer(*row)
            for position, query in enumerate(queries)
            for row in self._select(command, query.word, _key(query.class_names), identity)
        }

    def put(self, identity: str, answers: Iterable[tuple[Query, Answer]]) -> int:
        """Store answers in one transaction without replacing any; return the number of new ones."""
        with self._session(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("INSERT OR IGNORE INTO judges (identity) VALUES (?)", (identity,))
            before = self._db.total_changes
            self._db.executemany(
                "INSERT OR IGNORE INTO answers "
                "(judge, word, class_names, yes, reason, confidence) "
                "VALUES ((SELECT id FROM judges WHERE identity = ?), ?, ?, ?, ?, ?)",
                [
                    (identity, query.word, _key(query.class_names), a.yes, a.reason, a.confidence)
                    for query, a in answers
                ],
            )
            return self._db.total_changes - before

    def __iter__(self) -> Iterator[StoredAnswer]:
        """Yield all answers, judge by judge in the order of their identities, oldest first."""
        rows = self._select(
            "SELECT identity, word, class_names, yes, reason, confidence FROM answers "
            "JOIN judges ON judges.id = answers.judge ORDER BY identity, answers.id"
        )
        for identity, word, names, *columns in rows:
            yield StoredAnswer(identity, Query(word, tuple(json.loads(names))), _answer(*columns))

    def counts(self) -> list[JudgeCounts]:
        """Return the numbers of answers of each judge, in the order of their identities."""
        rows = self._select(
            "SELECT identity, SUM(class_names = '[]'), SUM(class_names != '[]'), "
            "SUM(yes IS 1), SUM(yes IS 0), SUM(yes IS NULL) FROM answers "
            "JOIN judges ON judges.id = answers.judge GROUP BY identity ORDER BY identity"
        )
        return [JudgeCounts(*row) for row in rows]

    def _select(self, command: str, *values: str) -> list[Any]:
        with self._session():
            return self._db.execute(command, values).fetchall()

    @contextmanager
    def _session(self) -> Iterator[None]:
        """Keep other threads out; raise InputError for errors of the file."""
        try:
            with self._lock:
                yield
        except (sqlite3.DatabaseError, OSError) as error:
            if isinstance(error, sqlite3.OperationalError | OSError):
                problem = "cannot be used"
                advice = "check that its folder is writable and the disk is not full"
            else:
                problem = "is damaged or not an answer store"
                advice = "move it away"
            raise InputError(
                f"The answer store {str(self.path)!r} {problem} ({error}): {advice}, or choose "
                "another file."
            ) from error


def as_json_lines(answers: Iterable[StoredAnswer]) -> Iterator[str]:
    """Yield one JSON object per answer, without line breaks."""
    for stored in answers:
        line = {"judge": stored.identity, **asdict(stored.query), **asdict(stored.answer)}
        yield json_text(line)


def read_json_lines(path: str | os.PathLike[str]) -> list[StoredAnswer]:
    """Read a file of the lines of `as_json_lines`; InputError if it is missing or has others."""
    lines = read_lines(Path(path), "JSONL file", "what 'judge-cache export' wrote")
    return [
        _read_line(line, f"Line {number} of {os.fspath(path)!r}")
        for number, line in lines
        if line.strip()
    ]


def read_lines(path: Path, kind: str, example: str) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of the lines of a text file, perhaps a gzip file, that are not empty."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"The {kind} {str(path)!r} is damaged or not text: give UTF-8 text, or a gzip file of "
            "it."
        ) from error
    except OSError as error:
        raise InputError(
            f"The {kind} {str(path)!r} cannot be read ({error.strerror}): give {example}."
        ) from error
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip("\r"):
            yield number, line


def _read_line(line: str, place: str) -> StoredAnswer:
    with suppress(ValueError):
        match json.loads(line):
            case {
                "judge": str(judge),
                "word": str(word),
                "class_names": [*names],
                "yes": bool() | None as yes,
                "reason": str(reason),
                "confidence": int() | float() | None as confidence,
                **others,
            } if not others and all(isinstance(name, str) for name in names):
                answer = Answer(yes, reason, confidence)
                return StoredAnswer(judge, Query(word, tuple(names)), answer)
    raise InputError(
        f"{place} is {line[:80]!r}: it must be a JSON object with class_names, confidence, judge, "
        "reason, word, yes, as 'judge-cache export' writes it."
    )


def _key(class_names: Sequence[str]) -> str:
    return json.dumps(list(class_names), ensure_ascii=False)


def _answer(yes: int | None, reason: str, confidence: float | None) -> Answer:
    return Answer(None if yes is None else bool(yes), reason, confidence)
