"""The directory of answers and embeddings that are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

from negrefine.errors import InputError

VARIABLE = "NEGREFINE_CACHE"


def cache_directory() -> Path:
    """Return $NEGREFINE_CACHE, or the user's cache directory on this operating system.

    Raises:
        InputError: There is no home directory, as in a container without an entry for its user.
    """
    try:
        if chosen := os.environ.get(VARIABLE):
            return Path(chosen).expanduser()
        import platformdirs

        return Path(platformdirs.user_cache_dir("negrefine", appauthor=False))
    except RuntimeError as error:
        raise InputError(
            f"There is no home directory for the cache ({error}): set {VARIABLE} to a folder that "
            "can be written."
        ) from error


def expanded(path: str | os.PathLike[str]) -> Path:
    """Return a path with "~" as the home directory.

    Raises:
        InputError: There is no such directory, as for "~nobody".
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"The home directory in {os.fspath(path)!r} is not known: write the path in full."
        ) from error
