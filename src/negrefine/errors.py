"""Every error that bad input can cause, each with one sentence: what, where, what to do.

Example:
    >>> from negrefine import errors
    >>> try:
    ...     negrefine.load_detector("nowhere/")
    ... except errors.BundleError as error:
    ...     print(str(error).partition(":")[0])
    'nowhere' holds no saved detector (detector.json is missing)
"""

from __future__ import annotations

from collections.abc import Sequence

from negrefine.shown_text import visible

_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "std::bad_alloc")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out; torch says so in errors of several classes."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY)


def one_of(names: Sequence[str]) -> str:
    """Return alternatives as a sentence names them: "a, b or c"."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


class NegrefineError(Exception):
    """Base of all errors that negrefine raises on purpose; their text is `visible`, on one line."""

    def __str__(self) -> str:
        return visible(super().__str__())


class InputError(NegrefineError, ValueError):
    """An argument or a file given by the user cannot be used."""


class ImageError(InputError):
    """One image cannot be read or decoded."""


class EncoderError(NegrefineError):
    """A model directory or hub id cannot be loaded as an image-text encoder."""


class JudgeError(NegrefineError):
    """A language model that should answer NegFilter's questions cannot be loaded or reached."""


class BundleError(NegrefineError):
    """A saved detector is missing, damaged, too new, or belongs to another encoder."""


class NotFittedError(NegrefineError, RuntimeError):
    """A detector was used before `fit` (or before a threshold was set)."""
