"""Open regular files only: pipes, sockets, devices and files of the kernel may never end."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import IO

FOLDER = "a folder"


class NotRegularError(OSError):
    """What has the name of a file is no regular file, and reading it may never end.

    Attributes:
        what: `FOLDER`, or such as "a named pipe".
    """

    def __init__(self, what: str) -> None:
        code = errno.EISDIR if what == FOLDER else errno.EINVAL
        super().__init__(code, f"it is {what}, not a regular file")
        self.what = what


def open_regular(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file for reading in binary mode, or raise OSError; this never waits.

    Raises:
        NotRegularError: It is a folder, pipe, socket, device or link to one.
        OSError: As `open` does.
    """
    # Opening a device may already do something, such as rewinding a tape.
    _check(Path(path).stat())
    # A pipe that has come in between is not waited for.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    descriptor = os.open(path, flags)
    try:
        _check(os.fstat(descriptor))
        return open(descriptor, "rb")  # noqa: PTH123 - the caller closes it
    except OSError:
        os.close(descriptor)
        raise


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file; errors are those of `open_regular`."""
    with open_regular(path) as stream:
        return stream.read()


def check_regular(path: Path) -> None:
    """Raise `NotRegularError` for a pipe, socket, device or link to one, and OSError as `stat`.

    What is missing, or a folder, which no file replaces, is no error.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        _check(status)


def _check(status: os.stat_result) -> None:
    what = FOLDER if stat.S_ISDIR(status.st_mode) else special_kind(status)
    if what:
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
