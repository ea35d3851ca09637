"""Saved detectors on the Hugging Face hub: which files they are, pushing and fetching them.

A detector from the hub is as untrusted as any directory: the same checks read it, and of its
repository only detector.json and the files that this names are downloaded.
"""

from __future__ import annotations

import os
import re
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from negrefine.detectors.bundle import (
    DATA_BYTES,
    MANIFEST,
    MANIFEST_BYTES,
    is_written_here,
    stored_files,
    version_of,
)
from negrefine.detectors.card import detector_card, is_unedited
from negrefine.detectors.card_words import is_path
from negrefine.detectors.described import Described
from negrefine.encoders.names import EMBEDDED, resolved
from negrefine.errors import BundleError
from negrefine.pretrained.hub_address import HubAddress, hub_address, is_hub_address
from negrefine.pretrained.hub_repository import HubRepository
from negrefine.pretrained.hub_snapshot import HubSnapshot, open_snapshot
from negrefine.shown_text import visible

if TYPE_CHECKING:
    from negrefine.detectors.base import Detector

_CARD = "README.md"
_WORDNET_LICENCE = "WORDNET-LICENSE.txt"
# Far more than any detector has; a repository may name as many as it likes.
_MOST_FILES, _MOST_BYTES = 32, 8 << 30
_ON_THE_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TOKEN = re.compile(r"[!-~]+")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")


def local_bundle(path: str | os.PathLike[str]) -> Path:
    """Return the directory of a saved detector, downloaded first if `path` is "hf://user/name".

    Raises:
        BundleError: The repository, revision or detector is not there, is no detector, is larger
            than any, or the hub cannot be reached and the cache of huggingface_hub lacks it.
    """
    if not is_hub_address(path):
        return Path(path)
    return _fetched(
        open_snapshot(hub_address(path, BundleError), MANIFEST, MANIFEST_BYTES, BundleError)
    )


def pinned(path: str | os.PathLike[str]) -> str:
    """Return the address of the commit that an address on the hub stands for now.

    Raises:
        BundleError: As `local_bundle`.
    """
    address = hub_address(path, BundleError)
    return str(open_snapshot(address, MANIFEST, MANIFEST_BYTES, BundleError).address)


def _fetched(snapshot: HubSnapshot) -> Path:
    found = snapshot.fetch(MANIFEST, MANIFEST_BYTES)
    if found is None:
        raise BundleError(
            f"{str(snapshot.address)!r} holds no saved detector ({MANIFEST} is missing): give a "
            "repository that push_to_hub or 'negrefine push' wrote."
        )
    directory = found.parent
    with named_as(snapshot.address, directory):
        names = stored_files(directory)
    missing = [name for name in names if snapshot.cached(name) is None]
    total = sum(snapshot.sizes.get(name, 0) for name in missing)
    if len(names) > _MOST_FILES or total > _MOST_BYTES:
        raise BundleError(
            f"{str(snapshot.address)!r} names {len(names):,} files with {total:,} bytes, more than "
            f"any detector has ({_MOST_FILES} files, {_MOST_BYTES >> 30} GiB): it was not "
            "downloaded."
        )
    for name in names:
        if snapshot.fetch(name, DATA_BYTES) is None:
            raise BundleError(
                f"{str(snapshot.address)!r} is damaged ({name} is missing): push the "
                "detector again."
            )
    return directory


@contextmanager
def named_as(address: HubAddress | None, directory: Path) -> Iterator[None]:
    """Let errors about the directory in the cache name the address, and advise what helps there.

    Files of the directory are links to those of the repository, so that removing it removes none.
    """
    try:
        yield
    except BundleError as error:
        if address is None:
            raise
        text = str(error).replace(repr(str(directory)), repr(str(address)))
        repository = directory.parents[1]
        again = f"push it again, or if only this copy is, remove {str(repository)!r}"
        raise BundleError(text.replace("fit and save it again", again)) from error


def check_encoder_of_stranger(address: HubAddress, name: str, fingerprint: str) -> None:
    """Raise BundleError if a detector from the hub names its encoder by a path.

    A path means nothing on another machine, and what a stranger names is not opened.
    """
    if name in EMBEDDED or _ON_THE_HUB.fullmatch(resolved(name)):
        return
    raise BundleError(
        f"The detector {str(address)!r} names its encoder by a path of the machine that it was "
        f"fitted on, {visible(name)!r}: give the same model as encoder (its fingerprint is "
        f"{fingerprint[:12]})."
    )


def check_licence(licence: str | None) -> None:
    """Raise BundleError for what is no identifier of a licence."""
    if licence is not None and not (isinstance(licence, str) and _LICENCE.fullmatch(licence)):
        raise BundleError(
            f"{licence!r} is no identifier of a licence: give one such as 'mit' or 'cc-by-4.0'."
        )


def card_address(path: str | os.PathLike[str]) -> str | None:
    """Return the repository that a card names as the detector's place, None for a directory."""
    if not is_hub_address(path):
        return None
    return f"hf://{hub_address(path, BundleError).repository}"


