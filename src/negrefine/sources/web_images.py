"""Single images elsewhere as shards."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import IO, cast

from negrefine.errors import ImageError, InputError
from negrefine.sources.base import NamedImage
from negrefine.sources.bounded import read_bounded
from negrefine.sources.files import MOST_FILES, digest
from negrefine.sources.remote import is_momentary, open_url, state_at
from negrefine.sources.urls import mask_error, shown

THREADS = 16
"""Objects that are asked for at the same time."""
PAUSES = (0.5, 2.0)
"""Seconds before an object is asked for again after a fault of the moment."""


class RemoteImage:
    """An image elsewhere as a file object, which is fetched when it is read; it can be pickled."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = shown(url)

    def seekable(self) -> bool:
        """Return False: every `read` starts anew."""
        return False

    def read(self) -> bytes:
        """Fetch the image, again after a fault of the moment.

        Raises ImageError with a sentence, and for too many bytes.
        """
        for pause in (*PAUSES, None):
            try:
                with open_url(self.url) as stream:
                    return read_bounded(stream, self.name)
            except InputError as error:
                raise error if isinstance(error, ImageError) else ImageError(str(error)) from error
            # Servers and their libraries raise whatever they like.
            except Exception as error:
                if pause is None or not is_momentary(error):
                    raise ImageError(self._fault(error)) from error
            time.sleep(pause)
        raise AssertionError

    def _fault(self, error: Exception) -> str:
        why = mask_error(self.url, error)
        return f"{self.name}: cannot be fetched ({why}); check the address and the connection."


@dataclass(frozen=True)
class UrlsShard:
    """Single images elsewhere, at most `MOST_FILES`, with what tells their states, "" unknown."""

    urls: tuple[str, ...] = field(repr=False)
    states: tuple[str, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """The first URL, without secrets."""
        return shown(self.urls[0])

    def identity(self) -> str:
        """Return a digest of the URLs and states, "" if not all states are known."""
        return digest(*self.urls, *self.states) if all(self.states) else ""

    def with_states(self) -> list[tuple[str, str]]:
        """Return the pairs of URL and state."""
        return list(zip(self.urls, self.states, strict=True))

    def __iter__(self) -> Iterator[NamedImage]:
        """Name the images, after servers were asked for states that are not known."""
        with ThreadPoolExecutor(THREADS) as pool:
            waiting: deque[tuple[str, str | Future[str]]] = deque()
            for url, state in self.with_states():
                waiting.append((url, state or pool.submit(state_at, url)))
                if len(waiting) > 2 * THREADS:
                    yield _named(*waiting.popleft())
            while waiting:
                yield _named(*waiting.popleft())


def urls_shards(found: Sequence[tuple[str, str]]) -> list[UrlsShard]:
    """Return shards of URLs and their states, in order."""
    parts = [found[start : start + MOST_FILES] for start in range(0, len(found), MOST_FILES)]
    return [UrlsShard(*(tuple(column) for column in zip(*part, strict=True))) for part in parts]


def _named(url: str, state: str | Future[str]) -> NamedImage:
    image = RemoteImage(url)
    found = state if isinstance(state, str) else state.result()
    stamp = f"{image.name}|{digest(url, found)}" if found else ""
    return NamedImage(image.name, cast(IO[bytes], image), stamp)
