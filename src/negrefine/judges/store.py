"""The SQLite file that keeps every answer of a language model; its exchange as JSON Lines."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import threading
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from negrefine.errors import InputError
from negrefine.files.cache_directory import cache_directory, expanded
from negrefine.files.reading import parse_json
from negrefine.files.sqlite import OtherFileError, SQLiteFile, checksum
from negrefine.judges.base import Answer, Query
from negrefine.judges.prompts import kind_of
from negrefine.labels.text_files import read_text
from negrefine.shown_text import json_text, restored, storable

# Another process that writes at the same time locks the file for milliseconds.
_BUSY_SECONDS = 60.0
# What a row says but for its judge, question and checksum.
_ANSWER = "yes, reason, confidence, checksum"
_COLUMNS = ["id", "judge", "word", "class_names", "yes", "reason", "confidence", "checksum"]
_JUDGES = {"judges": ["id", "identity"]}


def _seal(db: sqlite3.Connection) -> None:
    """Give the answers of the first version, which had no checksums, theirs."""
    db.execute("ALTER TABLE answers ADD COLUMN checksum INTEGER")
    rows = db.execute(
        "SELECT answers.id, identity, word, class_names, yes, reason, confidence FROM answers "
        "JOIN judges ON judges.id = answers.judge"
    ).fetchall()
    sealed = [(_checksum(*row), key) for key, *row in rows if _is_answer(*row[-3:])]
    db.executemany("UPDATE answers SET checksum = ? WHERE id = ?", sealed)


_FILE = SQLiteFile(
    mark=int.from_bytes(b"NrAn", "big"),
    version=2,
    tables=(
        "CREATE TABLE judges (id INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE)",
        "CREATE TABLE answers (id INTEGER PRIMARY KEY, "
        "judge INTEGER NOT NULL REFERENCES judges (id), word TEXT NOT NULL, "
        "class_names TEXT NOT NULL, yes INTEGER, reason TEXT NOT NULL, confidence REAL, "
        "checksum INTEGER, UNIQUE (judge, word, class_names))",
    ),
    columns={**_JUDGES, "answers": _COLUMNS},
    first_columns={**_JUDGES, "answers": _COLUMNS[:-1]},
    upgrade=_seal,
)


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """One answer with the question and the identity of the judge."""

    identity: str
    query: Query
    answer: Answer


@dataclass(frozen=True, slots=True)
class JudgeCounts:
    """Numbers of stored answers of one judge.

    Attributes:
        proper_noun: Whether a word is a proper noun.
        subcategory: Whether it is a kind of a class.
        image: Whether an image shows a thing.
        proposal: Replies of a proposer, which count as yes.
    """

    identity: str
    proper_noun: int
    subcategory: int
    yes: int
    no: int
    undecided: int
    image: int = 0
    proposal: int = 0


class AnswerStore:
    """Answers by (judge identity, question). Several processes may share the file.

    The file is SQLite in WAL mode. Every batch of answers is one transaction that is on the disk
    when `put` returns, so that a process that is killed loses no stored answer. Every row has a
    checksum; one that does not fit is no answer, which a warning says. Nothing is ever removed:
    a damaged file, or one of another program, is refused.

    Example:
        >>> store = negrefine.AnswerStore("answers.sqlite")
        >>> url = "http://localhost:11434/v1"
        >>> judge = negrefine.OpenAIJudge("qwen2.5:14b", url, store=store)
        >>> [answer.yes for answer in judge.is_proper_noun(["dallas", "bridge"])]
        [True, False]
        >>> [(row.yes, row.no) for row in store.counts()]
        [(1, 1)]
        >>> store.close()
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Open or create the file, by default "answers.sqlite" in `cache_directory()`.

        Raises InputError if it cannot be created or is not an answer store.
        """
        self.path = cache_directory() / "answers.sqlite" if path is None else expanded(path)
        self._lock = threading.Lock()
        with self._session():
            # FULL: a power cut after `put` loses nothing; NORMAL might lose the last answers.
            self._db = _FILE.open(self.path, timeout=_BUSY_SECONDS, synchronous="FULL")

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def get(self, identity: str, queries: Sequence[Query]) -> dict[int, Answer]:
        """Return the stored answers by position in `queries`."""
        with self._session():
            rows = [self._find(identity, query) for query in queries]
        whole = {i: [a for a in answers if a is not None] for i, answers in enumerate(rows)}
        n_damaged = sum(bool(rows[i]) and not answers for i, answers in whole.items())
        self._warn(n_damaged, "they are asked again")
        return {i: answers[0] for i, answers in whole.items() if answers}

    def put(self, identity: str, answers: Iterable[tuple[Query, Answer]]) -> int:
        """Store answers in one transaction without replacing any; return the number of new ones."""
        n_new = 0
        with self._session(), self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("INSERT OR IGNORE INTO judges (identity) VALUES (?)", (identity,))
            for query, answer in answers:
                # A row that is damaged is no answer.
                if any(known is not None for known in self._find(identity, query)):
                    continue
                row = _row(identity, query, answer)
                self._db.execute(
                    f"INSERT OR REPLACE INTO answers (judge, word, class_names, {_ANSWER}) "  # noqa: S608
                    "VALUES ((SELECT id FROM judges WHERE identity = ?), ?, ?, ?, ?, ?, ?)",
                    (*row, _checksum(*row)),
                )
                n_new += 1
        return n_new

    def __iter__(self) -> Iterator[StoredAnswer]:
        """Yield all answers, judge by judge in the order of their identities, oldest first."""
        with self._session():
            rows = self._db.execute(
                f"SELECT identity, word, class_names, {_ANSWER} FROM answers "  # noqa: S608
                "JOIN judges ON judges.id = answers.judge ORDER BY identity, answers.id"
            ).fetchall()
        n_damaged = 0
        for identity, word, names, *columns in rows:
            answer = _answer(identity, word, names, *columns)
            if answer is None:
                n_damaged += 1
            else:
                yield StoredAnswer(identity, Query(word, tuple(json.loads(names))), answer)
        self._warn(n_damaged, "they are left out")

    def counts(self) -> list[JudgeCounts]:
        """Return the numbers of answers of each judge, in the order of their identities."""
        stored: dict[str, list[StoredAnswer]] = {}
        for each in self:
            stored.setdefault(each.identity, []).append(each)
        counts = []
        for identity, answers in stored.items():
            said = [each.answer.yes for each in answers]
            yes, no, undecided = map(said.count, (True, False, None))
            n, kind = len(answers), kind_of(identity)
            proper = sum(not each.query.class_names for each in answers) if kind == "words" else 0
            counts.append(
                JudgeCounts(
                    identity,
                    proper_noun=proper,
                    subcategory=n - proper if kind == "words" else 0,
                    yes=yes,
                    no=no,
                    undecided=undecided,
                    image=n if kind == "images" else 0,
                    proposal=n if kind == "proposals" else 0,
                )
            )
        return counts

    def _find(self, identity: str, query: Query) -> list[Answer | None]:
        """Return the answer in each row of a question, None where it is damaged."""
        names = _key(query.class_names)
        rows = self._db.execute(
            f"SELECT {_ANSWER} FROM answers WHERE word = ? AND class_names = ? "  # noqa: S608
            "AND judge = (SELECT id FROM judges WHERE identity = ?)",
            (query.word, names, identity),
        )
        return [_answer(identity, query.word, names, *row) for row in rows]

    def _warn(self, n_damaged: int, consequence: str) -> None:
        if n_damaged:
            warnings.warn(
                f"Answers in {str(self.path)!r} that are damaged: {n_damaged}; {consequence}.",
                stacklevel=3,
            )

    @contextmanager
    def _session(self) -> Iterator[None]:
        """Keep other threads out; raise InputError for errors of the file."""
        try:
            with self._lock:
                yield
        except (sqlite3.Error, OSError, OtherFileError) as error:
            if isinstance(error, OtherFileError):
                problem, advice = "cannot be used", "it is left alone"
            elif isinstance(error, OSError) or (
                isinstance(error, sqlite3.OperationalError) and not _FILE.is_damaged(self.path)
            ):
                problem = "cannot be used"
                advice = "check that its folder is writable and the disk is not full"
            else:
                problem = "is damaged or not an answer store"
                advice = "move it away (the program sqlite3 may '.recover' its answers)"
            raise InputError(
                f"The answer store {str(self.path)!r} {problem} ({error}): {advice}, or choose "
                "another file."
            ) from error


def default_store() -> AnswerStore | None:
    """Return the store in `cache_directory()`, or None, with a warning, if there is no such place.

    Raises InputError as `AnswerStore` does.
    """
    try:
        folder = cache_directory()
        folder.mkdir(parents=True, exist_ok=True)
    except (InputError, OSError) as error:
        warnings.warn(
            f"Answers of the language model are not kept, and asked again by the next run: {error}",
            stacklevel=2,
        )
        return None
    return AnswerStore()


def as_json_lines(answers: Iterable[StoredAnswer]) -> Iterator[str]:
    """Yield one JSON object per answer, without line breaks."""
    for stored in answers:
        line = {"judge": stored.identity, **asdict(stored.query), **asdict(stored.answer)}
        line["reason"] = storable(stored.answer.reason)
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
    text = read_text(path, kind, example)
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip("\r"):
            yield number, line


def _read_line(line: str, place: str) -> StoredAnswer:
    with suppress(ValueError):
        match parse_json(line, allow_nan=True):
            case {
                "judge": str(judge),
                "word": str(word),
                "class_names": [*names],
                "yes": bool() | None as yes,
                "reason": str(reason),
                "confidence": int() | float() | None as confidence,
                **others,
            } if not others and all(isinstance(name, str) for name in names):
                answer = Answer(yes, restored(reason), confidence)
                return StoredAnswer(judge, Query(word, tuple(names)), answer)
    raise InputError(
        f"{place} is {line[:80]!r}: it must be a JSON object with class_names, confidence, judge, "
        "reason, word, yes, as 'judge-cache export' writes it."
    )


def _key(class_names: Sequence[str]) -> str:
    return json.dumps(list(class_names), ensure_ascii=False)


def _row(identity: str, query: Query, answer: Answer) -> tuple[Any, ...]:
    """Return what is stored of an answer, but for the checksum, in SQLite's types."""
    yes = None if answer.yes is None else int(answer.yes)
    confidence = answer.confidence
    if confidence is not None:
        # SQLite has neither NaN nor a negative zero.
        confidence = None if math.isnan(confidence) else float(confidence) + 0.0
    names = _key(query.class_names)
    return identity, query.word, names, yes, storable(answer.reason), confidence


def _answer(
    identity: str, word: str, names: str, yes: Any, reason: Any, confidence: Any, check: Any
) -> Answer | None:
    """Return the answer in a row, None if the row is damaged."""
    if not _is_answer(yes, reason, confidence) or check != _checksum(
        identity, word, names, yes, reason, confidence
    ):
        return None
    return Answer(None if yes is None else bool(yes), restored(reason), confidence)


def _is_answer(yes: object, reason: object, confidence: object) -> bool:
    return (
        (yes is None or (isinstance(yes, int) and yes in (0, 1)))
        and isinstance(reason, str)
        and (confidence is None or isinstance(confidence, float))
    )


def _checksum(*row: Any) -> int:
    # What is of no type of JSON's is no part of an answer.
    return checksum(json.dumps(row, default=repr))
