"""What parameters may be: one small object for each kind of value, checked before any work.

A constraint is called with the parameter's name and value and raises `InputError` in one sentence:

    >>> Whole(1)("k", 5)
    >>> Whole(1)("k", 0)
    Traceback (most recent call last):
    negrefine.errors.InputError: k must be a whole number of at least 1, not 0.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from negrefine.errors import InputError

Constraint: TypeAlias = Callable[[str, Any], object]

_LARGEST = 2**63 - 1
# Of a value in a sentence; a file of somebody else may hold megabytes.
_LONGEST = 300


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number of at least `minimum`; bools are none.

    Attributes:
        minimum: The smallest value.
        optional: None is a value, too.
        maximum: The largest value, by default what tensors can hold.
    """

    option_type: ClassVar[type] = int
    minimum: int
    optional: bool = False
    maximum: int = _LARGEST

    def __call__(self, name: str, value: Any) -> None:
        """Raise `InputError` for anything else."""
        if value is None and self.optional:
            return
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not whole or value < self.minimum:
            raise InputError(
                f"{name} must be a whole number of at least {self.minimum}, not {_shown(value)}."
            )
        if value > self.maximum:
            raise InputError(f"{name} must be at most {self.maximum}.")


@dataclass(frozen=True, slots=True)
class Number:
    """A real number in an interval, NaN excluded.

    Attributes:
        text: How a sentence describes the interval: "lie in (0, 1]", "be a finite number".
        low: Lower end.
        high: Upper end.
        closed: Which ends belong to it: "both", "low", "high" or "neither".
        optional: None is a value, too.
    """

    option_type: ClassVar[type] = float
    text: str
    low: float = -math.inf
    high: float = math.inf
    closed: str = "neither"
    optional: bool = False

    def __call__(self, name: str, value: Any) -> None:
        """Raise `InputError` for anything else."""
        if value is None and self.optional:
            return
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        inside = real and (
            self.low < value < self.high
            or (value == self.low and self.closed in {"both", "low"})
            or (value == self.high and self.closed in {"both", "high"})
        )
        if not inside:
            raise InputError(f"{name} must {self.text}, not {_shown(value)}.")
        if isinstance(value, numbers.Integral) and abs(int(value)) > _LARGEST:
            raise InputError(f"{name} must be at most {_LARGEST} in size as a whole number.")


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a few strings."""

    choices: tuple[str, ...]

    def __call__(self, name: str, value: Any) -> None:
        """Raise `InputError` for anything else."""
        if not isinstance(value, str) or value not in self.choices:
            raise InputError(
                f"{name} must be one of {', '.join(self.choices)}, not {_shown(value)}."
            )


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or False, numpy's included."""

    option_type: ClassVar[type] = bool

    def __call__(self, name: str, value: Any) -> None:
        """Raise `InputError` for anything else."""
        if type(value).__name__ not in {"bool", "bool_"}:
            raise InputError(f"{name} must be True or False, not {_shown(value)}.")


@dataclass(frozen=True, slots=True)
class Strings:
    """Several strings in any collection; a single string is a mistake."""

    def __call__(self, name: str, value: Any) -> None:
        """Raise `InputError` for anything else."""
        if isinstance(value, str):
            raise InputError(f"{name} must be a list such as [{_shown(value)}], not one string.")
        if not isinstance(value, Collection) or not all(isinstance(item, str) for item in value):
            raise InputError(f"{name} must be a list of strings, not {_shown(value)}.")


@dataclass(frozen=True, slots=True)
class Text:
    """A string.

    Attributes:
        empty: It may be empty.
        optional: None is a value, too.
    """

    empty: bool = False
    optional: bool = False

    def __call__(self, name: str, value: Any) -> None:
        """Raise `InputError` for anything else."""
        if value is None and self.optional:
            return
        if not isinstance(value, str) or not (value or self.empty):
            raise InputError(f"{name} must be a text, not {_shown(value)}.")


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping that has these fields, and perhaps others.

    Attributes:
        constraints: What each of them may be.
    """

    constraints: Mapping[str, Constraint]

    def __call__(self, name: str, value: Any) -> None:
        """Raise `InputError` for anything else."""
        if not isinstance(value, Mapping):
            raise InputError(f"{name} must be an object, not {_shown(value)}.")
        for field, constraint in self.constraints.items():
            if field not in value:
                raise InputError(f"{name} must have the field {field!r}.")
            constraint(f"{name}.{field}", value[field])


POSITIVE = Number("be positive", low=0)
POSITIVE_OR_NONE = Number("be a positive number", low=0, optional=True)
FINITE = Number("be a finite number")
SEED = Whole(0, maximum=2**64 - 1)


def check_all(owner: object, constraints: Mapping[str, Constraint]) -> None:
    """Check the attributes of an object that a table of constraints names.

    Raises:
        InputError: A value that its constraint refuses.
    """
    for name, constraint in constraints.items():
        constraint(name, getattr(owner, name))


def _shown(value: object) -> str:
    text = repr(value)
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}… ({len(text) - _LONGEST:,} more letters)"
