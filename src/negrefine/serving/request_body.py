"""What is left of a body when its request is refused."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

_SECONDS = 5.0
_SILENCE = 0.5


class RequestBody:
    """The body of one request, of which the rest is read and dropped before an early answer.

    Most clients send the whole body before they look for an answer. If the connection were closed
    with bytes of it unread, TCP would reset it, and the answer would be lost.
    """

    def __init__(self, scope: Scope, receive: Receive, most: int) -> None:
        """Begin; at most `most` bytes are dropped."""
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        self._receive = receive
        self._most = most
        self._is_whole = length == "0" and "transfer-encoding" not in headers
        # Such a client sends nothing before it is asked to, which reading does.
        self._is_held_back = headers.get("expect", "").lower() == "100-continue"

    async def receive(self) -> Message:
        """Receive as ASGI has it."""
        self._is_held_back = False
        message = await self._receive()
        if message["type"] != "http.request" or not message.get("more_body", False):
            self._is_whole = True
        return message

    def give_up(self) -> None:
        """Drop nothing."""
        self._is_whole = True

    async def discard(self) -> None:
        """Read the rest, unless it is too much, too slow, or not on its way."""
        if self._is_whole or self._is_held_back:
            return
        until, n_bytes = time.monotonic() + _SECONDS, 0
        while not self._is_whole and n_bytes <= self._most:
            seconds = min(_SILENCE, until - time.monotonic())
            if seconds <= 0:
                return
            try:
                message = await asyncio.wait_for(self.receive(), seconds)
            except (TimeoutError, asyncio.TimeoutError):
                return
            n_bytes += len(message.get("body", b""))
