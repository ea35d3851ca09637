"""Writing to a repository on the hub: one commit with everything that changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from negrefine.errors import NegrefineError
from negrefine.pretrained.hub_address import HubAddress
from negrefine.pretrained.hub_client import hub_client
from negrefine.pretrained.hub_errors import hub_failure


@dataclass(frozen=True)
class HubRepository:
    """A repository of models that is to be written.

    Attributes:
        address: With the branch, None is the main one.
        token: None is the one of the environment or of `hf auth login`. It is never shown.
        error: Class of all errors.
        commit: The newest commit of the branch, None if there is no repository.
        files: The names of its files.
    """

    address: HubAddress
    token: str | None = field(repr=False)
    error: type[NegrefineError]
    commit: str | None = None
    files: frozenset[str] = frozenset()

    def opened(self) -> HubRepository:
        """Return what is there now, nothing if there is no repository.

        Raises:
            error: There is no such branch, or the hub cannot be reached.
        """
        from huggingface_hub import errors

        try:
            with self._client() as api:
                info = api.model_info(self.address.repository, revision=self.address.revision)
        except NegrefineError:
            raise
        except errors.GatedRepoError as failure:
            raise self._failed(failure, "be written") from failure
        except errors.RepositoryNotFoundError:
            return self
        except Exception as failure:
            raise self._failed(failure, "be written") from failure
        names = frozenset(each.rfilename for each in info.siblings or ())
        return replace(self, commit=str(info.sha), files=names)

    def created(self, *, private: bool) -> HubRepository:
        """Make the repository, and return what is in it.

        Raises:
            error: The token does not permit it, somebody else was faster, or the hub cannot be
                reached.
        """
        try:
            with self._client() as api:
                api.create_repo(self.address.repository, private=private, repo_type="model")
        except Exception as failure:
            raise self._failed(failure, "be made") from failure
        made = replace(self, address=HubAddress(self.address.repository)).opened()
        if made.commit is None:
            raise self.error(f"{str(self.address)!r} was made and is not there: try again.")
        return made

    def read(self, name: str) -> bytes:
        """Return the content of one of its files.

        Raises:
            error: The hub cannot be reached.
        """
        try:
            with self._client() as api:
                path = api.hf_hub_download(self.address.repository, name, revision=self.commit)
        except Exception as failure:
            raise self._failed(failure, f"be read ({name})") from failure
        return Path(path).read_bytes()

    def write(
        self, contents: Mapping[str, bytes | Path], remove: Iterable[str], message: str
    ) -> HubAddress:
        """Commit new contents of files and remove others; return the address of the commit.

        Raises:
            error: Somebody has written since `opened`, the token does not permit it, or the hub
                cannot be reached.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations: list[Any] = [
            CommitOperationAdd(name, content if isinstance(content, bytes) else str(content))
            for name, content in contents.items()
        ]
        operations += [CommitOperationDelete(name) for name in remove]
        try:
            with self._client() as api:
                made = api.create_commit(
                    self.address.repository,
                    operations,
                    commit_message=message,
                    revision=self.address.revision,
                    parent_commit=self.commit,
                )
        except Exception as failure:
            raise self._failed(failure, "be written") from failure
        return self.address.at(str(made.oid))

    def _client(self) -> AbstractContextManager[Any]:
        return hub_client(self.token, self.error)

    def _failed(self, failure: Exception, action: str) -> NegrefineError:
        return self.error(hub_failure(failure, self.address, action, self.token))
