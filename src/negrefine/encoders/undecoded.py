"""A bound on the files in memory that wait to be decoded."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

from negrefine.encoders.image_sources import ImageSource

MOST_BYTES = 256 << 20
"""No further image is taken while those that wait to be decoded hold more bytes."""

_T = TypeVar("_T")


class UndecodedBytes:
    """Counts bytes of images that threads decode, where a source gives them as bytes or buffers.

    Otherwise an iterator of large files would be read as fast as it gives them, two batches ahead.
    """

    def __init__(self) -> None:
        self._n = 0
        self._changed = threading.Condition()

    def with_room(self, sources: Iterable[ImageSource]) -> Iterator[ImageSource]:
        """Yield sources, each as soon as there is room for more."""
        remaining = iter(sources)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._n <= MOST_BYTES)
            try:
                yield next(remaining)
            except StopIteration:
                return

    def counted(self, source: ImageSource, decoding: Future[_T]) -> Future[_T]:
        """Count the bytes of a source until it is decoded; return the future of that."""
        n = held_bytes(source)
        self._add(n)
        decoding.add_done_callback(lambda _: self._add(-n))
        return decoding

    def _add(self, n: int) -> None:
        with self._changed:
            self._n += n
            self._changed.notify_all()


def held_bytes(source: object) -> int:
    """Return the bytes of an encoded image that is held in memory, 0 for anything else."""
    if isinstance(source, io.BytesIO):
        return source.getbuffer().nbytes
    return len(source) if isinstance(source, bytes) else 0
