"""Tar archives as shards, such as those of WebDataset: read from start to end, never unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, Any

from negrefine.encoders.image_files import has_image_extension, is_noise
from negrefine.errors import ImageError
from negrefine.sources.base import NamedImage
from negrefine.sources.bounded import NamedBytes, read_bounded
from negrefine.sources.locations import Archive, open_location, shard_error
from negrefine.sources.remote import left_out_kind

SUFFIXES = (".tar", ".tar.gz", ".tgz")

# More than any header beside a member has: long names, links and attributes.
_HEADER_BYTES = 1 << 20
_HEADERS = frozenset(
    {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE}
    | {tarfile.SOLARIS_XHDTYPE}
)


class _Header(tarfile.TarInfo):
    """A header that is read within a bound; where no header is, the archive is damaged."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> _Header:
        """Return the next header. Without this, one that is damaged would pass for the end."""
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.EmptyHeaderError as error:  # type: ignore[attr-defined]
            raise tarfile.ReadError("it has no mark of its end") from error
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from error

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in _HEADERS and self.size > _HEADER_BYTES:
            raise tarfile.ReadError("a header is too long")
        return super()._proc_member(archive)  # type: ignore[misc]


@dataclass(frozen=True)
class TarShard(Archive):
    """The images in a tar archive, packed with gzip or not, of this machine or at a URL.

    An image is a member with the extension of one. Members with the same key, the name up to the
    first "." of its last part, are one sample of WebDataset; members of samples without an image
    are left out, and a warning counts them by kind. Names are "shard.tar/key.jpg".
    """

    def __iter__(self) -> Iterator[NamedImage]:
        """Read the images in order; the last item is an error if the archive ends early."""
        n_images = 0
        try:
            with open_location(self.location) as stream:
                for member in self._members(stream):
                    yield member
                    n_images += 1
            if not n_images:
                yield NamedImage(self.name, ImageError(f"{self.name}: holds no image; check it."))
        # Decompressors, servers and their libraries raise whatever they like.
        except Exception as error:
            yield NamedImage(self.name, shard_error(self.location, error, n_images))

    def _members(self, stream: IO[bytes]) -> Iterator[NamedImage]:
        others: dict[str, list[str]] = {}
        with_image = set()
        with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Header) as archive:
            while (member := archive.next()) is not None:
                # They would be kept for the whole archive.
                archive.members.clear()  # type: ignore[attr-defined]
                path = PurePosixPath(member.name)
                if member.isdir() or any(is_noise(part) for part in path.parts if part != ".."):
                    continue
                key = str(path.parent / path.name.partition(".")[0])
                if not (member.isreg() and has_image_extension(path.name)):
                    kind = left_out_kind(path.name) if member.isreg() else "a link or device"
                    others.setdefault(key, []).append(kind)
                    continue
                with_image.add(key)
                name = f"{self.name}/{member.name}"
                image: NamedBytes | ImageError
                content = archive.extractfile(member)
                assert content is not None  # noqa: S101 - a regular file
                try:
                    image = NamedBytes(read_bounded(content, name, member.size), name)
                except ImageError as error:
                    image = error
                yield NamedImage(name, image)
        kinds = [kind for key, found in others.items() if key not in with_image for kind in found]
        self._warn_of_others(kinds)
