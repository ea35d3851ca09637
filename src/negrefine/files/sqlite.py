"""SQLite files that negrefine writes, told apart from other programs' files by a mark in them."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_MAGIC = b"SQLite format 3\0"
# Where the header has the application id, and the size of the smallest page of any database.
_MARK = slice(68, 72)
_SMALLEST = 512


class OtherFileError(Exception):
    """A file that negrefine has not written, or a newer negrefine; it must not be touched."""


class _ClosedWhenDropped(sqlite3.Connection):
    """Closed with whoever holds it; from Python 3.13 on, a connection that is not warns."""

    def __del__(self) -> None:
        self.close()


@dataclass(frozen=True)
class SQLiteFile:
    """One kind of file.

    Attributes:
        mark: The application id in its header.
        version: Of the format; the first one had neither mark nor version.
        tables: The statements that make it.
        columns: The columns of each table.
        first_columns: Those of the first version.
        upgrade: Brings a file of an earlier version to this one, within a transaction.
    """

    mark: int
    version: int
    tables: Sequence[str]
    columns: Mapping[str, list[str]]
    first_columns: Mapping[str, list[str]]
    upgrade: Callable[[sqlite3.Connection], None]

    def open(self, path: Path, *, timeout: float, synchronous: str) -> sqlite3.Connection:
        """Open or create a file in WAL mode, with explicit transactions.

        Raises:
            OtherFileError: The file is no file, or not of this kind.
            sqlite3.Error: It is damaged or cannot be used.
            OSError: Its folder cannot be made.
        """
        # SQLite would wait for ever at a pipe.
        if path.exists() and not path.is_file():
            raise OtherFileError("not a regular file")
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(
            path,
            timeout=timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=_ClosedWhenDropped,
        )
        try:
            # Nothing is written before it is clear whose file it is, and the mark comes first, so
            # that the file itself has it and not only the log of changes beside it.
            if self._recognise(db) != self.version:
                self._prepare(db)
            db.execute("PRAGMA journal_mode = WAL")
            db.execute(f"PRAGMA synchronous = {synchronous}")
        except BaseException:
            db.close()
            raise
        return db

    def is_damaged(self, path: Path) -> bool:
        """Whether the content of a file, and not its surroundings, is what is wrong with it."""
        try:
            db = sqlite3.connect(path, timeout=0, isolation_level=None)
            try:
                self._recognise(db)
                return [*db.execute("PRAGMA integrity_check(1)")] != [("ok",)]
            finally:
                db.close()
        except (OtherFileError, sqlite3.OperationalError):
            return False
        except sqlite3.DatabaseError:
            return True

    def bears_mark(self, path: Path) -> bool:
        """Whether the first page of a damaged file shows that it was one of this kind."""
        with path.open("rb") as stream:
            head = stream.read(4096)
        return (
            head[_MARK] == self.mark.to_bytes(4, "big")
            or any(table.encode() in head for table in self.tables)
            # What a full disk or a power cut leaves: zeros, or too little to hold a table.
            or not any(head)
            or (len(head) < _SMALLEST and _MAGIC.startswith(head[: len(_MAGIC)]))
        )

    def _recognise(self, db: sqlite3.Connection) -> int:
        """Return the version of a file, 0 if it is empty."""
        # Text that is not UTF-8 any more is left for checksums to find.
        db.text_factory = lambda raw: raw.decode("utf-8", "replace")
        (mark,) = db.execute("PRAGMA application_id").fetchone()
        (version,) = db.execute("PRAGMA user_version").fetchone()
        query = "SELECT name FROM sqlite_master WHERE type != 'index' AND name NOT LIKE 'sqlite_%'"
        columns = {
            name: [row[1] for row in db.execute("SELECT * FROM pragma_table_info(?)", (name,))]
            for (name,) in db.execute(query).fetchall()
        }
        if mark == self.mark and version > self.version:
            raise OtherFileError("written by a newer version of negrefine")
        if mark == self.mark:
            if version != self.version or columns != self.columns:
                raise sqlite3.DatabaseError("its tables are not as they were made")
            return self.version
        if mark or version or (columns and columns != self.first_columns):
            raise OtherFileError("a database of another program")
        return 1 if columns else 0

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Make the tables, or bring those of an earlier version up to date."""
        # Has an effect on an empty file only.
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        with db:
            db.execute("BEGIN IMMEDIATE")
            # Another process may have been faster.
            version = self._recognise(db)
            if version == self.version:
                return
            if version:
                self.upgrade(db)
            else:
                for statement in self.tables:
                    db.execute(statement)
            db.execute(f"PRAGMA application_id = {self.mark}")
            db.execute(f"PRAGMA user_version = {self.version}")


def checksum(text: str, content: bytes = b"") -> int:
    """Return 64 bits over what a row says, signed as SQLite's whole numbers are."""
    digest = hashlib.blake2b(text.encode(), digest_size=8)
    digest.update(content)
    return int.from_bytes(digest.digest(), "big", signed=True)
