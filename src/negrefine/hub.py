"""Find and load pretrained models: local directories and Hugging Face hub ids."""

from __future__ import annotations

import hashlib
import os
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from negrefine.errors import InputError, NegrefineError, is_out_of_memory
from negrefine.model_files import WEIGHTS, check_directory
from negrefine.model_formats import is_adapter, models_inside, other_format

if TYPE_CHECKING:
    import torch

_DTYPES = ("bfloat16", "float16", "float32")


# Read by the HTTP clients of the hub and of openai, in upper and lower case.
_PROXIES = frozenset({"ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"})
_CERTIFICATES = frozenset({"SSL_CERT_FILE", "SSL_CERT_DIR"})
_HUB_ADDRESS = "https://huggingface.co"


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
    _check_hub_address(kind.error)
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


def check_model(kind: ModelKind, directory: Path, name: str) -> None:
    """Raise `kind.error` if the directory of the model `name` holds something else.

    That is an adapter, another format, a model in a folder inside, or files unfit to be read.
    """
    patterns = (*kind.files, WEIGHTS, "additional_chat_templates/*")
    check_directory(directory, patterns, name, kind.error)
    has_config = (directory / "config.json").exists()
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


def one_of(names: Sequence[str]) -> str:
    """Return alternatives as a sentence names them: "a, b or c"."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


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
    causes = _causes(error)
    # An ImportError is a SOCKS proxy without socksio, a ValueError a proxy that is no URL.
    bad = next((c for c in causes if isinstance(c, (ImportError, ValueError, ssl.SSLError))), None)
    # A file of certificates; that the hub's own cache lacks the model says nothing about it.
    no_file = next(
        (
            cause
            for cause in causes
            if isinstance(cause, FileNotFoundError)
            and not isinstance(cause, errors.LocalEntryNotFoundError)
        ),
        None,
    )
    settings = connection_settings(os.environ.get("HF_ENDPOINT", _HUB_ADDRESS), error)
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


def _check_hub_address(error_class: type[NegrefineError]) -> None:
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
            f"The environment has HF_ENDPOINT={_without_password(url)}, which is no address of a "
            f"model hub: unset it, or give one such as {_HUB_ADDRESS!r}."
        )


def _causes(error: BaseException | None) -> list[BaseException]:
    """Return an error and what led to it, through groups of errors."""
    causes: list[BaseException] = []
    step = error
    while step is not None and step not in causes:
        causes.append(step)
        group = getattr(step, "exceptions", ())
        step = group[0] if group else step.__cause__ or step.__context__
    return causes


def bypasses_proxies(url: str) -> bool:
    """Return whether the environment's proxies are not for this address (NO_PROXY)."""
    try:
        host = urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return False
    return bool(getproxies_environment() and proxy_bypass(host))


def connection_settings(url: str = "", error: BaseException | None = None) -> str:
    """Return a sentence that names the environment's settings of connections, "" without any.

    Those are proxies, unless they are not for `url`, and certificates that are missing or, where
    `error` is about them, set.
    """
    about_certificates = any(isinstance(cause, ssl.SSLError) for cause in _causes(error))
    settings: dict[str, str] = {}
    for name in sorted(os.environ):
        value = os.environ[name]
        if name.upper() in _PROXIES and value and not bypasses_proxies(url):
            settings[name] = _without_password(value)
        # Many systems set these, to what is there.
        broken = about_certificates or not os.path.exists(value)  # noqa: PTH110  may be no path
        if name.upper() in _CERTIFICATES and value and broken:
            settings[name] = value
    if not settings:
        return ""
    given = ", ".join(f"{name}={value}" for name, value in settings.items())
    advice = "correct or unset them"
    if any(name.upper() in _PROXIES for name in settings):
        advice += ", or add the host to NO_PROXY"
    if any(value.startswith("socks") for value in settings.values()):
        advice += "; a SOCKS proxy needs 'pip install socksio'"
    return f" The environment has {given}: {advice}."


