"""Connections of one server: how many, and how long one may take for the head of a request."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from negrefine.serving.problems import MEDIA_TYPE, SECURITY_HEADERS, Problem

_HEAD_SECONDS = 20
_UNREAD_SECONDS = 20


def _refusal(status: HTTPStatus, kind: str, detail: str, *headers: str) -> bytes:
    """Return a whole answer, for connections that no request has come through."""
    body = Problem(status.value, kind, detail).content()
    head = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in SECURITY_HEADERS.items()),
        *headers,
    ]
    return "\r\n".join([*head, "", ""]).encode("ascii") + body


_FULL = _refusal(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "connections-full",
    "Too many connections are open: try again.",
    "Retry-After: 1",
)
_NO_HTTP = _refusal(
    HTTPStatus.BAD_REQUEST, "malformed", "What was sent is no HTTP request: send one."
)


def max_connections() -> int:
    """Return how many connections leave enough file descriptors for all else."""
    try:
        import resource
    except ImportError:
        return 400
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1000 if soft < 0 else max(10, min(1000, soft - 100))


class Connection(H11Protocol):
    """uvicorn's connection, closed if it is one too many, or if the client dawdles.

    Attributes:
        head_seconds: How long the head of a request may take.
        unread_seconds: How long a client may take to read so many kilobytes of what waits for it.
    """

    head_seconds: float = _HEAD_SECONDS
    unread_seconds: float = _UNREAD_SECONDS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or refuse."""
        super().connection_made(cast("asyncio.Transport", transport))
        self._dawdling: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        if len(self.connections) > max_connections():
            self.transport.write(_FULL)
            self.transport.close()
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take what the client sends."""
        super().data_received(data)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._stop_waiting()
        self._stop_counting()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait until the client reads, while it does."""
        super().pause_writing()
        self._count_later()

    def resume_writing(self) -> None:
        """Go on."""
        self._stop_counting()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what h11 cannot parse, unless an answer has begun: a second one would confuse."""
        del msg
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            self.transport.write(_NO_HTTP)
        self.transport.close()

    def _count_later(self) -> None:
        size = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(self.unread_seconds, self._count, size)

    def _count(self, before: int) -> None:
        """End the connection unless enough has been read of the `before` bytes that waited."""
        if before - self.transport.get_write_buffer_size() < 1000 * self.unread_seconds:
            self.transport.abort()
        else:
            self._count_later()

    def _stop_counting(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _await_head(self) -> None:
        """Let time run exactly while no request is under way."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()
        elif self._dawdling is None:
            self._dawdling = self.loop.call_later(self.head_seconds, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._dawdling is not None:
            self._dawdling.cancel()
            self._dawdling = None
