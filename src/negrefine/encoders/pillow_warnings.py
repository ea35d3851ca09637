"""Warnings that Pillow gives while it reads an image, given again with the name of the image."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from PIL import Image


class _Catcher:
    """Keeps back what Pillow warns in threads that read images.

    Filters and the function that shows warnings belong to the process: both are in place while any
    thread reads, and other warnings go where they went before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_readers = 0
        self._show_otherwise: Callable[..., None] = warnings.showwarning
        self._filter: Any = None
        self.of_thread = threading.local()

    def enter(self) -> None:
        with self._lock:
            self._n_readers += 1
            if warnings.showwarning != self._show:
                self._show_otherwise = warnings.showwarning
                warnings.showwarning = self._show
            if self._filter not in warnings.filters:
                warnings.filterwarnings("always", module=r"PIL\.")
                self._filter = warnings.filters[0]

    def leave(self) -> None:
        with self._lock:
            self._n_readers -= 1
            if self._n_readers:
                return
            if warnings.showwarning == self._show:
                warnings.showwarning = self._show_otherwise
            filters: Any = warnings.filters
            with suppress(ValueError):
                filters.remove(self._filter)

    def _show(self, message: Any, category: Any, *details: Any, **more: Any) -> None:
        kept = getattr(self.of_thread, "kept", None)
        if kept is None:
            self._show_otherwise(message, category, *details, **more)
        else:
            kept.append((" ".join(str(message).split()).rstrip(".") + ".", category))


_catcher = _Catcher()


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Keep back the warnings of Pillow in this block, and give them with `name` if it ends well.

    Those about the number of pixels are dropped, as the limits are checked before.
    """
    here = _catcher.of_thread
    outer = getattr(here, "kept", None)
    kept: list[tuple[str, type[Warning]]] = []
    here.kept = kept
    _catcher.enter()
    try:
        yield
    finally:
        _catcher.leave()
        here.kept = outer
    for message, category in dict.fromkeys(kept):
        if issubclass(category, Image.DecompressionBombWarning):
            continue
        # Our own warnings name the image.
        whose = "" if message.startswith(f"{name}: ") else f"{name}: Pillow warns: "
        warnings.warn(f"{whose}{message}", category, stacklevel=3)
