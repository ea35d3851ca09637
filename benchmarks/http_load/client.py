"""A client of HTTP/1.1 that keeps to a timetable, and knows what became of each request."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

BOUNDARY = "negrefine-load"
# Servers close connections that are idle for longer than theirs; ours is far below.
_IDLE = 3.0


@dataclass(slots=True)
class Reply:
    """What became of a request; times are of `time.perf_counter`.

    Attributes:
        key: Of its body.
        due: When it was to be sent; latencies count from here, so that a client that falls behind
            does not flatter the server.
        sent: When its last byte was handed to the system, None if that was never.
        status: Of the answer, None if none came whole.
        failure: "refused" (no connection), "unanswered" (closed without a byte of an answer), "cut
            off" (closed within an answer) or "silent" (nothing in time), None with an answer.
    """

    key: int
    due: float
    sent: float | None = None
    ended: float = 0.0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    failure: str | None = None

    @property
    def seconds(self) -> float:
        """Return how long the answer took."""
        return self.ended - self.due

    def json(self) -> Any:
        """Return its body."""
        return json.loads(self.body)


def form_of(images: Sequence[tuple[str, bytes]]) -> bytes:
    """Return a multipart body with these named files, with `BOUNDARY`."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n'
        f"Content-Type: application/octet-stream\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in images
    ]
    return b"".join([*parts, f"--{BOUNDARY}--\r\n".encode()])


def post_of(path: str, form: bytes) -> bytes:
    """Return a whole request that posts a form."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(form)}\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n"
    )
    return head.encode() + form


class Client:
    """Sends requests over connections that it keeps open and uses again."""

    def __init__(self, port: int, *, patience: float = 60) -> None:
        self._port = port
        self._patience = patience
        self._idle: deque[tuple[float, asyncio.StreamReader, asyncio.StreamWriter]] = deque()

    async def send(self, key: int, request: bytes, due: float | None = None) -> Reply:
        """Send a whole request and return what became of it."""
        reply = Reply(key, time.perf_counter() if due is None else due)
        try:
            await asyncio.wait_for(self._send(request, reply), self._patience)
        except (TimeoutError, asyncio.TimeoutError):
            reply.failure = "silent"
        reply.ended = time.perf_counter()
        return reply

    async def _send(self, request: bytes, reply: Reply) -> None:
        try:
            reader, writer = await self._connection()
        except OSError:
            reply.failure = "refused"
            return
        try:
            # What was read of an answer tells how it failed.
            reply.failure = "unanswered"
            with suppress(ConnectionError):
                writer.write(request)
                await writer.drain()
                reply.sent = time.perf_counter()
            head = await reader.readuntil(b"\r\n\r\n")
            reply.failure = "cut off"
            status, *lines = head.decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in lines if line)
            reply.headers = {name.lower(): value.strip() for name, _, value in pairs}
            reply.body = await reader.readexactly(int(reply.headers["content-length"]))
            reply.status, reply.failure = int(status.split()[1]), None
        except asyncio.IncompleteReadError as error:
            if error.partial:
                reply.failure = "cut off"
        except ConnectionError:
            pass
        finally:
            reusable = reply.failure is None and reply.headers.get("connection") != "close"
            if reusable:
                self._idle.append((time.monotonic(), reader, writer))
            else:
                writer.close()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            since, reader, writer = self._idle.pop()
            if not reader.at_eof() and time.monotonic() - since < _IDLE:
                return reader, writer
            writer.close()
        return await asyncio.open_connection("127.0.0.1", self._port)

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop()[2].close()


async def closed_loop(
    client: Client, requests: Sequence[bytes], *, connections: int, seconds: float
) -> list[Reply]:
    """Send requests in turn, each connection the next one as soon as it has an answer."""
    replies: list[Reply] = []
    until = time.perf_counter() + seconds

    async def one(first: int) -> None:
        key = first
        while time.perf_counter() < until:
            replies.append(await client.send(key, requests[key]))
            key = (key + connections) % len(requests)

    await asyncio.gather(*(one(i % len(requests)) for i in range(connections)))
    return replies


async def open_loop(
    client: Client, requests: Sequence[bytes], *, rate: float, seconds: float, seed: int
) -> list[Reply]:
    """Send requests at random times, `rate` a second in the mean, whatever becomes of others."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1 / rate, max(1, round(rate * seconds))))
    keys = rng.integers(len(requests), size=len(times))
    start = time.perf_counter()
    tasks = []
    for after, key in zip(times.tolist(), keys.tolist(), strict=True):
        wait = start + after - time.perf_counter()
        # Also lets the others go on when this one is late.
        await asyncio.sleep(max(0.0, wait))
        tasks.append(asyncio.create_task(client.send(key, requests[key], start + after)))
    return list(await asyncio.gather(*tasks))


async def watched(
    work: Awaitable[list[Reply]], measure: Callable[[], float], every: float = 0.05
) -> tuple[list[Reply], list[float]]:
    """Return what the work returns, and what was measured while it went on."""
    measured: list[float] = []

    async def watch() -> None:
        while True:
            measured.append(measure())
            await asyncio.sleep(every)

    watching = asyncio.create_task(watch())
    try:
        return await work, measured
    finally:
        watching.cancel()


def percentile(replies: Sequence[Reply], q: float) -> float:
    """Return a percentile of the milliseconds of the replies, NaN without any."""
    seconds = [reply.seconds for reply in replies]
    return 1000 * float(np.percentile(seconds, q)) if seconds else float("nan")
