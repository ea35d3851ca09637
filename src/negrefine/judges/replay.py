"""The log that the official NegRefine code writes, and a judge that repeats its answers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from negrefine.errors import InputError
from negrefine.judges.base import Answer, AnswerBatch, Query, QueryJudge
from negrefine.judges.store import StoredAnswer, read_lines

_SEPARATOR = " | "
_TRAILER = "-" * 45
_PROPER = "proper noun "
_VERDICTS = {"": False, "subcategory ": True, "the same ": None}


class ReplayJudge(QueryJudge):
    """Answers from `llm_process_noun.txt` and `llm_process_adj.txt` of an official run.

    Several logs are read as one record; a word that occurs in two of them is taken from the first.
    A question that was never asked is undecided.

    Attributes:
        recorded: Every word that was asked about, in the order of the logs.
        candidates: {word: class names in the order asked}, a name twice where it was asked twice;
            none for a proper noun. A word equal to a class name has that name last.
        answers: The recorded yes or no to each query, in the order of the logs.
        n_questions: Number of answers of a language model in the logs.

    Example:
        >>> lines = ["Paris | proper noun ", "poodle | dog | subcategory "]
        >>> _ = Path("answers.txt").write_text("\\n".join(lines))
        >>> judge = negrefine.ReplayJudge("answers.txt")
        >>> [answer.yes for answer in judge.is_proper_noun(["Paris", "poodle", "never asked"])]
        [True, False, None]
    """

    def __init__(self, *logs: str | os.PathLike[str]) -> None:
        """Read the logs, also ".gz"; InputError if one is missing, damaged or no log."""
        if not logs:
            raise InputError("ReplayJudge needs at least one log: give llm_process_noun.txt.")
        paths = [Path(log) for log in logs]
        self.name = f"replay({', '.join(path.name for path in paths)})"
        self.answers: dict[Query, bool] = {}
        self.candidates: dict[str, list[str]] = {}
        self.n_questions = 0
        for path in paths:
            self._read(path)
        self.recorded = tuple(self.candidates)

    @classmethod
    def from_logs(cls, paths: Iterable[str | os.PathLike[str]]) -> ReplayJudge:
        """Read an iterable of logs."""
        return cls(*paths)

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        """Yield one list of (position, recorded answer)."""
        answers = map(self.answers.get, queries)
        yield [
            (i, Answer(yes, "not recorded" if yes is None else "recorded"))
            for i, yes in enumerate(answers)
        ]

    def _read(self, path: Path) -> None:
        earlier = frozenset(self.candidates)
        for number, raw_line in read_lines(path, "log", "an llm_process_*.txt of an official run"):
            line = raw_line.rstrip("\r")
            if line.startswith(_TRAILER):
                return
            word, *fields = line.split(_SEPARATOR)
            if fields != [_PROPER] and (len(fields) != 2 or fields[1] not in _VERDICTS):
                raise InputError(
                    f"Line {number} of the log {str(path)!r} is {line!r}: lines must look like "
                    "'word | proper noun ' or 'word | class name | subcategory ', each ending in "
                    "a space."
                )
            if word in earlier:
                continue
            if word not in self.candidates:
                self.candidates[word] = []
                self.answers[Query(word)] = fields == [_PROPER]
                self.n_questions += 1
            if len(fields) == 2:
                class_name, verdict = fields
                self.candidates[word].append(class_name)
                # The model was never asked about a class name equal to the word.
                if (yes := _VERDICTS[verdict]) is not None:
                    # A class list may contain a name twice, and a sampling model may give two
                    # different answers: one yes removed the word.
                    query = Query(word, (class_name,))
                    self.answers[query] = self.answers.get(query, False) or yes
                    self.n_questions += 1


def read_official_log(path: str | os.PathLike[str], identity: str) -> list[StoredAnswer]:
    """Read an official log as answers of the judge `identity`, without names equal to the word."""
    return [
        StoredAnswer(identity, query, Answer(yes, "recorded"))
        for query, yes in ReplayJudge(path).answers.items()
    ]


def as_official_log(answers: Iterable[StoredAnswer]) -> Iterator[str]:
    """Yield the lines of `llm_process_noun.txt`, without line breaks, in order of first appearance.

    The format cannot express everything: an undecided answer counts as no, as published; questions
    about several class names, and words of which only a no to the proper-noun question is stored,
    are left out.
    """
    by_word: dict[str, dict[tuple[str, ...], bool]] = {}
    for stored in answers:
        given = by_word.setdefault(stored.query.word, {})
        given[stored.query.class_names] = bool(stored.answer.yes)
    n_proper = n_subcategories = 0
    for word, given in by_word.items():
        if given.get(()):
            n_proper += 1
            yield _SEPARATOR.join((word, _PROPER))
            continue
        pairs = {names[0]: yes for names, yes in given.items() if len(names) == 1}
        for name, yes in pairs.items():
            yield _SEPARATOR.join((word, name, "subcategory " if yes else ""))
        n_subcategories += any(pairs.values())
    yield _TRAILER
    yield f"n_proper: {n_proper}"
    yield "n_same: 0"
    yield f"n_subcatgeory: {n_subcategories}"
