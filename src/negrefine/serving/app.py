"""The application: endpoints over hosted detectors, for any ASGI server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from negrefine.detectors.bundle import own_version
from negrefine.evaluation.scored_image import ScoredImage
from negrefine.serving.endpoints import add_endpoints
from negrefine.serving.gate import Gate, Rules
from negrefine.serving.hosted import Events, Hosted, Served
from negrefine.serving.intake import ClientGoneError, Intake
from negrefine.serving.metrics import Metrics
from negrefine.serving.problems import Problem
from negrefine.serving.settings import Settings, usable_cores
from negrefine.serving.static import read_page
from negrefine.serving.watching import WatchCollector

_PATHS = {
    "/v1/score": Rules("POST", is_work=True, parameters=("detector",)),
    "/v1/explain": Rules("POST", is_work=True, parameters=("detector", "top")),
    "/v1/detector": Rules(parameters=("detector",)),
    "/v1/detectors": Rules(parameters=()),
    "/healthz": Rules(is_open=True, is_probe=True),
    "/readyz": Rules(is_open=True, is_probe=True),
    "/metrics": Rules(),
    "/openapi.json": Rules(),
}


class Application:
    """Detectors behind HTTP, an ASGI application. Made by `create_app`.

    Its threads start and end with ASGI's lifespan; a server without one calls `start` and `close`.
    """

    def __init__(
        self, gate: Gate, hosted: Hosted, decoders: ThreadPoolExecutor, watching: ThreadPoolExecutor
    ) -> None:
        self._gate = gate
        self.hosted = hosted
        self._decoders = decoders
        self._watching = watching

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection of ASGI."""
        await self._gate(scope, receive, send)

    async def end_work(self, seconds: float) -> int:
        """Refuse new work and wait for what is under way; return how many requests were cut off.

        Those get a 503, as everything that comes later.
        """
        return await self._gate.end_work(seconds)

    def close(self) -> bool:
        """End the threads; return whether all have ended."""
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._watching.shutdown()
        for served in self.hosted.now():
            served.watch.retire()
        return self.hosted.close()


def create_app(
    detectors: Mapping[str, str | os.PathLike[str]],
    settings: Settings | None = None,
    *,
    say: Callable[[str], None],
    device: str = "auto",
    dtype: str = "auto",
    encoder: str | os.PathLike[str] | None = None,
    monitor_state: str | os.PathLike[str] | None = None,
) -> Application:
    """Load detectors and return the application that serves them.

    Args:
        detectors: Directories of saved detectors by name; the first is the default.
        settings: Limits and ways.
        say: Called with each line of the log, from any thread; the text may hold what others chose.
        device: As for `load_encoder`, like `dtype`.
        encoder: As for `load_detector`, for all detectors.
        monitor_state: Folder in which the monitors of the detectors keep their states.

    Raises BundleError or EncoderError for a detector that cannot be loaded, and InputError for
    the state of a monitor that is damaged.
    """
    settings = settings or Settings()
    metrics = Metrics()
    decoders = ThreadPoolExecutor(settings.decoders or usable_cores(), "decoder")

    def loaded(served: Served) -> None:
        metrics.stale.labels(served.name).set(0)
        metrics.reloads.labels(served.name, "ok").inc()

    def failed(name: str) -> None:
        metrics.stale.labels(name).set(1)
        metrics.reloads.labels(name, "failed").inc()

    # One thread, so that images are taken up in the order in which they were scored.
    watching = ThreadPoolExecutor(1, "monitor")

    def replaced(served: Served) -> None:
        watching.submit(served.watch.retire)

    def note(served: Served, rows: Sequence[ScoredImage], n_errors: int) -> None:
        metrics.count_rows(served.name, rows, n_errors)
        watching.submit(update, served, rows, n_errors)

    def update(served: Served, rows: Sequence[ScoredImage], n_errors: int) -> None:
        try:
            served.watch.update(rows, n_errors)
        except Exception as error:
            gate.fault(error)

    events = Events(say=say, loaded=loaded, failed=failed, replaced=replaced)
    options: dict[str, Any] = {"device": device, "dtype": dtype}
    options |= {"encoder": encoder, "monitor_state": monitor_state}
    hosted = Hosted(detectors, settings, decoders, metrics, events, **options)
    metrics.registry.register(WatchCollector(lambda: [each.watch for each in hosted.now()]))
    intake = Intake(settings, metrics, decoders)
    metrics.queue.set_function(lambda: hosted.waiting)
    metrics.encoders.set_function(lambda: hosted.n_encoders)
    metrics.bodies.set_function(lambda: intake.bodies.taken)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        hosted.start()
        yield
        application.close()

    # The documentation pages of FastAPI load scripts from other sites.
    api = FastAPI(
        title="negrefine",
        version=own_version(),
        description="Which images belong to none of the classes: zero-shot OOD detection.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    page = read_page()
    open_page = {path: Rules(is_open=True) for path in page}
    gate = Gate(api, {**_PATHS, **open_page}, settings, metrics, say)
    application = Application(gate, hosted, decoders, watching)
    _handle_errors(api, gate)
    add_endpoints(api, hosted, intake, metrics, settings, gate, page, note)
    return application


def _handle_errors(api: FastAPI, gate: Gate) -> None:
    async def problem(_: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)  # noqa: S101 - by registration
        return error.response()

    async def gone(_: Request, error: Exception) -> Response:
        del error
        return Response(None, 499)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        first = error.errors()[0]
        where = first["loc"][-1]
        detail = f"The parameter {where!r} cannot be used: {first['msg']}."
        return Problem(422, "parameter", detail).response()

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        return Problem(error.status_code, "http", f"{error.detail}.").response()

    async def fault(_: Request, error: Exception) -> Response:
        return gate.fault(error).response()

    api.add_exception_handler(Problem, problem)
    api.add_exception_handler(ClientGoneError, gone)
    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(HTTPException, refused)
    api.add_exception_handler(Exception, fault)
