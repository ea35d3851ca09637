"""Vision judges: is there a certain thing in an image? Their protocol, wording and answers."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from negrefine.errors import InputError, JudgeError
from negrefine.judges.base import Answer, Query
from negrefine.judges.wording import has_fields
from negrefine.real_arrays import as_real

if TYPE_CHECKING:
    from PIL.Image import Image

    from negrefine.judges.language_model import LanguageModelJudge

_QUESTION = "Is there a {name} in this image? Answer with one word, yes or no."


@runtime_checkable
class VisionJudge(Protocol):
    """Anything with a name that says how much each image seems to show each of some things.

    An attribute `identity`, one line with everything that determines the answers, is optional:
    where it is missing, `name` stands for it.

    Example:
        >>> class Sure:
        ...     name = "sure"
        ...
        ...     def yes_margins(self, images, names):
        ...         return np.array([[4.0 if n == "cat" else -4.0 for n in row] for row in names])
        >>> isinstance(Sure(), negrefine.VisionJudge)
        True
    """

    name: str

    def yes_margins(
        self, images: Sequence[Image], names: Sequence[Sequence[str]]
    ) -> NDArray[np.float64]:
        """Return log P(yes) - log P(no) for n images and m names of each, float64 (n, m).

        Infinity stands for a plain yes or no, and NaN for a question that is left undecided.
        Raises `ImagesFailedError` for images about which a question failed.
        """


class ImagesFailedError(JudgeError):
    """Some questions failed, after all others were answered.

    Attributes:
        reasons: For each image with such a question its position, and why.
    """

    def __init__(self, message: str, reasons: Mapping[int, str]) -> None:
        super().__init__(message)
        self.reasons = dict(reasons)


@dataclass(frozen=True, slots=True)
class VisionPrompts:
    """The wording of the question about an image, with {name} where the name of the thing goes."""

    question: str = _QUESTION

    def __post_init__(self) -> None:
        """Raise InputError if the question has no field {name}, or another one."""
        if not has_fields(self.question, ["name"]):
            raise InputError(
                f"The question about an image is {self.question!r}: it must be a text with "
                "{name} and no other field."
            )

    def text(self, query: Query) -> str:
        """Return the question that a query, whose word is the key of an image, stands for."""
        return self.question.format(name=query.class_names[0])


VISION_PROMPTS = VisionPrompts()


def vision_identity(judge: VisionJudge) -> str:
    """Return what determines the answers of a vision judge, its name where it does not say."""
    return str(getattr(judge, "identity", judge.name))


def image_key(image: Image) -> str:
    """Return a SHA-256 (hex) over the size and the pixels of an RGB image."""
    digest = hashlib.sha256(f"{image.mode} {image.width}x{image.height}\n".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def answer_of(margin: float) -> Answer:
    """Return the answer to store for log P(yes) - log P(no)."""
    confidence = 1 / (1 + math.exp(-abs(margin)))
    return Answer(margin > 0, f"log P(yes) - log P(no) = {margin:.2f}", confidence)


def undecided_by(mass: float) -> str:
    """Return the reason of an answer that is left open for P(yes) + P(no) of its first token."""
    return f"about to write something else, P(yes) + P(no) = {mass:.2g}"


def margin_of(answer: Answer) -> float:
    """Return log P(yes) - log P(no) of an answer.

    It is infinite without a confidence, where the word is all that is known, and NaN for an
    undecided answer.
    """
    if answer.yes is None:
        return math.nan
    p = 1.0 if answer.confidence is None else answer.confidence
    margin = math.inf if p >= 1 else -math.inf if p <= 0 else math.log(p) - math.log1p(-p)
    return margin if answer.yes else -margin


def margins_by(
    judge: LanguageModelJudge,
    pictures: dict[str, Image],
    images: Sequence[Image],
    names: Sequence[Sequence[str]],
) -> NDArray[np.float64]:
    """Ask a judge that finds the image of a query, by its word, in `pictures`.

    Arguments and result are those of `VisionJudge.yes_margins`; each answer is stored when it
    arrives. Raises as `LanguageModelJudge.iter_answers`, and ImagesFailedError.
    """
    check_questions(images, names)
    keys = [image_key(image) for image in images]
    pictures.update(zip(keys, images, strict=True))
    queries = [Query(key, (name,)) for key, row in zip(keys, names, strict=True) for name in row]
    margins = np.full(len(queries), np.nan)
    answered = np.zeros(len(queries), dtype=bool)
    width = len(names[0]) if names else 0
    try:
        for batch in judge.iter_answers(queries):
            for position, answer in batch:
                margins[position] = margin_of(answer)
                answered[position] = True
    except QuestionsFailedError as error:
        rows = np.flatnonzero(~answered.reshape(len(images), width).all(axis=1))
        raise ImagesFailedError(str(error), dict.fromkeys(rows.tolist(), str(error))) from error
    finally:
        pictures.clear()
    return margins.reshape(len(images), width)


class QuestionsFailedError(JudgeError):
    """Some questions got no answer; all others were answered, and stored if there is a store."""


def check_questions(images: Sequence[Any], names: Sequence[Sequence[str]]) -> None:
    """Raise InputError unless each image has names, equally many for all."""
    if len(images) != len(names) or len({len(row) for row in names}) > 1:
        raise InputError(
            f"There are {len(images)} images and names for {len(names)}: give each image the same "
            "number of names."
        )
    if wrong := [name for row in names for name in row if not isinstance(name, str) or not name]:
        raise InputError(f"Names must be texts that are not empty, not {wrong[0]!r}.")


def checked_margins(
    judge: VisionJudge, margins: Any, shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Return what a judge gave as float64; InputError for another shape or no numbers.

    True and False are no margins: they would be 1 and 0, which both lean to yes.
    """
    wanted = (
        f"The vision judge {judge.name!r} must return log P(yes) - log P(no) as numbers of "
        f"shape {shape}, NaN where it is undecided"
    )
    try:
        array = as_real(margins, "what it returned").astype(np.float64)
    except InputError as error:
        raise InputError(f"{wanted}; {error}") from error
    if array.shape != shape:
        raise InputError(f"{wanted}; it returned {type(margins).__name__} of shape {array.shape}.")
    return array
