"""The fields of a template that somebody else may have written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any

from negrefine.errors import InputError


def has_fields(template: Any, names: Iterable[str]) -> bool:
    """Return whether a text has each of these fields, in braces, and no other.

    A field is a name, perhaps with `!r`. Attributes of what is filled in would say what the reader
    of the text shall not know, and a width would make it as long as memory allows.

        >>> has_fields("Is there a {name}?", ["name"]), has_fields("a {name:>999999}", ["name"])
        (True, False)
    """
    try:
        parts = [part[1:] for part in Formatter().parse(template) if part[1] is not None]
    except (TypeError, ValueError):
        return False
    plain = all(not spec and conversion in {None, "r", "s", "a"} for _, spec, conversion in parts)
    return plain and {field for field, _, _ in parts} == set(names)


def check_templates(prompts: object, fields: Mapping[str, Iterable[str]], called: str) -> None:
    """Raise InputError unless each named attribute is a template with exactly its fields.

    `called` says in the message what an attribute is, with its name in place of "{!r}".
    """
    for name, own in fields.items():
        template = getattr(prompts, name)
        if not has_fields(template, own):
            wanted = " and ".join(f"{{{field}}}" for field in own)
            raise InputError(
                f"{called.format(name)} is {template!r}: it must contain {wanted} and no other "
                "field."
            )