def reason_of(error: BaseException) -> str:
    """Return why a connection failed after a colon, "" if it might quote a proxy's password."""
    values = [value for name, value in os.environ.items() if name.upper() in _PROXIES]
    if any("@" in value for value in values):
        return ""
    said = [str(cause) for cause in _causes(error) if not hasattr(cause, "exceptions")]
    return f": {next(filter(None, said), type(error).__name__)}".rstrip(".")


def _without_password(url: str) -> str:
    # A password may contain "/" and "@", and the scheme may be missing.
    return re.sub(r"\A([a-z][a-z0-9+.-]*://)?.*@", r"\1", url, flags=re.IGNORECASE | re.DOTALL)


def load_weights(
    model_class: Any, kind: ModelKind, directory: Path, name: str, dtype: str, **options: Any
) -> Any:
    """Load a model for inference, on the CPU; pickled weights and remote code are refused.

    The files must have been checked (`model_files.weight_files`). `model_class` is one of
    `transformers`, `name` is what errors call the model, and `dtype` is "float32", "float16",
    "bfloat16", or "auto" for that of the checkpoint. `options` are further ones of
    `from_pretrained`.

    Raises:
        kind.error: The weights are damaged or of another model.
    """
    failure = f"The weights of {name!r} cannot be loaded as a {kind.noun}"
    with loading(failure, kind.advice, kind.error):
        model, report = model_class.from_pretrained(
            directory,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            # They are in the report: the error would say no more than that there are some.
            ignore_mismatched_sizes=True,
            **options,
        )
    if mismatched := sorted(report["mismatched_keys"]):
        tensor, found, expected = mismatched[0]
        raise kind.error(
            f"The weights of {name!r} and its config.json do not belong together: {tensor} has the "
            f"shape {tuple(found)}, and config.json says {tuple(expected)}."
        )
    if missing := sorted(report["missing_keys"]):
        raise kind.error(
            f"The weights of {name!r} lack {len(missing)} tensors, {missing[0]!r} among them: "
            f"{kind.advice}."
        )
    return model.eval().requires_grad_(False)


@contextmanager
def loading(failure: str, advice: str, error_class: type[NegrefineError]) -> Iterator[None]:
    """Turn whatever `transformers` raises into one sentence, and keep it from logging.

    The sentence begins with `failure` and ends with `advice`.
    """
    from transformers.utils import logging

    bar, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            raise error_class(
                f"{failure}: the memory is full; give a smaller model, or float16 as dtype."
            ) from error
        # Files that are missing, cut short or do not fit each raise a class of their own.
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200].rstrip(".:")
        raise error_class(f"{failure} ({reason}): {advice}.") from error
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def pick_device(device: str, error_class: type[NegrefineError] = InputError) -> torch.device:
    """Return a usable torch device; "auto" is a GPU if there is one, otherwise the CPU."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if not isinstance(device, (str, torch.device)):
            raise RuntimeError
        chosen = torch.device(device)
        # A meta tensor has no numbers.
        torch.zeros(1, device=chosen).item()
    except (RuntimeError, AssertionError, ImportError) as error:
        raise error_class(
            f"The device {device!r} cannot be used here: use {one_of(_devices())}."
        ) from error
    return chosen


def _devices() -> list[str]:
    """Return what `device` may be on this machine, in quotes."""
    import torch

    there = ["'auto'", "'cpu'"]
    there += [f"'cuda:{i}'" for i in range(torch.cuda.device_count())]
    return [*there, "'mps'"] if torch.backends.mps.is_available() else there


def check_dtype(dtype: str, error_class: type[NegrefineError] = InputError) -> None:
    """Raise `error_class` if `dtype` is neither "auto" nor the name of a dtype for weights."""
    if dtype not in ("auto", *_DTYPES):
        raise error_class(f"dtype must be 'auto' or one of {list(_DTYPES)}, not {dtype!r}.")


def file_digest(path: Path) -> bytes:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.digest()
