"""The SQLite file that keeps every answer of a language model; its exchange as JSON Lines."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from negrefine.cache_directory import cache_directory
from negrefine.errors import InputError
from negrefine.judges.base import Answer, Query

FILE_NAME = "answers.sqlite"
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
        """Open the file, or create it.

        Args:
            path: The file; by default "answers.sqlite" in `cache_directory()`.

        Raises:
            InputError: The file cannot be created, or is not an answer store.
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
        """Return the stored answers by position in `queries`."""
        found: dict[int, Answer] = {}
        with self._lock, self._explain_errors():
            for position, query in enumerate(queries):
                row = self._db.execute(
                    "SELECT yes, reason, confidence FROM answers WHERE word = ? "
                    "AND class_names = ? AND judge = (SELECT id FROM judges WHERE identity = ?)",
                    (query.word, _key(query.class_names), identity),
                ).fetchone()
                if row is not None:
                    found[position] = _answer(*row)
        return found

    def put(self, identity: str, answers: Iterable[tuple[Query, Answer]]) -> int:
        """Store answers in one transaction; those that are already stored are not replaced.

        Returns:
            The number of new answers.
        """
        with self._lock, self._explain_errors(), self._db:
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
        with self._lock, self._explain_errors():
            rows = self._db.execute(
                "SELECT identity, word, class_names, yes, reason, confidence FROM answers "
                "JOIN judges ON judges.id = answers.judge ORDER BY identity, answers.id"
            ).fetchall()
        for identity, word, names, *columns in rows:
            yield StoredAnswer(identity, Query(word, tuple(json.loads(names))), _answer(*columns))

    def counts(self) -> list[JudgeCounts]:
        """Return the numbers of answers of each judge, in the order of their identities."""
        with self._lock, self._explain_errors():
            rows = self._db.execute(
                "SELECT identity, SUM(class_names = '[]'), SUM(class_names != '[]'), "
                "SUM(yes IS 1), SUM(yes IS 0), SUM(yes IS NULL) FROM answers "
                "JOIN judges ON judges.id = answers.judge GROUP BY identity ORDER BY identity"
            ).fetchall()
        return [JudgeCounts(*row) for row in rows]

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            raise InputError(
                f"The answer store {str(self.path)!r} cannot be used ({error}): check that its "
                "folder is writable and the disk is not full, or choose another file."
            ) from error
        except sqlite3.DatabaseError as error:
            raise InputError(
                f"{str(self.path)!r} is damaged or not an answer store ({error}): move it away, "
                "or choose another file."
            ) from error
        except OSError as error:
            raise InputError(
                f"The answer store {str(self.path)!r} cannot be created ({error.strerror}): choose "
                "another file."
            ) from error


def as_json_lines(answers: Iterable[StoredAnswer]) -> Iterator[str]:
    """Yield one JSON object per answer, without line breaks."""
    for stored in answers:
        line = {"judge": stored.identity, **asdict(stored.query), **asdict(stored.answer)}
        yield json.dumps(line, ensure_ascii=False)


def read_json_lines(path: str | os.PathLike[str]) -> list[StoredAnswer]:
    """Read a file of the lines of `as_json_lines`.

    Raises:
        InputError: The file does not exist, or a line is not such a JSON object.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{os.fspath(path)!r} is not UTF-8 text: give a JSONL file.") from error
    except OSError as error:
        raise InputError(f"{os.fspath(path)!r} cannot be read: {error.strerror}.") from error
    answers = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                answers.append(_read_line(line))
            except ValueError as error:
                raise InputError(
                    f"Line {number} of {os.fspath(path)!r} is {line[:80]!r}: it must be a JSON "
                    "object with class_names, confidence, judge, reason, word, yes, as "
                    "'judge-cache export' writes it."
                ) from error
    return answers


def _read_line(line: str) -> StoredAnswer:
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
            return StoredAnswer(judge, Query(word, tuple(names)), Answer(yes, reason, confidence))
    raise ValueError("unexpected content")


def _key(class_names: Sequence[str]) -> str:
    return json.dumps(list(class_names), ensure_ascii=False)


def _answer(yes: int | None, reason: str, confidence: float | None) -> Answer:
    return Answer(None if yes is None else bool(yes), reason, confidence)
