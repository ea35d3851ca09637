"""Addresses of repositories on the Hugging Face hub: hf://user/name and hf://user/name@revision."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from negrefine.errors import NegrefineError

# `Path` makes one slash of two.
_SCHEME = re.compile(r"hf:[/\\]+")
_PART = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_-])?"
_REPOSITORY = re.compile(rf"{_PART}/{_PART}")
# What git takes for a branch, a tag or a commit, and nothing that leads out of a folder.
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]{0,199}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
# Kinds of repositories that the hub has beside models.
_OTHER_KINDS = ("datasets", "spaces", "kernels", "buckets")


@dataclass(frozen=True)
class HubAddress:
    """A repository of models on the hub, at a revision.

    Attributes:
        repository: "user/name".
        revision: A branch, tag or commit; None is the main branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a whole commit, whose files never change."""
        return self.revision is not None and bool(_COMMIT.fullmatch(self.revision))

    def at(self, commit: str) -> HubAddress:
        """Return the address of one commit of the same repository."""
        return HubAddress(self.repository, commit)


def is_hub_address(path: object) -> bool:
    """Return whether a path is meant as an address on the hub: it begins with "hf:/"."""
    return isinstance(path, (str, os.PathLike)) and bool(_SCHEME.match(str(os.fspath(path))))


def hub_address(path: str | os.PathLike[str], error: type[NegrefineError]) -> HubAddress:
    """Return what an address such as "hf://user/name@v1" names; "hf://" may be left out.

    Raises:
        error: It is none of a repository of models.

    Example:
        >>> from negrefine.errors import BundleError
        >>> hub_address("hf://ann/fruits@v1", BundleError)
        HubAddress(repository='ann/fruits', revision='v1')
    """
    given = os.fspath(path)
    text = _SCHEME.sub("", given, count=1).replace("\\", "/").removeprefix("models/").rstrip("/")
    repository, at, revision = text.partition("@")
    if repository.partition("/")[0] in _OTHER_KINDS:
        raise error(
            f"{given!r} is an address of {repository.partition('/')[0]}, and detectors are kept in "
            "repositories of models: give one such as 'hf://user/name'."
        )
    if not _REPOSITORY.fullmatch(repository) or "--" in repository or ".." in repository:
        raise error(
            f"{given!r} is no repository on the hub: give one such as 'hf://user/name', or "
            "'hf://user/name@revision'."
        )
    if at and (not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        raise error(
            f"{given!r} has no usable revision after the '@': give a branch, a tag or a commit."
        )
    return HubAddress(repository, revision or None)
