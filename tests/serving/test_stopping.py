"""SIGTERM and SIGINT: what was accepted is answered, what comes later is refused."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from negrefine import Detector
from serving.processes import FORM, Server, Zygote, form
from serving.test_limits import wait_until

Pictures = list[tuple[str, bytes]]
Hosted = tuple[Path, dict[str, Detector]]


def start(zygote: Zygote, hosted: Hosted, *options: object) -> Server:
    server = zygote.start(hosted[0] / "refined", *options, NEGREFINE_TOKEN="")
    server.hidden = [str(hosted[0])]
    server.wait_until_ready()
    return server


def test_requests_under_way_are_answered(
    zygote: Zygote, hosted: Hosted, pictures: Pictures
) -> None:
    server = start(zygote, hosted, "--batch-wait", 1500)
    body = form(pictures[:1])
    # An upload that has begun counts, too.
    upload = server.connect()
    upload.putrequest("POST", "/v1/score")
    for name, value in {**FORM, "Content-Length": str(len(body))}.items():
        upload.putheader(name, value)
    upload.endheaders(body[:50])
    with ThreadPoolExecutor(6) as pool:
        waiting = [pool.submit(server.post, "/v1/score", pictures[i : i + 2]) for i in range(6)]
        wait_until(lambda: server.metrics()["negrefine_queue_images"] == 12)
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.ask("/readyz").status == 503)
        assert server.ask("/readyz").json["status"] == "stopping"
        assert server.ask("/healthz").status == 200
        answer = server.post("/v1/score", pictures[:1])
        assert answer.problem() == (503, "stopping")
        assert answer.headers["Retry-After"] == "5"
        upload.send(body[50:])
        assert {each.result().status for each in waiting} == {200}
        assert server.read(upload).status == 200
    upload.close()
    assert server.wait() == 0
    log = server.err.read_text().splitlines()
    assert log[0].startswith("negrefine: Stopping: ")
    assert log[1:] == ["negrefine: Stopped."]


def test_the_grace_ends(zygote: Zygote, hosted: Hosted, pictures: Pictures) -> None:
    server = start(zygote, hosted, "--batch-wait", 9000, "--grace", 0.3)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(server.post, "/v1/score", pictures[:1]) for _ in range(2)]
        wait_until(lambda: server.metrics()["negrefine_queue_images"] == 2)
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        assert {each.result().problem() for each in waiting} == {(503, "stopping")}
    assert server.wait() == 1
    assert time.monotonic() - started < 6
    assert "negrefine: 2 requests were cut off." in server.err.read_text()


def test_a_second_signal_ends_the_grace(zygote: Zygote, hosted: Hosted, pictures: Pictures) -> None:
    server = start(zygote, hosted, "--batch-wait", 9000)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.post, "/v1/score", pictures[:1])
        wait_until(lambda: server.metrics()["negrefine_queue_images"] == 1)
        # A terminal that is closed is no reason to drop what was accepted.
        server.signal(signal.SIGHUP)
        wait_until(lambda: server.ask("/readyz").status == 503)
        server.signal(signal.SIGINT)
        assert waiting.result().problem() == (503, "stopping")
    assert server.wait() == 1
    log = server.err.read_text().splitlines()[1:]
    assert log[0] == "negrefine: A second signal: what is not answered yet is cut off."
    assert log[1] == "negrefine: 1 request was cut off."


def test_sigint_is_an_ordinary_end(zygote: Zygote, hosted: Hosted) -> None:
    server = start(zygote, hosted)
    idle = server.connect()
    idle.request("GET", "/healthz")
    assert server.read(idle).status == 200
    server.signal(signal.SIGINT)
    assert server.wait() == 0
    idle.close()
    assert server.err.read_text().splitlines()[-1] == "negrefine: Stopped."
