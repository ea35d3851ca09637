"""Zip archives as shards: their directory is read when the shard is, and members one by one."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from negrefine.encoders.image_files import has_image_extension
from negrefine.errors import ImageError, InputError
from negrefine.shown_text import visible
from negrefine.sources.base import NamedImage
from negrefine.sources.locations import Archive, shard_error
from negrefine.sources.remote import check_protocols, filesystem, find_urls
from negrefine.sources.urls import is_url
from negrefine.sources.web_images import UrlsShard

SUFFIX = ".zip"


@dataclass(frozen=True)
class ZipShard(Archive):
    """The images in a zip archive, of this machine or at a URL.

    Names are those of the members, "zip://inside/a.jpg::a.zip". Other members are left out, and a
    warning counts them by kind. An archive that cannot be read costs one error.
    """

    def __iter__(self) -> Iterator[NamedImage]:
        """Name the images in the order of `find_images`; they are fetched when they are used."""
        others: Counter[str] = Counter()
        place = self.location if is_url(self.location) else os.path.abspath(self.location)  # noqa: PTH100
        try:
            check_protocols(place)
            url = f"zip://::{place}"
            found = find_urls(url, has_image_extension, others)
            repeated = _repeated(filesystem(url)[0].zip.namelist())
        except InputError as error:
            yield NamedImage(self.name, ImageError(str(error)))
            return
        # Decompressors, servers and their libraries raise whatever they like.
        except Exception as error:
            yield NamedImage(self.name, shard_error(self.location, error, 0))
            return
        self._warn_of_others(list(others.elements()))
        if repeated:
            warnings.warn(
                f"{visible(self.name)}: holds {len(repeated)} images twice or more under one name, "
                f"{visible(repeated[0])} first; the last of each name is read.",
                stacklevel=2,
            )
        if not found:
            yield NamedImage(self.name, ImageError(f"{self.name}: holds no image; check it."))
            return
        yield from UrlsShard(*(tuple(column) for column in zip(*found, strict=True)))


def _repeated(names: list[str]) -> list[str]:
    """Return the names of images that occur more than once, sorted."""
    times = Counter(names)
    return sorted(n for n, count in times.items() if count > 1 and has_image_extension(n))