def push_detector(
    detector: Detector | str | os.PathLike[str],
    repository: str,
    *,
    revision: str | None = None,
    private: bool = True,
    licence: str | None = None,
    replace_card: bool = False,
    message: str | None = None,
    token: str | None = None,
) -> str:
    """Push a detector and its card to a repository of models on the hub, in one commit.

    Files of an earlier detector are removed in the same commit, other files stay, and so does a
    README.md that was written or edited by hand.

    Args:
        detector: Fitted, or the directory of a saved one.
        repository: "user/name". It is made if it is not there.
        revision: A branch that is there already; None: the main one, "main".
        private: Who may see a repository that is made now: only those with access to it, or
            everybody. One that is there stays as it is.
        licence: The identifier that the hub has for a licence, such as "cc-by-4.0", for the card.
        replace_card: Replace a README.md that was edited by hand, too.
        message: Of the commit.
        token: None: that of HF_TOKEN, or of `hf auth login`. It is sent to the hub and never shown.

    Returns:
        The address of the commit, such as "hf://ann/fruits@0f3c...".

    Raises:
        BundleError: The detector cannot be saved or read, the repository holds something else, was
            changed meanwhile or must not be written, or the hub cannot be reached.
        NotFittedError: The detector is not fitted.
    """
    address = hub_address(f"hf://{str(repository).removeprefix('hf://')}", BundleError)
    if address.revision:
        raise BundleError(
            f"{repository!r} has a revision: name a branch as `revision` (--revision)."
        )
    check_licence(licence)
    if token is not None and not (isinstance(token, str) and _TOKEN.fullmatch(token)):
        # Not shown: it may be a token with a line break at its end.
        raise BundleError("The token is no text without spaces: give the one that the hub shows.")
    target = hub_address(f"{address}@{revision}", BundleError) if revision else address
    if isinstance(detector, (str, os.PathLike)):
        return _push(local_bundle(detector), target, private, licence, replace_card, message, token)
    if not hasattr(detector, "push_to_hub"):
        raise BundleError(
            f"{detector!r} is no detector: give a fitted one, or the directory of a saved one."
        )
    with tempfile.TemporaryDirectory() as folder:
        detector.save(folder)
        return _push(Path(folder), target, private, licence, replace_card, message, token)


def _push(
    directory: Path,
    target: HubAddress,
    private: bool,
    licence: str | None,
    replace_card: bool,
    message: str | None,
    token: str | None,
) -> str:
    # Checks every file; what is damaged is not shared.
    described = Described.read(directory)
    version = version_of(directory)
    names = stored_files(directory)
    card = detector_card(directory, address=f"hf://{target.repository}", licence=licence)
    remote = HubRepository(target, token, BundleError).opened()
    _check_repository(remote)
    if described.paths:
        shown = ", ".join(repr(visible(path)) for path in described.paths)
        whose = " Others must give the model as encoder." if is_path(described.encoder) else ""
        warnings.warn(
            f"The detector names paths of this machine, which everybody who may read "
            f"{str(target)!r} sees: {shown}.{whose}",
            stacklevel=4,
        )
    contents: dict[str, bytes | Path] = {
        MANIFEST: (directory / MANIFEST).read_bytes(),
        **{name: (directory / name).resolve() for name in names},
    }
    if described.has_wordnet_words:
        contents[_WORDNET_LICENCE] = wordnet_licence()
    if version_of(directory) != version:
        raise BundleError(f"The detector in {str(directory)!r} was replaced meanwhile: push again.")
    if remote.commit is None:
        if target.revision not in {None, "main"}:
            raise BundleError(
                f"There is no repository {str(HubAddress(target.repository))!r} that you may see, "
                f"and a new one has no branch {target.revision!r}: push without a revision first."
            )
        remote = remote.created(private=private)
        _check_repository(remote)
    if _keeps_card(remote, replace=replace_card):
        warnings.warn(
            f"The {_CARD} in {str(target)!r} was written or edited by hand, so it was kept and may "
            "describe another detector: replace_card (--replace-card) writes a new one.",
            stacklevel=4,
        )
    else:
        contents[_CARD] = card.encode()
    stale = sorted(name for name in remote.files if is_written_here(name) and name not in contents)
    title = f"{described.title} detector of {len(described.manifest['class_names'])} classes"
    return str(remote.write(contents, stale, message or title))


def _check_repository(remote: HubRepository) -> None:
    """Raise BundleError for a repository of something else, which would be mixed up with ours."""
    others = sorted(
        name
        for name in remote.files
        if not (is_written_here(name) or name in {_CARD, ".gitattributes", _WORDNET_LICENCE})
    )
    if others and MANIFEST not in remote.files:
        raise BundleError(
            f"{str(remote.address)!r} holds something else ({visible(others[0])!r}): push to a "
            "repository of its own."
        )


def _keeps_card(remote: HubRepository, *, replace: bool) -> bool:
    if replace or _CARD not in remote.files:
        return False
    return not is_unedited(remote.read(_CARD).decode("utf-8", "replace"))


def wordnet_licence() -> bytes:
    """Return the licence that goes with words of WordNet."""
    return (files("negrefine.labels") / "data" / _WORDNET_LICENCE).read_bytes()
