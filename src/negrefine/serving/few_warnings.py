"""Warnings about images, of which clients choose how many there are."""

from __future__ import annotations

import threading
import time
import warnings
from contextlib import suppress
from typing import Any

_PER_MINUTE = 10
_MINUTE = 60.0


class FewWarnings:
    """Takes the place of `warnings.showwarning`, and shows at most 10 warnings a minute.

    The first one of a later minute says how many were left out.
    """

    def __init__(self) -> None:
        self._show = warnings.showwarning
        self._lock = threading.Lock()
        self._since = -_MINUTE
        self._n = 0

    def __call__(self, message: Any, category: Any, *details: Any, **more: Any) -> None:
        """Show a warning, or count it."""
        with self._lock:
            now = time.monotonic()
            left_out = max(0, self._n - _PER_MINUTE)
            if now - self._since >= _MINUTE:
                self._since, self._n = now, 0
            else:
                left_out = 0
            self._n += 1
            shown = self._n <= _PER_MINUTE
        if shown:
            if left_out:
                message = f"{message} Before it, {left_out} warnings were left out."
            # As with the log, nobody may be there to read it.
            with suppress(OSError):
                self._show(message, category, *details, **more)


def limit_warnings() -> None:
    """Show few warnings about images, and remember none: Python would keep each for ever."""
    warnings.filterwarnings("always", module=r"negrefine\.encoders\.")
    warnings.showwarning = FewWarnings()
