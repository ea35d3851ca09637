"""Files of one commit of a repository on the hub, kept in the cache of huggingface_hub.

Each file is downloaded beside its place and moved there when it is whole, so a run that is killed
leaves no half file. Only files that are asked for by name are downloaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
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
        sizes: Bytes of each of its files by name; None if the hub was not asked.
        error: Class of all errors.
    """

    address: HubAddress
    sizes: Mapping[str, int] | None
    error: type[NegrefineError]

    @property
    def commit(self) -> str:
        """The commit, 40 hexadecimal digits."""
        return str(self.address.revision)

    def fetch(self, name: str, most: int) -> Path | None:
        """Return the path of a file in the cache, downloaded if need be; None if there is none.

        Raises:
            error: It has more than `most` bytes, or the hub cannot be reached.
        """
        from huggingface_hub import try_to_load_from_cache

        repository = self.address.repository
        cached = try_to_load_from_cache(repository, name, revision=self.commit)
        if isinstance(cached, str):
            return Path(cached)
        try:
            with hub_client(None, self.error) as api:
                sizes = self.sizes
                if sizes is None:
                    sizes = _look(api, self.address)[1]
                if name not in sizes:
                    return None
                if sizes[name] > most:
                    raise self.error(
                        f"{name} of {str(self.address)!r} has {sizes[name]:,} bytes, more than the "
                        f"{most:,} that such a file may have: it was not downloaded."
                    )
                return Path(api.hf_hub_download(repository, name, revision=self.commit))
        except NegrefineError:
            raise
        except Exception as failure:
            sentence = hub_failure(failure, self.address, f"be read ({name})")
            raise self.error(sentence) from failure


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
