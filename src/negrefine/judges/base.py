"""The judge protocols, and how judges are asked NegFilter's two questions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from itertools import chain, islice
from operator import add, itemgetter
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from negrefine.errors import InputError


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, with a short reason for a reader.

    Attributes:
        yes: True removes the label; None is undecided and keeps it.
        confidence: Between 0 and 1, None where the judge has no number.

    Example:
        >>> negrefine.Answer(True, "instance of city", 0.9)
        Answer(yes=True, reason='instance of city', confidence=0.9)
    """

    yes: bool | None
    reason: str = ""
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """One question about a word.

    No class name asks whether it is a proper noun, one name whether it is a subcategory of that
    class, several names whether it is one of any of them.
    """

    word: str
    class_names: tuple[str, ...] = ()


# (position of the query, its answer)
AnswerBatch: TypeAlias = list[tuple[int, Answer]]


@dataclass(slots=True)
class Usage:
    """What a judge has done since it was created; tokens as far as the model reports them.

    Attributes:
        asked: Questions sent to the model; a repeated question counts again.
        cached: Questions whose answers were already stored.
    """

    asked: int = 0
    cached: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(add, astuple(self), astuple(other)))


@runtime_checkable
class Judge(Protocol):
    """Anything with a name and two methods that answer lists of questions.

    Both return one answer per question, in order: an `Answer`, or a plain True, False or None.

    Example:
        >>> class Capitals:
        ...     name = "capitals"
        ...
        ...     def is_proper_noun(self, words):
        ...         return [word[0].isupper() for word in words]
        ...
        ...     def is_subcategory(self, pairs):
        ...         return [word.endswith(f" {name}") for word, name in pairs]
        >>> detector = refine.with_filter(judge=Capitals())
        >>> len(detector.negatives_.kept) == len(detector.mined_.labels)
        True
    """

    name: str

    def is_proper_noun(self, words: Sequence[str]) -> Sequence[Answer | bool | None]:
        """Is each word a proper noun, the name of one place, person or other entity?"""

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> Sequence[Answer | bool | None]:
        """For each (word, class name): is the word a subcategory of the class name?"""


@runtime_checkable
class StreamingJudge(Judge, Protocol):
    """A slow judge, which returns answers as it finds them.

    It prefers to be asked about `ranks_per_round` class names per word together.
    """

    ranks_per_round: int
    usage: Usage

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        """Yield lists of (position in `queries`, answer), every position once, in any order."""


class QueryJudge(ABC):
    """Base of the judges that implement `iter_answers` alone."""

    @abstractmethod
    def iter_answers(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        """Yield lists of (position in `queries`, answer), every position once, in any order."""

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        """Is each word a proper noun, the name of one place, person or other entity?"""
        return _in_order(self.iter_answers([Query(word) for word in words]))

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """For each (word, class name): is the word a subcategory of the class name?"""
        return _in_order(self.iter_answers([Query(word, (name,)) for word, name in pairs]))


def iter_answers(judge: Judge, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
    """Put queries to any judge and yield lists of (position, answer) as they arrive.

    A judge without `iter_answers` is asked about several class names one by one: one yes makes a
    yes; otherwise one undecided answer makes the query undecided. Raises InputError if the judge
    does not return exactly one answer per query.
    """
    if not queries:
        return
    if isinstance(judge, StreamingJudge):
        yield from _checked(judge.iter_answers(queries), len(queries), judge.name)
        return
    words = {i: query.word for i, query in enumerate(queries) if not query.class_names}
    if words:
        given = as_answers(judge.is_proper_noun(list(words.values())), len(words), judge)
        yield list(zip(words, given, strict=True))
    subcategory = [i for i, query in enumerate(queries) if query.class_names]
    pairs = [(queries[i].word, name) for i in subcategory for name in queries[i].class_names]
    if pairs:
        single = iter(as_answers(judge.is_subcategory(pairs), len(pairs), judge))
        yield [(i, _any_of(islice(single, len(queries[i].class_names)))) for i in subcategory]


def answer_all(judge: Judge, queries: Sequence[Query]) -> list[Answer]:
    """Return the answers of `iter_answers` in the order of the queries."""
    return _in_order(iter_answers(judge, queries))


def as_answers(
    values: Sequence[Answer | bool | None], expected: int, judge: object
) -> list[Answer]:
    """Return what a judge gave as `Answer`; InputError if it is not `expected` valid answers."""
    name = getattr(judge, "name", type(judge).__name__)
    if not isinstance(values, Iterable):
        raise InputError(
            f"The judge {name!r} returned {values!r}: return a list with one answer per question."
        )
    given = list(values)
    if len(given) != expected:
        # Says what is wrong.
        return _in_order(_checked([list(enumerate(given))], expected, name))
    return [_as_answer(answer, position, name) for position, answer in enumerate(given)]


def _checked(
    batches: Iterable[Sequence[tuple[int, Answer | bool | None]]], expected: int, name: str
) -> Iterator[AnswerBatch]:
    """Yield the batches with plain values as `Answer`; InputError unless each position is once."""
    unanswered = set(range(expected))
    for batch in batches:
        for position, _ in batch:
            if position not in unanswered:
                raise InputError(
                    f"The judge {name!r} answered position {position} twice, or was not asked "
                    "about it: answer every position once."
                )
            unanswered.remove(position)
        yield [(position, _as_answer(answer, position, name)) for position, answer in batch]
    if unanswered:
        raise InputError(
            f"The judge {name!r} left {len(unanswered)} of {expected} questions without an answer: "
            "answer every position once."
        )


def _in_order(batches: Iterable[AnswerBatch]) -> list[Answer]:
    return [answer for _, answer in sorted(chain.from_iterable(batches), key=itemgetter(0))]


def _any_of(answers: Iterable[Answer]) -> Answer:
    """Return the first yes, else the first undecided answer, else the first no."""
    first, *others = answers
    return (
        first
        if not others
        else min([first, *others], key=lambda answer: (True, None, False).index(answer.yes))
    )


def _as_answer(value: object, position: int, name: str) -> Answer:
    answer = value if isinstance(value, Answer) else Answer(value)  # type: ignore[arg-type]
    if answer.yes is None or isinstance(answer.yes, bool):
        return answer
    if isinstance(answer.yes, np.bool_):
        return replace(answer, yes=bool(answer.yes))
    raise InputError(
        f"The judge {name!r} returned {value!r} as answer {position}: "
        "return Answer, True, False or None."
    )
