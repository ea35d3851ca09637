"""What a misspelt name probably means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def plain_name(name: str) -> str:
    """Return the letters and digits of a name in lower case, for comparisons."""
    return "".join(character for character in name.casefold() if character.isalnum())


def similar_names(name: str, known: Iterable[str], least: float = 0.5) -> list[str]:
    """Return at most five of the known names that are like a name, the likeliest first.

    `least` is how like they must be, as a fraction.
    """
    keys = {plain_name(key): key for key in known}
    plain = plain_name(name)
    # Names that begin alike come first, in their order: "imagenet" means "imagenet-1k".
    longer = [key for key in keys if plain and key.startswith(plain)]
    # Names that are hardly like it are offered only where none is very like it.
    close = difflib.get_close_matches(plain, keys, n=5, cutoff=0.8)
    if not close:
        close = difflib.get_close_matches(plain, keys, n=5, cutoff=least)
    return [keys[key] for key in dict.fromkeys([*longer, *close])][:5]


def hint(name: str, known: Iterable[str], least: float = 0.5) -> str:
    """Return "did you mean ...?", or "choose from ..." where no known name is like it."""
    known = list(known)
    similar = similar_names(name, known, least)
    if similar:
        return f"did you mean {' or '.join(similar)}?"
    return f"choose from {', '.join(known)}."
