"""A judge that repeats answers recorded by the official NegRefine code."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from negrefine.errors import InputError
from negrefine.judges.base import Answer

_SEPARATOR = " | "
_TRAILER = "-" * 45
_PROPER = "proper noun "
_VERDICTS = {"": False, "subcategory ": True, "the same ": None}
_NOT_RECORDED = Answer(None, "not recorded")


class ReplayJudge:
    """Answers from `llm_process_noun.txt` and `llm_process_adj.txt` of an official run.

    Several logs are read as one record; a word that two of them hold is taken from the first. A
    question that was never asked is undecided.

    Attributes:
        name: "replay" and the logs' file names.
        recorded: Every word that was asked about, in the order of the logs.
        candidates: {word: class names in the order asked}, a name twice where it was asked twice.
            A word that is a proper noun has none; one equal to a class name has that name last.
        n_questions: Number of answers by a language model that the logs hold.
    """

    def __init__(self, *logs: str | os.PathLike[str]) -> None:
        """Read the logs; ".gz" files are unpacked.

        Raises:
            InputError: No log given, or one that is missing, damaged or in another format.
        """
        if not logs:
            raise InputError("ReplayJudge needs at least one log: give llm_process_noun.txt.")
        paths = [Path(log) for log in logs]
        self.name = f"replay({', '.join(path.name for path in paths)})"
        self._proper: dict[str, bool] = {}
        self._subcategory: dict[tuple[str, str], bool] = {}
        candidates: dict[str, list[str]] = {}
        self.n_questions = 0
        for path in paths:
            self._read(path, candidates)
        self.recorded: tuple[str, ...] = tuple(self._proper)
        self.candidates: Mapping[str, list[str]] = MappingProxyType(candidates)

    @classmethod
    def from_logs(cls, paths: Iterable[str | os.PathLike[str]]) -> ReplayJudge:
        """Read an iterable of logs."""
        return cls(*paths)

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        """Repeat the recorded answers; undecided where a word was never asked about."""
        return [_recorded(self._proper.get(word)) for word in words]

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """Repeat the recorded answers; undecided where a pair was never asked about."""
        return [_recorded(self._subcategory.get((word, name))) for word, name in pairs]

    def _read(self, path: Path, candidates: dict[str, list[str]]) -> None:
        earlier = frozenset(self._proper)
        for number, line in _lines(path):
            word, *fields = line.split(_SEPARATOR)
            if fields != [_PROPER] and (len(fields) != 2 or fields[1] not in _VERDICTS):
                raise InputError(
                    f"Line {number} of the log {str(path)!r} is {line!r}: lines must look like "
                    "'word | proper noun ' or 'word | class name | subcategory ', each ending in "
                    "a space."
                )
            if word in earlier:
                continue
            if word not in self._proper:
                self._proper[word] = fields == [_PROPER]
                self.n_questions += 1
                candidates[word] = []
            if len(fields) == 2:
                class_name, verdict = fields
                candidates[word].append(class_name)
                # A class name equal to the word was never put to the model.
                if (yes := _VERDICTS[verdict]) is not None:
                    # A class list may hold a name twice, and a sampling model may answer twice
                    # differently: one yes removed the word.
                    pair = word, class_name
                    self._subcategory[pair] = self._subcategory.get(pair, False) or yes
                    self.n_questions += 1


def _recorded(yes: bool | None) -> Answer:
    return _NOT_RECORDED if yes is None else Answer(yes, "recorded")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, line) up to the trailer, trailing spaces kept."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(
            f"The log {str(path)!r} does not exist: give an llm_process_*.txt of an official run."
        ) from error
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"The log {str(path)!r} is damaged or no text: give UTF-8 text, or the same in gzip."
        ) from error
    except OSError as error:
        raise InputError(f"The log {str(path)!r} cannot be read: {error.strerror}.") from error
    for number, raw_line in enumerate(text.split("\n"), start=1):
        line = raw_line.rstrip("\r")
        if line.startswith(_TRAILER):
            return
        if line:
            yield number, line
