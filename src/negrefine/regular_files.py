"""Open regular files only: pipes, sockets, devices and files of the kernel may never end."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO


class NotRegularError(OSError):
    """What has the name of a file is no regular file, and reading it may never end.

    Attributes:
        what: Such as "a named pipe".
    """

    def __init__(self, what: str) -> None:
        super().__init__(errno.EINVAL, f"is no ordinary file but {what}")
        self.what = what


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file for reading in binary mode, or raise OSError; this never waits.

    Raises:
        NotRegularError: It is a pipe, socket, device or link to one.
        OSError: As `open` does.
    """
    # Opening a device may already do something, such as rewinding a tape.
    check_regular(path)
    # A pipe that has come in between is not waited for.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    stream = open(os.open(path, flags), "rb")  # noqa: SIM115, PTH123 - the caller closes it
    if what := special_kind(os.fstat(stream.fileno())):
        stream.close()
        raise NotRegularError(what)
    return stream


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file; errors are those of `open_regular`."""
    with open_regular(path) as stream:
        return stream.read()


def check_regular(path: str | os.PathLike[str]) -> None:
    """Raise NotRegularError for what is no regular file or folder, OSError if there is nothing."""
    if what := special_kind(Path(path).stat()):
        raise NotRegularError(what)


def special_kind(status: os.stat_result) -> str | None:
    """Return what a file is that must not be opened, as reading may wait for ever; or None."""
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        return None
    if stat.S_ISREG(mode):
        # Some files of /proc and /sys wait for news, and others have no end.
        return "a file of the kernel" if status.st_dev in _kernel_devices() else None
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


@cache
def _kernel_devices() -> frozenset[int]:
    devices = set()
    for place in ("/proc", "/sys", "/sys/kernel/debug", "/sys/kernel/tracing"):
        with suppress(OSError):
            devices.add(Path(place).stat().st_dev)
    # Where these are no file systems of their own.
    return frozenset(devices - {Path("/").stat().st_dev})
