"""Real servers for the tests, each a process forked from one that has imported torch."""

from __future__ import annotations

import http.client
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ZYGOTE = """
import json, os, sys
import negrefine.cli, negrefine.cli.serve, negrefine.encoders.loading
import negrefine.serving.app, negrefine.serving.run
for line in sys.stdin:
    job = json.loads(line)
    if "wait" in job:
        print(os.waitstatus_to_exitcode(os.waitpid(job["wait"], 0)[1]), flush=True)
        continue
    child = os.fork()
    if child == 0:
        os.environ.update(job["environment"])
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(job[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.argv = ["negrefine", "serve", *job["arguments"]]
        exec(job["prelude"], {})
        try:
            negrefine.cli.main()
        except SystemExit as end:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)
    print(child, flush=True)
"""
BOUNDARY = "b0undary"


def wait_until(condition: Callable[[], Any]) -> None:
    """Look again and again, for at most 20 seconds."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def problem(self) -> tuple[int, str]:
        """Return status and kind of a problem, which is checked to be one."""
        assert self.headers["Content-Type"] == "application/problem+json", self
        content = self.json
        assert content["status"] == self.status
        assert content["title"]
        assert content["detail"].endswith("."), content
        assert len(content["detail"]) <= 1000
        return self.status, content["type"].removeprefix("urn:negrefine:problem:")


@dataclass
class Server:
    """A server process."""

    pid: int
    out: Path
    err: Path
    zygote: Zygote
    hidden: Sequence[str] = ()
    url: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    code: int | None = None

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + 60
        while " on http://" not in self.out.read_text():
            assert time.monotonic() < deadline, self.err.read_text()
            assert Path(f"/proc/{self.pid}/stat").read_text().split()[2] != "Z", (
                self.err.read_text()
            )
            time.sleep(0.02)
        self.url = self.out.read_text().rpartition(" on ")[2].strip()

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60)

    def ask(
        self,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        *,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request; GET without a body, POST with one, in chunks if it is no bytes."""
        connection = self.connect()
        try:
            connection.request(
                method or ("GET" if body is None else "POST"),
                path,
                body,
                {**self.headers, **(headers or {})},
                encode_chunked=body is not None and not isinstance(body, bytes),
            )
            return self.read(connection)
        finally:
            connection.close()

    def read(self, connection: http.client.HTTPConnection) -> Answer:
        """Return the answer on a connection, which must not name what is hidden."""
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        shown = str(answer.headers).encode() + answer.body
        for secret in (*self.hidden, "Traceback", "site-packages"):
            assert secret.encode() not in shown, answer
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in answer.headers
        return answer

    def post(self, path: str, images: Sequence[tuple[str, bytes]], **headers: str) -> Answer:
        """Send images as a form."""
        return self.ask(path, form(images), headers={**FORM, **headers})

    def metrics(self) -> dict[str, float]:
        """Return the samples of /metrics."""
        lines = self.ask("/metrics").body.decode().splitlines()
        pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
        return {name: float(value) for name, _, value in pairs}

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Return the exit code."""
        if self.code is None:
            self.code = int(self.zygote.tell({"wait": self.pid}))
        return self.code


class Zygote:
    """Starts servers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._n = 0
        self._process = subprocess.Popen(
            [sys.executable, "-c", ZYGOTE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, job: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def start(self, *arguments: object, prelude: str = "", **environment: str) -> Server:
        """Start `negrefine serve` on a free port; call `wait_until_ready` before asking.

        `prelude` is code that the process runs first, such as a detector of one's own.
        """
        self._n += 1
        out, err = self._folder / f"out-{self._n}", self._folder / f"err-{self._n}"
        out.touch()
        given = ["--port", "0", *map(str, arguments)]
        job: dict[str, Any] = {"arguments": given, "environment": environment, "prelude": prelude}
        job |= {"out": str(out), "err": str(err)}
        return Server(int(self.tell(job)), out, err, self)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._process.stdout.close()


FORM = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
JSON = {"Content-Type": "application/json"}


def form(images: Sequence[tuple[str, bytes]], field_name: str = "images") -> bytes:
    """Return the body of a form with files."""
    body = io.BytesIO()
    for name, data in images:
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field_name}"; filename="'
        body.write(f'{head}{name}"\r\nContent-Type: image/png\r\n\r\n'.encode() + data + b"\r\n")
    body.write(f"--{BOUNDARY}--\r\n".encode())
    return body.getvalue()
