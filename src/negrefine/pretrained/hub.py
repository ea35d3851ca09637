"""Find models: local directories and Hugging Face hub ids."""

from __future__ import annotations

import os
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from negrefine.connections import causes, connection_settings, reason_of, without_password
from negrefine.errors import NegrefineError, one_of
from negrefine.pretrained.files import WEIGHTS, check_directory
from negrefine.pretrained.formats import is_adapter, models_inside, other_format

HUB_ADDRESS = "https://huggingface.co"


@dataclass(frozen=True)
class ModelKind:
    """A kind of model: its files, and what errors say about it.

    Attributes:
        noun: For example "causal language model".
        example: A hub id.
        builtin: Empty, or the name of a model that comes with the package.
        advice: What to do about weights that cannot be loaded.
        files: Patterns of all files to download but the weights.
        error: Class of all errors.
    """

    noun: str
    example: str
    builtin: str
    advice: str
    files: tuple[str, ...]
    error: type[NegrefineError]


def find_directory(
    kind: ModelKind, name: str, revision: str | None, *, weights: bool = True
) -> Path:
    """Return the directory of a model, downloaded if `name` is a hub id.

    If a repository has only pickled weights, the pull request of the hub's conversion bot is used.

    Args:
        kind: Of the model.
        name: A directory or a hub id.
        revision: Branch, tag or commit on the hub.
        weights: Download the weights too.

    Raises:
        kind.error: There is no such model, or the hub cannot be reached.
    """
    if directory := local_directory(kind, name):
        return directory
    check_hub_address(kind.error)
    from huggingface_hub import snapshot_download

    files = [*kind.files, *([WEIGHTS] if weights else [])]
    try:
        directory = Path(snapshot_download(name, revision=revision, allow_patterns=files))
        if weights and revision is None and not any(directory.glob(WEIGHTS)):
            converted = _safetensors_pull_request(name)
            if converted is not None:
                directory = Path(snapshot_download(name, revision=converted, allow_patterns=files))
    except Exception as error:
        raise kind.error(_download_error(error, kind, name, revision)) from error
    return directory


def local_directory(kind: ModelKind, name: str) -> Path | None:
    """Return the directory of a model, None for a hub id; `kind.error` for what is neither."""
    # Path.expanduser raises for unknown users.
    path = Path(os.path.expanduser(name))  # noqa: PTH111
    # The methods of Path raise for names that are too long and in folders that are not readable.
    if os.path.isdir(path):  # noqa: PTH112
        return path.resolve()
    there = os.path.exists(path)  # noqa: PTH110
    if there and (path.parent / "config.json").exists():
        raise kind.error(
            f"{name!r} is not a directory: give {str(path.parent)!r}, the directory that it is in."
        )
    if there or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1:
        raise kind.error(f"{name!r} is not a directory: give {_wanted(kind)}.")
    return None


def check_model(kind: ModelKind, directory: Path, name: str, *, configured: bool = False) -> None:
    """Raise `kind.error` if the directory of the model `name` holds something else.

    That is an adapter, another format, a model in a folder inside, or files unfit to be read.
    `configured` tells that there is a configuration under another name than config.json.
    """
    patterns = (*kind.files, WEIGHTS, "additional_chat_templates/*")
    check_directory(directory, patterns, name, kind.error)
    has_config = configured or (directory / "config.json").exists()
    if is_adapter(directory) or not has_config:
        if other := other_format(directory, with_config=False):
            raise kind.error(f"{name!r} holds {other}.")
        if inside := models_inside(directory):
            shown = [repr(str(path)) for path in inside[:3]]
            if len(inside) > len(shown):
                shown.append(f"one of {len(inside) - len(shown)} others")
            raise kind.error(
                f"{name!r} holds no config.json, {'a folder' if len(inside) == 1 else 'folders'} "
                f"inside {'does' if len(inside) == 1 else 'do'}: give {one_of(shown)}."
            )


def _wanted(kind: ModelKind) -> str:
    directory = f"the directory of a {kind.noun} (config.json, {WEIGHTS}, tokenizer files)"
    builtin = f", or {kind.builtin!r}" if kind.builtin else ""
    return f"{directory}, or a hub id such as {kind.example!r}{builtin}"


def _safetensors_pull_request(name: str) -> str | None:
    from huggingface_hub import HfApi

    # Offline there is none; `load_weights` reports that weights are missing.
    with suppress(Exception):
        requests = HfApi().get_repo_discussions(
            name, author="SFconvertbot", discussion_type="pull_request"
        )
        return next((r.git_reference for r in requests if r.status in {"open", "draft"}), None)
    return None


def _download_error(error: Exception, kind: ModelKind, name: str, revision: str | None) -> str:
    from huggingface_hub import errors

    local = "give a local directory."
    if isinstance(error, errors.HFValidationError):
        return f"{name!r} is neither a directory nor a hub id: give {_wanted(kind)}."
    if isinstance(error, errors.GatedRepoError):
        advice = f"accept its terms there and log in with 'hf auth login', or {local}"
        return f"The model {name!r} is gated on the hub: {advice}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"The hub has no public model {name!r}: check the spelling, or {local}"
    missing = (errors.RevisionNotFoundError, errors.EntryNotFoundError)
    if isinstance(error, missing) and not isinstance(error, errors.LocalEntryNotFoundError):
        return f"The hub has no revision {revision!r} of {name!r}: check the spelling."
    chain = causes(error)
    # An ImportError is a SOCKS proxy without socksio, a ValueError a proxy that is no URL.
    bad = next((c for c in chain if isinstance(c, (ImportError, ValueError, ssl.SSLError))), None)
    # A file of certificates; that the hub's own cache lacks the model says nothing about it.
    no_file = next(
        (
            cause
            for cause in chain
            if isinstance(cause, FileNotFoundError)
            and not isinstance(cause, errors.LocalEntryNotFoundError)
        ),
        None,
    )
    settings = connection_settings(os.environ.get("HF_ENDPOINT", HUB_ADDRESS), error)
    wrong = bad or no_file
    if settings and wrong:
        return f"The model hub cannot be reached with these settings{reason_of(wrong)}.{settings}"
    # What is left is a failed connection, whose classes change between releases of huggingface_hub.
    builtin = f", or use {kind.builtin!r}, which needs no network" if kind.builtin else ""
    return (
        f"The model hub cannot be reached and {name!r} is not in its local cache: give a local "
        f"{kind.noun} directory, or point HF_HOME at a cache that holds the model{builtin}."
        f"{settings}"
    )


def check_hub_address(error_class: type[NegrefineError]) -> None:
    """Raise `error_class` if $HF_ENDPOINT is set to what is no address."""
    url = os.environ.get("HF_ENDPOINT")
    if url is None:
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise error_class(
            f"The environment has HF_ENDPOINT={without_password(url)}, which is no address of a "
            f"model hub: unset it, or give one such as {HUB_ADDRESS!r}."
        )
