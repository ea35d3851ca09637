"""Zip archives as shards: their directory is read when the shard is, and members one by one."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from negrefine.encoders.image_files import has_image_extension, kinds_text
from negrefine.errors import ImageError, InputError
from negrefine.shown_text import visible
from negrefine.sources.base import NamedImage
from negrefine.sources.locations import identity_of, shard_error, shown_location
from negrefine.sources.remote import check_protocols, find_urls
from negrefine.sources.urls import is_url
from negrefine.sources.web_images import UrlsShard

SUFFIX = ".zip"


@dataclass(frozen=True)
class ZipShard:
    """The images in a zip archive, of this machine or at a URL.

    Names are those of the members, "zip://inside/a.jpg::a.zip". Other members are left out, and a
    warning counts them by kind. An archive that cannot be read costs one error.
    """

    location: str = field(repr=False)

    @property
    def name(self) -> str:
        """The path or URL of the archive, without secrets."""
        return shown_location(self.location)

    def identity(self) -> str:
        """Return a digest of the location and state of the archive."""
        return identity_of(self.location)

    def __iter__(self) -> Iterator[NamedImage]:
        """Name the images in the order of `find_images`; they are fetched when they are used."""
        others: Counter[str] = Counter()
        place = self.location if is_url(self.location) else os.path.abspath(self.location)  # noqa: PTH100
        try:
            check_protocols(place)
            found = find_urls(f"zip://::{place}", has_image_extension, others)
        except InputError as error:
            yield NamedImage(self.name, ImageError(str(error)))
            return
        # Decompressors, servers and their libraries raise whatever they like.
        except Exception as error:
            yield NamedImage(self.name, shard_error(self.location, error, 0))
            return
        if n := others.total():
            were = "member was" if n == 1 else "members were"
            warnings.warn(
                f"{visible(self.name)}: {n} other {were} left out "
                f"({kinds_text(others.elements())}).",
                stacklevel=2,
            )
        if not found:
            yield NamedImage(self.name, ImageError(f"{self.name}: holds no image; check it."))
            return
        yield from UrlsShard(*(tuple(column) for column in zip(*found, strict=True)))
