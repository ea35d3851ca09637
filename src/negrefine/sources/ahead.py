"""Images of sources read and fetched in threads, ahead of what uses them and within bounds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any, Generic, TypeVar

from negrefine.encoders.image_sources import ImageSource
from negrefine.errors import ImageError
from negrefine.sources.base import NamedImage, Shard
from negrefine.sources.bounded import NamedBytes
from negrefine.sources.web_images import THREADS, RemoteImage

_T = TypeVar("_T")

MOST_ITEMS = 128
"""Items that are read ahead."""
MOST_BYTES = 256 << 20
"""No further item is read while those that are read ahead hold more bytes."""


class ReadAhead(Generic[_T]):
    """Runs an iterator in a thread of its own, at most `MOST_ITEMS` and `MOST_BYTES` ahead.

    An error of the iterator is raised where the items are used. As a context manager it stops the
    thread, without waiting for what it reads just then, such as standard input.
    """

    def __init__(self, items: Iterable[tuple[_T, int]]) -> None:
        """`items` are pairs of an item and the bytes it holds."""
        self._waiting: deque[tuple[_T, int]] = deque()
        self._n_bytes = 0
        self._changed = threading.Condition()
        self._ended = self._stopped = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(items,), daemon=True)

    def __enter__(self) -> ReadAhead[_T]:
        """Start reading."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify_all()

    @property
    def is_used_up(self) -> bool:
        """Whether all items were taken; waits for the next one."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            return not self._waiting and self._error is None

    def burst(self, wait: float | None = None) -> Iterator[_T]:
        """Yield items to the end or, if `wait` is given, until none came for so many seconds."""
        while True:
            with self._changed:
                came = self._changed.wait_for(lambda: self._waiting or self._ended, wait)
                if not came:
                    return
                if not self._waiting:
                    if self._error is not None:
                        raise self._error
                    return
                item, n_bytes = self._waiting.popleft()
                self._n_bytes -= n_bytes
                self._changed.notify_all()
            yield item

    def _run(self, items: Iterable[tuple[_T, int]]) -> None:
        try:
            for item, n_bytes in items:
                with self._changed:
                    self._changed.wait_for(lambda: self._stopped or self._has_room())
                    if self._stopped:
                        return
                    self._waiting.append((item, n_bytes))
                    self._n_bytes += n_bytes
                    self._changed.notify_all()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _has_room(self) -> bool:
        return len(self._waiting) < MOST_ITEMS and self._n_bytes <= MOST_BYTES


class Fetcher:
    """Fetches images that are elsewhere, several at the same time."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS)

    def __enter__(self) -> Fetcher:
        """Do nothing: threads are started when they are needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Fetch nothing more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def start(
        self, image: ImageSource | ImageError
    ) -> ImageSource | ImageError | Future[NamedBytes | ImageError]:
        """Return the future bytes of an image elsewhere, anything else as it is."""
        return self._pool.submit(fetched, image) if isinstance(image, RemoteImage) else image


def fetched(image: RemoteImage) -> NamedBytes | ImageError:
    """Return the bytes of an image elsewhere, or why there are none."""
    try:
        return NamedBytes(image.read(), image.name)
    except ImageError as error:
        return error


def read_images(shard: Shard, start: int = 0) -> Iterator[NamedImage]:
    """Yield the images of a shard from a position on, read and fetched ahead."""

    def started(fetcher: Fetcher) -> Iterator[tuple[tuple[NamedImage, Any], int]]:
        for named in islice(shard, start, None):
            held = named.image.getbuffer().nbytes if isinstance(named.image, NamedBytes) else 0
            yield (named, fetcher.start(named.image)), held

    with Fetcher() as fetcher, ReadAhead(started(fetcher)) as ahead:
        for named, image in ahead.burst():
            yield replace(named, image=image.result() if isinstance(image, Future) else image)
