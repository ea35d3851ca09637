"""Class names: reading them from a file and checking them."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from negrefine.errors import InputError


def read_class_names(path: str | os.PathLike[str]) -> list[str]:
    """Read one class name per line from a UTF-8 text file; blank lines are skipped.

    Raises:
        InputError: The file is missing, unreadable, not UTF-8 or holds no name.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(
            f"The class list {str(file)!r} does not exist: give a text file with one name per line."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"The class list {str(file)!r} is not UTF-8 text: save it as UTF-8, one name per line."
        ) from error
    except OSError as error:
        raise InputError(
            f"The class list {str(file)!r} cannot be read: {error.strerror}."
        ) from error
    names = [line.strip() for line in text.splitlines() if line.strip()]
    if not names:
        raise InputError(f"The class list {str(file)!r} is empty: write one class name per line.")
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
        if not isinstance(name, str):
            raise InputError(
                f"Class name {position} is {name!r}, a {type(name).__name__}: give strings."
            )
        if not name.strip():
            raise InputError(f"Class name {position} is blank: remove it or fill it in.")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"Class name {position} is {name!r}, which UTF-8 cannot hold: correct it."
            ) from error
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        warnings.warn(
            f"{len(repeated)} class names occur more than once, {repeated[0]!r} first: "
            "each copy counts in the scores.",
            stacklevel=3,
        )
    return names
