"""What stands before every endpoint: checks, headers, counts, faults and the end of the server."""

from __future__ import annotations

import asyncio
import secrets
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from negrefine.errors import one_of
from negrefine.serving.access import check_host, check_one_length, check_origin, check_token
from negrefine.serving.metrics import Metrics
from negrefine.serving.problems import SECURITY_HEADERS, Problem, overloaded, shortened
from negrefine.serving.request_body import RequestBody
from negrefine.serving.settings import Settings

_STOPPING_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Rules:
    """What holds for a path.

    Attributes:
        method: The one that it takes, beside HEAD and OPTIONS.
        is_open: It needs no token.
        is_probe: It may be asked under any name, as supervisors do.
        is_work: It is refused while the server stops, and the server waits for its end.
        parameters: Names that its query may have; None for any.
    """

    method: str = "GET"
    is_open: bool = False
    is_probe: bool = False
    is_work: bool = False
    parameters: tuple[str, ...] | None = None

    @property
    def allow(self) -> str:
        """Return the header Allow."""
        return ", ".join([self.method, *(["HEAD"] if self.method == "GET" else []), "OPTIONS"])


class Gate:
    """ASGI middleware around the endpoints.

    Attributes:
        stopping: Set when the server is to end; work is then refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        paths: Mapping[str, Rules],
        settings: Settings,
        metrics: Metrics,
        say: Callable[[str], None],
    ) -> None:
        self._app = app
        self._paths = paths
        self._settings = settings
        self._metrics = metrics
        self._say = say
        self._work: set[asyncio.Task[object]] = set()
        self._is_cut = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.stopping = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self._serve(scope, receive, send)

    async def end_work(self, seconds: float) -> int:
        """Refuse new work and wait for what is under way; return how many requests were cut off."""
        self.stopping = True
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except (TimeoutError, asyncio.TimeoutError):
            self._is_cut = True
            cut = list(self._work)
            for task in cut:
                task.cancel()
            await asyncio.wait(cut, timeout=1)
            return len(cut)
        return 0

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        rules = self._paths.get(scope["path"])
        body = RequestBody(scope, receive, 4 * self._settings.max_bytes)
        answer = _Answer(send, body, without_body=scope["method"] == "HEAD")
        task = asyncio.current_task()
        is_work = rules is not None and rules.is_work and task is not None
        if is_work and task is not None:
            self._work.add(task)
            self._idle.clear()
        try:
            try:
                response = self._checked(scope, rules)
                inner = {**scope, "method": "GET"} if scope["method"] == "HEAD" else scope
                await (response or self._app)(inner, body.receive, answer)
            except Problem as problem:
                await problem.response()(scope, body.receive, answer)
            except asyncio.CancelledError:
                if not self._is_cut or answer.status:
                    raise
                body.give_up()
                await self._stopping().response()(scope, body.receive, answer)
            except Exception as error:
                # Starlette raises errors again that it has answered.
                if not answer.status:
                    await self.fault(error).response()(scope, body.receive, answer)
        finally:
            if is_work and task is not None:
                self._work.discard(task)
                if not self._work:
                    self._idle.set()
            endpoint = _endpoint(scope["path"]) if rules is not None else "other"
            self._metrics.requests.labels(endpoint, str(answer.status or 499)).inc()
            self._metrics.seconds.labels(endpoint).observe(time.perf_counter() - started)

    def _checked(self, scope: Scope, rules: Rules | None) -> Response | None:
        """Raise a Problem for what may not pass; return an answer that needs no endpoint."""
        headers, method = Headers(scope=scope), scope["method"]
        check_one_length(headers)
        if rules is None or not rules.is_probe:
            check_host(headers, self._settings)
        if rules is None:
            known = ", ".join(path for path, each in self._paths.items() if each.is_work)
            raise Problem(
                404, "path", f"There is nothing at this path: see /openapi.json, {known}."
            )
        if method == "OPTIONS":
            return Response(None, 204, {"Allow": rules.allow})
        if method != rules.method and not (method == "HEAD" and rules.method == "GET"):
            raise Problem(405, "method", f"This path takes {rules.allow}.", {"Allow": rules.allow})
        if rules.parameters is not None:
            _check_parameters(scope["query_string"], rules.parameters)
        if not rules.is_open:
            check_token(headers, self._settings)
        if method == "POST":
            check_origin(headers, self._settings)
        if self.stopping and rules.is_work:
            raise self._stopping()
        return None

    def _stopping(self) -> Problem:
        self._metrics.shed.labels("stopping").inc()
        return overloaded("stopping", "The server is stopping: try again.", _STOPPING_SECONDS)

    def fault(self, error: BaseException) -> Problem:
        """Log an error that nobody expected, and return the answer that names its line there."""
        name = secrets.token_hex(8)
        lines = "".join(traceback.format_exception(error)).splitlines()
        self._say(f"Fault {name}:")
        for line in lines:
            self._say(f"  {line}")
        return Problem(
            500,
            "fault",
            f"The server failed on this request, which its log calls {name}: tell its operator.",
        )


def _check_parameters(query: bytes, known: tuple[str, ...]) -> None:
    """Raise a Problem (422) for a parameter that is unknown or given twice."""
    try:
        given = [name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True)]
    except ValueError as error:
        raise Problem(422, "parameter", "The query has too many parameters.") from error
    for name in given:
        shown = shortened(name, 100)
        if name not in known:
            advice = f"this path takes {one_of(known)}" if known else "this path takes none"
            raise Problem(422, "parameter", f"There is no parameter {shown!r}: {advice}.")
        if given.count(name) > 1:
            raise Problem(
                422, "parameter", f"The parameter {shown!r} is given twice: give it once."
            )


def _endpoint(path: str) -> str:
    return "/static" if path.startswith("/static/") else path


class _Answer:
    """Sends an answer with the headers that all have, for HEAD without its body."""

    def __init__(self, send: Send, body: RequestBody, *, without_body: bool) -> None:
        self._send = send
        self._body = body
        self._without_body = without_body
        self.status: int | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._body.discard()
            self.status = message["status"]
            headers = MutableHeaders(raw=list(message.get("headers", [])))
            for name, value in SECURITY_HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
            message = {**message, "headers": headers.raw}
        elif message["type"] == "http.response.body" and self._without_body:
            message = {**message, "body": b""}
        await self._send(message)
