"""`negrefine serve`: detectors behind HTTP."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from negrefine.cli.bundles import option
from negrefine.cli.options import DEVICE, DTYPE, pinned_place
from negrefine.cli.output import say, warn
from negrefine.errors import InputError
from negrefine.pretrained.hub_address import hub_address, is_hub_address

if TYPE_CHECKING:
    from negrefine.serving.app import Application
    from negrefine.serving.settings import Settings

_TOKEN = "NEGREFINE_TOKEN"  # noqa: S105 - the name of the variable
_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")

DETECTORS = typer.Argument(
    metavar="[NAME=]DETECTOR_DIR",
    help="Directories written by 'negrefine fit', or addresses on the hub, each with the name that "
    "requests give it or else the folder's; the first is the default.",
)


@dataclass(frozen=True, kw_only=True)
class Address:
    """Where a server listens, and to whom."""

    host: str = option(
        "127.0.0.1",
        "Address to listen on; for another machine to reach it '0.0.0.0', with a token.",
        "ADDRESS",
    )
    port: int = option(8000, "Port to listen on; 0 for any that is free.", min=0, max=65535)
    token_file: Path | None = option(
        None,
        f"File with the token that requests must have; default: ${_TOKEN}, or none.",
        "FILE",
    )
    allow_host: list[str] = option(
        [],
        "A further name of this server, in the Host of requests and as the site that browsers post "
        "from; may be given several times.",
        "NAME",
    )

    def token(self) -> str | None:
        """Return the token; InputError if its file cannot be read."""
        from negrefine.files.reading import read_bytes, reason

        file = self.token_file
        if file is None:
            return os.environ.get(_TOKEN) or None
        try:
            token = read_bytes(file, 1 << 16).decode("ascii").strip()
        except (OSError, ValueError) as error:
            raise InputError(
                f"The token in {str(file)!r} cannot be read: {reason(error)}."
            ) from error
        if not token:
            raise InputError(f"{str(file)!r} holds no token: write one into it.")
        return token


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server takes at once."""

    batch_size: int = option(32, "Images to encode at a time.", min=1)
    batch_wait: float = option(
        5.0, "Milliseconds that an image waits for others to be encoded with it.", "MS"
    )
    queue: int = option(256, "Images that may wait; requests beyond get a 503.", min=1)
    deadline: float = option(30.0, "Seconds until a request without an answer gets a 503.", "S")
    max_bytes: int = option(
        32 << 20, "Bytes of a request's body; all together may have 8 times as many.", min=1
    )
    max_images: int = option(32, "Images of a request.", min=1)
    max_pixels: int = option(50_000_000, "Pixels of an image, by its header.", min=1)

    def settings(self, address: Address) -> Settings:
        """Return the settings of a server at an address."""
        from negrefine.serving.hosts import LOOPBACK_NAMES, check_host_names, leads_to_loopback
        from negrefine.serving.settings import Settings

        names = tuple(address.allow_host)
        check_host_names("--allow-host", names)
        return Settings(
            max_bytes=self.max_bytes,
            max_bodies=8 * self.max_bytes,
            max_images=self.max_images,
            max_pixels=self.max_pixels,
            queue=self.queue,
            deadline=self.deadline,
            batch_size=self.batch_size,
            batch_wait=self.batch_wait / 1000,
            token=address.token(),
            hosts=(*LOOPBACK_NAMES, address.host)
            if leads_to_loopback(address.host)
            else names or None,
            trusted_hosts=names,
        )


