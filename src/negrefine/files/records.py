"""Dataclasses from rows that were read from a file: every field has the type it declares."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_T = TypeVar("_T")
_PLAIN = frozenset({str, bool, int, float, type(None)})


def as_row(value: DataclassInstance) -> dict[str, Any]:
    """Return what `dataclasses.asdict` does of a dataclass that `from_row` returns.

    Values are not copied, because none of them can change, which is several times as fast.
    """
    row = {name: getattr(value, name) for name in _fields(type(value))}
    for name, each in row.items():
        # Most values are none, and to know that of a type is faster than to ask `is_dataclass`.
        if type(each) not in _PLAIN and is_dataclass(each) and not isinstance(each, type):
            row[name] = as_row(each)
    return row


def from_row(cls: type[_T], row: object) -> _T:
    """Return a dataclass from JSON data, the inverse of `as_row`.

    Fields may be str, bool, int, finite floats, None, enumerations, dataclasses of these, and
    unions of them.

    Raises:
        ValueError: The row is no mapping, or a field is unknown, missing or of another type.
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"a row is {short_repr(row)}, not an object")
    known = _fields(cls)  # type: ignore[arg-type]
    for name in row:
        if name not in known:
            raise ValueError(f"a row has the unknown field {short_repr(name)}")
    values = {}
    for name, each in known.items():
        if name in row:
            values[name] = _value(name, each.types, row[name])
        elif each.required:
            raise ValueError(f"a row has no {name!r}")
    return cls(**values)


@dataclass(frozen=True)
class _Field:
    types: tuple[type, ...]
    required: bool


@cache
def _fields(cls: Any) -> dict[str, _Field]:
    hints = get_type_hints(cls)
    return {
        each.name: _Field(
            _members(hints[each.name]),
            each.default is MISSING and each.default_factory is MISSING,
        )
        for each in fields(cls)
    }


def _members(hint: Any) -> tuple[type, ...]:
    return get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)


def _value(name: str, types: tuple[type, ...], value: Any) -> Any:
    kind = type(value)
    if kind in types and (kind is not float or math.isfinite(value)):
        return value
    if kind is int and float in types:
        return value
    for each in types:
        if is_dataclass(each) and isinstance(value, Mapping):
            return from_row(each, value)
        if issubclass(each, Enum) and isinstance(value, str):
            return each(value)
    raise ValueError(f"{name!r} of a row is {short_repr(value)}")


def short_repr(value: object) -> str:
    """Return at most 60 characters that show a value which was read from a file."""
    # What refers to itself many times over in YAML may have no end in words.
    shortening = reprlib.Repr()
    shortening.maxlevel, shortening.maxstring, shortening.maxother = 3, 100, 100
    text = shortening.repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
