"""A lock on a directory, which ends with the process that holds it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_WAIT_SECONDS = 60.0
_POLL_SECONDS = 0.005
_BUSY = (errno.EAGAIN, errno.EACCES)


@contextmanager
def lock_directory(
    directory: Path, *, shared: bool = False, wait: float | None = None
) -> Iterator[bool]:
    """Keep other processes, and other threads, from locking a directory; several may share a lock.

    The lock is on the directory itself, so no file is left behind, not even by a killed process.
    Yields False where the system or the file system has no such locks, as some network file
    systems: then nobody is kept out.

    Raises:
        TimeoutError: Others hold it for longer than `wait` seconds, by default a minute.
        OSError: The directory is missing or unreadable.
    """
    if fcntl is None:
        yield False
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    locked = False
    try:
        locked = _lock(
            descriptor,
            fcntl.LOCK_SH if shared else fcntl.LOCK_EX,
            _WAIT_SECONDS if wait is None else wait,
        )
        yield locked
    finally:
        if locked:
            # Closing is not enough if the process was forked meanwhile.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _lock(descriptor: int, kind: int, wait: float) -> bool:
    """Return whether there are locks here, once the directory is locked."""
    give_up = time.monotonic() + wait
    while (problem := _try_lock(descriptor, kind)) in _BUSY:
        if time.monotonic() > give_up:
            raise TimeoutError(
                errno.ETIMEDOUT,
                f"another process has been writing there for {wait:g} seconds",
            )
        time.sleep(_POLL_SECONDS)
    return problem is None


def _try_lock(descriptor: int, kind: int) -> int | None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno
    return None
