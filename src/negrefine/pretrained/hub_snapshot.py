"""Files of one commit of a repository on the hub, kept in the cache of huggingface_hub.

Each file is downloaded beside its place and moved there when it is whole, so a run that is killed
leaves no half file. Only files that are asked for by name are downloaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from negrefine.errors import NegrefineError
from negrefine.pretrained.hub_address import HubAddress
from negrefine.pretrained.hub_client import hub_client
from negrefine.pretrained.hub_errors import hub_failure, is_unreachable

# A branch may move between two requests.
_ATTEMPTS = 5


@dataclass(frozen=True)
class HubSnapshot:
    """One commit of a repository.

    Attributes:
        address: The repository at that commit.
        known_sizes: `sizes` if the hub was asked already.
        error: Class of all errors.
    """

    address: HubAddress
    known_sizes: Mapping[str, int] | None
    error: type[NegrefineError]

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each file by name; asks the hub, and raises `error` if it cannot be reached."""
        if self.known_sizes is not None:
            return self.known_sizes
        with self._reading("be read"), hub_client(None, self.error) as api:
            return _look(api, self.address)[1]

    def cached(self, name: str) -> Path | None:
        """Return the path of a file in the cache, None if it is not there."""
        from huggingface_hub import try_to_load_from_cache

        revision = str(self.address.revision)
        found = try_to_load_from_cache(self.address.repository, name, revision=revision)
        return Path(found) if isinstance(found, str) else None

    def fetch(self, name: str, most: int) -> Path | None:
        """Return the path of a file in the cache, downloaded if need be; None if there is none.

        Raises:
            error: It has more than `most` bytes, or the hub cannot be reached.
        """
        if (path := self.cached(name)) is not None:
            return path
        if name not in self.sizes:
            return None
        if self.sizes[name] > most:
            raise self.error(
                f"{name} of {str(self.address)!r} has {self.sizes[name]:,} bytes, more than the "
                f"{most:,} that such a file may have: it was not downloaded."
            )
        revision = self.address.revision
        with self._reading(f"be read ({name})"), hub_client(None, self.error) as api:
            return Path(api.hf_hub_download(self.address.repository, name, revision=revision))

    @contextmanager
    def _reading(self, action: str) -> Iterator[None]:
        try:
            yield
        except NegrefineError:
            raise
        except Exception as failure:
            raise self.error(hub_failure(failure, self.address, action)) from failure


def open_snapshot(
    address: HubAddress, known_by: str, most: int, error: type[NegrefineError]
) -> HubSnapshot:
    """Return the commit that an address stands for now.

    An address with a whole commit needs no network as long as the files are in the cache. Of a
    branch or tag the file `known_by` is downloaded, if it is there and has at most `most` bytes:
    the cache then knows which commit this was. Where the hub does not answer, the branch or tag is
    taken to be what it was then, with a warning.

    Raises:
        error: There is no such repository or revision, or the hub cannot be reached.
    """
    if address.is_pinned:
        return HubSnapshot(address, None, error)
    try:
        with hub_client(None, error) as api:
            for _ in range(_ATTEMPTS):
                commit, sizes = _look(api, address)
                if sizes.get(known_by, most + 1) > most:
                    break
                path = api.hf_hub_download(address.repository, known_by, revision=address.revision)
                if Path(path).parent.name == commit:
                    break
    except NegrefineError:
        raise
    except Exception as failure:
        cached = _cached_commit(address, known_by) if is_unreachable(failure) else None
        if cached is None:
            raise error(hub_failure(failure, address, "be read")) from failure
        warnings.warn(
            f"The hub does not answer: {str(address)!r} is used as it was when it was downloaded "
            f"last, at commit {cached}, and may have changed since.",
            stacklevel=2,
        )
        return HubSnapshot(address.at(cached), None, error)
    return HubSnapshot(address.at(commit), sizes, error)


def _look(api: object, address: HubAddress) -> tuple[str, dict[str, int]]:
    """Return the commit of an address and the sizes of its files."""
    info = api.model_info(  # type: ignore[attr-defined]
        address.repository, revision=address.revision, files_metadata=True
    )
    sizes = {each.rfilename: int(each.size or 0) for each in info.siblings or ()}
    return str(info.sha), sizes


def _cached_commit(address: HubAddress, name: str) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(address.repository, name, revision=address.revision or "main")
    # The folder of a snapshot is called like its commit.
    return Path(found).parent.name if isinstance(found, str) else None
