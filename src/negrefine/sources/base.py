"""What every source of images is made of: shards, which yield named images in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from negrefine.encoders.image_sources import ImageSource
from negrefine.errors import ImageError
from negrefine.shown_text import visible


@dataclass(frozen=True)
class NamedImage:
    """One image of a source, or the reason why there is none.

    Attributes:
        name: What rows of results call it; others' text.
        image: As for `read_image`; a file object may be fetched only when it is read. An ImageError
            makes a row with this error.
        stamp: Changes if this image does. None where `Shard.identity` and the position tell, and ""
            where nothing tells, so that no earlier result is taken for it.
    """

    name: str
    image: ImageSource | ImageError
    stamp: str | None = None


class Shard(Protocol):
    """A part of a source that is read in order, independently of other shards, any number of times.

    Shards are plain dataclasses, which can be pickled and read in another process. What cannot be
    read yields an ImageError in its place, and so does a shard that ends early, as its last item:
    iteration raises no error for what is wrong with the images.
    """

    @property
    def name(self) -> str:
        """What error rows, journals and files of parts call the shard; always the same."""
        ...

    def identity(self) -> str:
        """Return a text without secrets that changes if the content of the shard does.

        It is "" if nothing tells, so that no earlier result is taken for the shard.
        """
        ...

    def __iter__(self) -> Iterator[NamedImage]:
        """Read the images in order."""
        ...


def stamp_of(identity: str, position: int, named: NamedImage) -> str:
    """Return what tells an image of a shard with this identity from others, "" if nothing does."""
    if named.stamp is not None:
        return named.stamp
    return f"{identity}|{position}|{named.name}" if identity else ""


def error_text(name: str, error: ImageError) -> str:
    """Return what an error says, with the name of the image before it if it does not say it."""
    sentence = str(error)
    return sentence if sentence.startswith(visible(name)) else f"{visible(name)}: {sentence}"
