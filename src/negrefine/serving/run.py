"""A server process: its socket, its signals, and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from prometheus_client import disable_created_metrics

from negrefine.errors import InputError
from negrefine.serving.app import Application
from negrefine.serving.connection import Connection

_BACKLOG = 1024
_KEEP_ALIVE = 15


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is bound but not listening yet.

    Raises InputError for an address that is none, or that is in use.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"There is no address {host!r} on this machine: give one such as '127.0.0.1', or "
            "'0.0.0.0' for all."
        ) from error
    family, kind, _, _, address = found[0]
    # Only where the protocol is named does asyncio send at once what is small; otherwise the end of
    # an answer waits 40 ms for the client to acknowledge its head.
    bound = socket.socket(family, kind, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise InputError(
            f"The server cannot listen on {host} port {port} ({error.strerror}): give another "
            "--port, or 0 for any that is free."
        ) from error
    return bound


def url_of(bound: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port, *_ = bound.getsockname()
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves the signals to us."""

    def __init__(self, config: uvicorn.Config, on_signal: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_signal = on_signal

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal; uvicorn would raise it again at the end."""
        del sig, frame
        self._on_signal()


def _forward_logs(say: Callable[[str], None]) -> None:
    """Take errors that libraries log; warnings are dropped, as clients choose how many they are."""
    for name in ("uvicorn", "asyncio", "python_multipart"):
        log = logging.getLogger(name)
        log.handlers, log.propagate = [_Forward(say)], False


class _Forward(logging.Handler):
    """Hands errors that libraries log to the log of the server."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError):
            # uvicorn's end of answers that nobody reads, which it counts in a line of its own.
            return
        for line in self.format(record).splitlines():
            self._say(line)


def run(
    application: Application,
    bound: socket.socket,
    *,
    grace: float,
    ready: Callable[[str], None],
    say: Callable[[str], None],
) -> tuple[int, bool]:
    """Serve until SIGTERM, SIGINT or SIGHUP, then until what was accepted is answered.

    Args:
        application: What serves.
        bound: From `open_socket`.
        grace: Seconds that accepted requests have to be answered; a second signal ends them.
        ready: Called with the URL once connections are accepted.
        say: As for `create_app`.

    Returns the number of requests that were cut off, and whether all threads have ended.
    """
    n_cut = asyncio.run(_run(application, bound, grace, ready, say))
    return n_cut, application.close()


async def _run(
    application: Application,
    bound: socket.socket,
    grace: float,
    ready: Callable[[str], None],
    say: Callable[[str], None],
) -> int:
    loop = asyncio.get_running_loop()
    asked, asked_twice = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        event = asked_twice if asked.is_set() else asked
        loop.call_soon_threadsafe(event.set)

    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is signal.SIG_DFL:
        # The terminal is closed; nohup ignores it.
        loop.add_signal_handler(hang_up, on_signal)
    # The times of creation are as many lines again as the counts.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    _forward_logs(say)
    config = uvicorn.Config(
        application,
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=2,
    )
    server = _Server(config, on_signal)
    bound.listen(_BACKLOG)
    serving = asyncio.create_task(server.serve(sockets=[bound]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.005)
    if serving.done():
        serving.result()
        return 0
    ready(url_of(bound))
    await asyncio.wait(
        {asyncio.create_task(asked.wait()), serving}, return_when=asyncio.FIRST_COMPLETED
    )
    n_cut = await _end_work(application, grace, asked_twice, say)
    server.should_exit = True
    await serving
    return n_cut


async def _end_work(
    application: Application, grace: float, hurry: asyncio.Event, say: Callable[[str], None]
) -> int:
    say("Stopping: new requests are refused, and those under way are answered.")
    ending = asyncio.create_task(application.end_work(grace))
    hurrying = asyncio.create_task(hurry.wait())
    await asyncio.wait({ending, hurrying}, return_when=asyncio.FIRST_COMPLETED)
    if not ending.done():
        say("A second signal: what is not answered yet is cut off.")
        ending.cancel()
        return await application.end_work(0)
    hurrying.cancel()
    if ending.result():
        say(f"After {grace:g} seconds, what is not answered yet is cut off.")
    return ending.result()
