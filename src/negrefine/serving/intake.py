"""One request's images: read within limits, queued, and waited for until its deadline."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from starlette.requests import Request

from negrefine.errors import ImageError
from negrefine.serving.batching import QueueFullError, Task, Ticket
from negrefine.serving.hosted import Served
from negrefine.serving.metrics import Metrics
from negrefine.serving.problems import Problem, overloaded
from negrefine.serving.settings import Settings
from negrefine.serving.uploads import (
    Bodies,
    Upload,
    bounded,
    declared_length,
    images_of_json,
    read_images,
)

# A body that has arrived is no slow one, however late the server comes to read it.
_LEAST_SECONDS = 0.1


class ClientGoneError(Exception):
    """The client has closed the connection."""


class Intake:
    """Takes the bodies of requests, and has their images encoded."""

    def __init__(self, settings: Settings, metrics: Metrics, decoders: Executor) -> None:
        self._settings = settings
        self._metrics = metrics
        self._decoders = decoders
        self.bodies = Bodies(settings.max_bodies)

    def check_room(self, served: Served) -> None:
        """Raise Problem if the queue is full, so that no body is read that has no place in it."""
        if not served.worker.has_room:
            raise self._queue_full(served.worker.seconds_of(served.worker.waiting))

    def _queue_full(self, seconds: int) -> Problem:
        self._metrics.shed.labels("queue").inc()
        return overloaded("queue-full", "Too many images wait already: try again later.", seconds)

    @asynccontextmanager
    async def images(self, request: Request, deadline: float) -> AsyncIterator[list[Upload]]:
        """Yield the images of a request; their bytes count as under way until the block ends.

        Raises Problem for a body that is malformed, too large or too slow, and if too many bytes
        are under way already, before any is read.
        """
        headers, limit = request.headers, self._settings.max_bytes
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise Problem(415, "media-type", "Compressed bodies are not taken: send it as it is.")
        length = declared_length(headers.get("content-length"), limit)
        reserved = limit if length is None else length
        if not self.bodies.reserve(reserved):
            self._metrics.shed.labels("bodies").inc()
            raise overloaded(
                "bodies-full",
                "The bodies of the requests under way fill the memory for them: try again.",
                1,
            )
        try:
            yield await self._read(request, deadline)
        finally:
            self.bodies.release(reserved)

    async def _read(self, request: Request, deadline: float) -> list[Upload]:
        settings = self._settings
        body = bounded(request.receive, settings.max_bytes, disconnected=ClientGoneError)
        reading = read_images(request.headers.get("content-type", ""), body, settings.max_images)
        try:
            read = await asyncio.wait_for(reading, max(_LEAST_SECONDS, deadline - time.monotonic()))
        except (TimeoutError, asyncio.TimeoutError):
            raise Problem(
                408,
                "slow-body",
                f"The body took longer than {settings.deadline:g} seconds to arrive: send fewer or "
                "smaller images in a request.",
            ) from None
        if isinstance(read, list):
            return read
        # Megabytes of JSON would hold up all others.
        parse = partial(images_of_json, read, settings.max_images)
        return await asyncio.get_running_loop().run_in_executor(self._decoders, parse)

    async def results(
        self,
        request: Request,
        served: Served,
        images: list[Upload],
        top: int | None,
        deadline: float,
    ) -> list[Any]:
        """Return for each image what the detector makes of it, or an ImageError.

        Raises Problem if too many images wait, or if the deadline passes.
        """
        ticket = Ticket(Task(served.detector, top), len(images), deadline)
        try:
            served.worker.submit(ticket, images)
        except QueueFullError as full:
            raise self._queue_full(full.seconds) from None
        return await self._wait(request, ticket, served)

    async def _wait(self, request: Request, ticket: Ticket, served: Served) -> list[Any]:
        done = asyncio.wrap_future(ticket.done)
        gone = asyncio.ensure_future(_disconnected(request))
        either: set[asyncio.Future[Any]] = {done, gone}
        try:
            await asyncio.wait(
                either,
                timeout=max(0.0, ticket.deadline - time.monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if done.done():
                return done.result()
            if gone.done():
                raise ClientGoneError
            self._metrics.shed.labels("deadline").inc()
            raise overloaded(
                "deadline",
                f"The images waited longer than {self._settings.deadline:g} seconds: try again "
                "later.",
                served.worker.seconds_of(served.worker.waiting),
            )
        finally:
            gone.cancel()
            # Cancels the ticket too, so that what still waits is not encoded.
            done.cancel()


def check_readable(images: list[Upload], results: list[Any]) -> None:
    """Raise a Problem (422) that lists the errors if no image of a request can be read."""
    errors = [str(each) for each in results if isinstance(each, ImageError)]
    if len(errors) == len(results):
        named = zip(images, errors, strict=True)
        raise Problem(
            422,
            "unreadable",
            f"No image of the request can be read; the first: {errors[0]}",
            more={"errors": [{"name": image.given_name, "error": why} for image, why in named]},
        )


async def _disconnected(request: Request) -> None:
    """Return when the client has gone; the body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