def serve(
    address: Address,
    limits: Limits,
    detectors: list[str] = DETECTORS,
    grace: float = option(
        30.0, "Seconds that accepted requests have to be answered after SIGTERM or SIGINT.", "S"
    ),
    encoder: str | None = option(
        None,
        "The encoder that all detectors were fitted with, if it moved; default: as saved.",
        "ID_OR_DIR",
    ),
    monitor_state: Path | None = option(
        None,
        "Folder in which the monitors of calibrated detectors keep their states, to go on from "
        "after a restart.",
        "DIR",
    ),
    device: str = DEVICE,
    dtype: str = DTYPE,
    threads: int | None = option(
        None, "Threads of the encoder on a CPU; default: the cores that the process may use.", min=1
    ),
) -> None:
    """Serve detectors over HTTP: scores, explanations, a page, and metrics.

    POST images to /v1/score, or open the address that is printed. A detector that is saved again
    is loaded again without a pause. docs/serving.md describes the requests and the limits.
    """
    check_installed()
    from negrefine.constraints import Number

    Number("be a number of seconds of at least 0", 0, closed="low")("--grace", grace)
    from negrefine.detectors.hub import local_bundle

    places = {name: local_bundle(pinned_place(each)) for name, each in by_name(detectors).items()}
    settings = limits.settings(address)

    from negrefine.encoders.image_memory import memory_limit
    from negrefine.serving.hosts import leads_to_loopback
    from negrefine.serving.run import open_socket

    # Says what is wrong with $NEGREFINE_IMAGE_GB before an image comes.
    memory_limit()
    if monitor_state is not None:
        _make_folder(monitor_state)
    bound = open_socket(address.host, address.port)
    if settings.token is None and not leads_to_loopback(address.host):
        warn(
            f"the server listens on {address.host} without a token, so that everybody who reaches "
            f"this machine can use it: set ${_TOKEN} or give --token-file."
        )
    _set_threads(threads)

    from negrefine.serving.app import create_app
    from negrefine.serving.few_warnings import limit_warnings
    from negrefine.serving.run import run

    limit_warnings()
    application = create_app(
        places,
        settings,
        say=_log,
        device=device,
        dtype=dtype,
        encoder=encoder,
        monitor_state=monitor_state,
    )
    _warn_of_thresholds(application)

    def ready(url: str) -> None:
        say(f"Serving {', '.join(application.hosted.names)} on {url}")
        sys.stdout.flush()

    n_cut, ended = run(application, bound, grace=grace, ready=ready, say=_log)
    if n_cut:
        requests = "1 request was" if n_cut == 1 else f"{n_cut} requests were"
        _log(f"{requests} cut off.")
    _log("Stopped.")
    if n_cut or not ended:
        # Threads that still encode would be torn down under torch.
        sys.stdout.flush()
        os._exit(1 if n_cut else 0)


def check_installed() -> None:
    """Raise InputError unless the extra `serve` is installed."""
    missing = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        name = missing[0].replace("_", "-")
        raise InputError(f"The server needs the package {name}: pip install 'negrefine[serve]'.")


def by_name(arguments: list[str]) -> dict[str, Path]:
    """Return the directories of detectors by name; InputError for a name that is used twice."""
    places: dict[str, Path] = {}
    for argument in arguments:
        name, separator, path = argument.partition("=")
        if is_hub_address(argument):
            name, path = hub_address(argument, InputError).repository.partition("/")[2], argument
        elif not separator or Path(argument).is_dir():
            name, path = Path(argument).resolve().name, argument
        if not name or not path:
            raise InputError(f"{argument!r} is no NAME=DETECTOR_DIR: give both.")
        if name in places:
            raise InputError(
                f"Two detectors are called {name!r}: give them names, such as "
                f"{f'a={places[name]}'!r} and {f'b={path}'!r}."
            )
        places[name] = Path(path)
    return places


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"The folder {str(folder)!r} cannot be made ({error.strerror}): give another."
        ) from error


def _set_threads(threads: int | None) -> None:
    if threads is None and "OMP_NUM_THREADS" in os.environ:
        return
    import torch

    from negrefine.serving.settings import usable_cores

    torch.set_num_threads(threads or usable_cores())


def _warn_of_thresholds(application: Application) -> None:
    for served in application.hosted.now():
        if served.detector.offset_ is None:
            warn(
                f"the detector {served.name!r} has no threshold, so verdicts stay empty: "
                "'negrefine calibrate' sets one."
            )


def _log(line: str) -> None:
    # A full disk or a reader that has gone (`2>&1 | head`) ends the log, not the server.
    with suppress(OSError):
        say(f"negrefine: {line}", err=True)
