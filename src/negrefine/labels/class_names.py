"""Class names: reading them from a file and checking them."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable

from negrefine.errors import InputError
from negrefine.labels.text_files import read_text


def read_class_names(path: str | os.PathLike[str]) -> list[str]:
    """Read one class name per line from a UTF-8 text file; blank lines are skipped.

    Raises:
        InputError: The file is missing, unreadable, not UTF-8 or holds no name.
    """
    text = read_text(path, "class list", "a text file with one name per line")
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise InputError(f"The class list {str(path)!r} is empty: write one class name per line.")
    return names


def check_class_names(class_names: Iterable[str]) -> list[str]:
    """Return the names as a list, unchanged.

    Duplicates are allowed with a warning: ImageNet's own list holds two, and each copy counts in
    every sum over classes.

    Raises:
        InputError: No names, one string instead of a list, or a name that is not a string or blank.
    """
    if isinstance(class_names, (str, bytes)):
        raise InputError("class_names must be a list of names, not one string: wrap it in [].")
    names = list(class_names)
    if not names:
        raise InputError("The class list is empty: give at least one class name.")
    for position, name in enumerate(names):
        problem = ""
        if not isinstance(name, str):
            problem = f"is {name!r}, a {type(name).__name__}: give strings"
        elif not name.strip():
            problem = "is blank: remove it or fill it in"
        elif name != name.encode(errors="ignore").decode():
            problem = f"is {name!r}, which UTF-8 cannot hold: correct it"
        if problem:
            raise InputError(f"Class name {position} {problem}.")
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        warnings.warn(
            f"{len(repeated)} class names occur more than once, {repeated[0]!r} first: "
            "each copy counts in the scores.",
            stacklevel=3,
        )
    return names
