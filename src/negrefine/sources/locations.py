"""A file with many images, of this machine or at a URL: opened, told apart, and its errors."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from negrefine.encoders.image_files import kinds_text
from negrefine.errors import ImageError
from negrefine.files.identity import file_stamp
from negrefine.files.reading import reason
from negrefine.files.regular import open_regular
from negrefine.shown_text import visible
from negrefine.sources.files import digest
from negrefine.sources.remote import open_url, state_at
from negrefine.sources.urls import is_url, mask_error, shown


def shown_location(location: str) -> str:
    """Return a path as it is, and a URL without secrets."""
    return shown(location) if is_url(location) else location


def identity_of(location: str) -> str:
    """Return a digest of a path or URL and of the state of what is there, "" if it is not known."""
    state = state_at(location) if is_url(location) else file_stamp(Path(location))
    return digest(location, state) if state else ""


@contextmanager
def open_location(location: str, *, streamed: bool = True) -> Iterator[IO[bytes]]:
    """Open a file to be read from start to end, or anywhere if not `streamed`."""
    if is_url(location):
        with open_url(location, streamed=streamed) as stream:
            yield stream
    else:
        with open_regular(location) as stream:
            yield stream


def shard_error(location: str, error: Exception, n_images: int) -> ImageError:
    """Return the error for what could not be read of a shard after so many images."""
    name = shown_location(location)
    why = mask_error(location, error) if is_url(location) else reason(error)
    if n_images == 0:
        return ImageError(f"{name}: cannot be read ({why}); check it, or copy it again.")
    images = "1 image" if n_images == 1 else f"{n_images} images"
    return ImageError(
        f"{name}: ends early, after {images} ({why}); the rest is lost: copy it again."
    )


@dataclass(frozen=True)
class Archive:
    """Where an archive of images is; its kinds say how its members are read."""

    location: str = field(repr=False)

    @property
    def name(self) -> str:
        """The path or URL of the archive, without secrets."""
        return shown_location(self.location)

    def identity(self) -> str:
        """Return a digest of the location and state of the archive."""
        return identity_of(self.location)

    def _warn_of_others(self, kinds: Sequence[str]) -> None:
        """Warn of members that are left out, whose kinds are given, if there are any."""
        if kinds:
            were = "member was" if len(kinds) == 1 else "members were"
            warnings.warn(
                f"{visible(self.name)}: {len(kinds)} other {were} left out ({kinds_text(kinds)}).",
                stacklevel=3,
            )
