"""A folder for a file that is being written, and the end of those that killed processes left."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from negrefine.files.lock import lock_directory

# Where there are no locks, a folder of this age is nobody's.
_OLD_SECONDS = 3600.0


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target`, which is removed at the end.

    The folder is locked while its process lives, so the next one that makes a folder for the same
    target knows what a killed one has left, and removes it.

    Raises:
        OSError: It cannot be made.
    """
    # The same for one target, and short whatever its name is.
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    prefix = f".negrefine-{digest}-"
    # A folder may be writable and not readable.
    with suppress(OSError):
        for name in os.listdir(target.parent):  # noqa: PTH208 - names are enough
            if name.startswith(prefix):
                _remove_abandoned(target.parent / name)
    with ExitStack() as stack:
        folder = None
        while folder is None or not folder.is_dir():
            # Another process may have removed it just before it was locked.
            folder = Path(mkdtemp(prefix=prefix, dir=target.parent))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            with suppress(FileNotFoundError):
                stack.enter_context(lock_directory(folder))
        yield folder


def _remove_abandoned(folder: Path) -> None:
    """Remove a folder unless its process may live; what cannot be removed is left."""
    with suppress(OSError), lock_directory(folder, wait=0) as locked:
        if locked or time.time() - folder.stat().st_mtime > _OLD_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
