"""Stored answers as JSON lines, and as the log that the official NegRefine code writes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from negrefine.errors import InputError
from negrefine.judges.base import Answer, Query
from negrefine.judges.replay import ReplayJudge
from negrefine.judges.store import StoredAnswer

_FIELDS = {"judge", "word", "class_names", "yes", "reason", "confidence"}


def as_json_lines(answers: Iterable[StoredAnswer]) -> Iterator[str]:
    """Yield one JSON object for each answer, without line ends."""
    for stored in answers:
        line = {
            "judge": stored.identity,
            "word": stored.query.word,
            "class_names": list(stored.query.class_names),
            "yes": stored.answer.yes,
            "reason": stored.answer.reason,
            "confidence": stored.answer.confidence,
        }
        yield json.dumps(line, ensure_ascii=False)


def read_json_lines(path: str | os.PathLike[str]) -> list[StoredAnswer]:
    """Read what `as_json_lines` gave.

    Raises:
        InputError: No such file, or a line in another form.
    """
    answers = []
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{os.fspath(path)!r} is no UTF-8 text: give a JSONL file.") from error
    except OSError as error:
        raise InputError(f"{os.fspath(path)!r} cannot be read: {error.strerror}.") from error
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                answers.append(_read_line(line))
            except (ValueError, TypeError, KeyError) as error:
                raise InputError(
                    f"Line {number} of {os.fspath(path)!r} is {line[:80]!r}: it must be a JSON "
                    f"object with {', '.join(sorted(_FIELDS))}, as 'judge-cache export' writes it."
                ) from error
    return answers


def _read_line(line: str) -> StoredAnswer:
    content = json.loads(line)
    names = content["class_names"]
    texts = [content["judge"], content["word"], content["reason"], *names]
    confidence = content["confidence"]
    if (
        content.keys() != _FIELDS
        or not isinstance(names, list)
        or not all(isinstance(text, str) for text in texts)
        or not (content["yes"] is None or isinstance(content["yes"], bool))
        or not (confidence is None or isinstance(confidence, (int, float)))
    ):
        raise ValueError("unexpected content")
    answer = Answer(content["yes"], content["reason"], confidence)
    return StoredAnswer(content["judge"], Query(content["word"], tuple(names)), answer)


def as_official_log(answers: Iterable[StoredAnswer]) -> Iterator[str]:
    """Yield the lines of `llm_process_noun.txt`, without line ends, words in order of appearance.

    The format has no place for an undecided answer, which counts as no, as published; none for
    questions about several class names; and none for a word that only got a no to the proper-noun
    question. These are left out.
    """
    proper: dict[str, bool] = {}
    pairs: dict[str, list[tuple[str, bool]]] = {}
    for stored in answers:
        word, names = stored.query.word, stored.query.class_names
        proper.setdefault(word, False)
        if not names:
            proper[word] = bool(stored.answer.yes)
        elif len(names) == 1:
            pairs.setdefault(word, []).append((names[0], bool(stored.answer.yes)))
    for word, is_proper in proper.items():
        if is_proper:
            yield f"{word} | proper noun "
            continue
        for name, yes in pairs.get(word, ()):
            yield f"{word} | {name} | {'subcategory ' if yes else ''}"
    yield "-" * 45
    yield f"n_proper: {sum(proper.values())}"
    yield "n_same: 0"
    subcategories = sum(
        any(yes for _, yes in pairs.get(word, ())) for word, yes in proper.items() if not yes
    )
    yield f"n_subcatgeory: {subcategories}"


def read_official_log(path: str | os.PathLike[str], identity: str) -> list[StoredAnswer]:
    """Read an official log as answers of one judge.

    A class name equal to the word, which is never put to a model, is left out.

    Raises:
        InputError: No such file, or another format.
    """
    judge = ReplayJudge(path)
    answers = []
    for word in judge.recorded:
        pairs = [(word, name) for name in dict.fromkeys(judge.candidates[word])]
        given = [*judge.is_proper_noun([word]), *judge.is_subcategory(pairs)]
        queries = [Query(word), *(Query(word, (name,)) for _, name in pairs)]
        answers += [
            StoredAnswer(identity, query, answer)
            for query, answer in zip(queries, given, strict=True)
            if answer.yes is not None
        ]
    return answers
