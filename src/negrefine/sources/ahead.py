"""Images of sources read and fetched in threads, ahead of what uses them and within bounds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic, TypeVar

from negrefine.encoders.image_sources import ImageSource
from negrefine.encoders.undecoded import held_bytes
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
    """Fetches images that are elsewhere, several at the same time.

    No further one is begun while those that are fetched and not taken hold more than `MOST_BYTES`.
    They are begun in the order of `start`, in which they are to be taken.
    """

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS)
        self._changed = threading.Condition()
        self._n_bytes = 0
        self._n_started = self._n_begun = 0
        self._stopped = False

    def __enter__(self) -> Fetcher:
        """Do nothing: threads are started when they are needed."""
        return self

    def __exit__(self, *_: object) -> None:
        """Fetch nothing more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def start(self, image: ImageSource | ImageError) -> ImageSource | ImageError | Fetching:
        """Return the future bytes of an image elsewhere, anything else as it is."""
        if not isinstance(image, RemoteImage):
            return image
        future = self._pool.submit(self._fetched, image, self._n_started)
        self._n_started += 1
        return Fetching(future, self._taken)

    def _fetched(self, image: RemoteImage, turn: int) -> NamedBytes | ImageError:
        with self._changed:
            # In turn: later images must not take the room that the next one to be taken needs.
            self._changed.wait_for(
                lambda: self._stopped or (self._n_begun == turn and self._n_bytes <= MOST_BYTES)
            )
            if self._stopped:
                return ImageError(f"{image.name}: was not fetched, as the run has ended.")
            self._n_begun += 1
            self._changed.notify_all()
        content = fetched(image)
        with self._changed:
            self._n_bytes += held_bytes(content)
        return content

    def _taken(self, content: NamedBytes | ImageError) -> None:
        with self._changed:
            self._n_bytes -= held_bytes(content)
            self._changed.notify_all()


@dataclass(frozen=True)
class Fetching:
    """An image that a `Fetcher` fetches, to be taken once."""

    future: Future[NamedBytes | ImageError]
    taken: Callable[[NamedBytes | ImageError], None]

    def take(self) -> NamedBytes | ImageError:
        """Wait for the bytes, or for why there are none."""
        content = self.future.result()
        self.taken(content)
        return content


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
            yield (named, fetcher.start(named.image)), held_bytes(named.image)

    with Fetcher() as fetcher, ReadAhead(started(fetcher)) as ahead:
        for named, image in ahead.burst():
            yield replace(named, image=image.take() if isinstance(image, Fetching) else image)
