"""What answers NegFilter's two questions: the protocol every judge follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from negrefine.errors import InputError


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer.

    Attributes:
        yes: True removes the label; None is undecided and keeps it.
        reason: Why, in a few words for a reader.
        confidence: Between 0 and 1, None where the judge has no number.
    """

    yes: bool | None
    reason: str = ""
    confidence: float | None = None


@runtime_checkable
class Judge(Protocol):
    """Anything with a name and two methods that answer lists of questions.

    Both return one answer per question, in order: an `Answer`, or a plain True, False or None.
    """

    name: str

    def is_proper_noun(self, words: Sequence[str]) -> Sequence[Answer | bool | None]:
        """Is each word a proper noun, the name of one place, person or other entity?"""

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> Sequence[Answer | bool | None]:
        """For each (word, class name): is the word a subcategory of the class name?"""


def as_answers(
    values: Sequence[Answer | bool | None], expected: int, judge: object
) -> list[Answer]:
    """Return what a judge gave as `expected` Answers.

    Raises:
        InputError: The wrong number of answers, or one that is neither an Answer, a bool nor None.
    """
    name = getattr(judge, "name", type(judge).__name__)
    try:
        answers = list(values)
    except TypeError as error:
        raise InputError(
            f"The judge {name!r} returned {values!r}: return a list with one answer per question."
        ) from error
    if len(answers) != expected:
        raise InputError(
            f"The judge {name!r} returned {len(answers)} answers to {expected} questions: "
            "return one per question, in order."
        )
    return [_as_answer(answer, position, name) for position, answer in enumerate(answers)]


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
