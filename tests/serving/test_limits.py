"""Limits hold while bodies are read, before images are decoded, and while images wait."""

from __future__ import annotations

import io
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from cli.workspace import png_header
from negrefine import Detector
from serving.conftest import TOKEN
from serving.processes import FORM, Server, Zygote, form, wait_until

Pictures = list[tuple[str, bytes]]
Hosted = tuple[Path, dict[str, Detector]]


def test_three_images_fill_a_batch(narrow: Server, pictures: Pictures) -> None:
    assert narrow.post("/v1/score", pictures[:3]).status == 200


def test_a_token_opens_all_but_health_and_the_page(narrow: Server, pictures: Pictures) -> None:
    paths = {"/": 200, "/healthz": 200, "/readyz": 200, "/v1/detectors": 401, "/v1/detector": 401}
    paths |= {"/metrics": 401, "/openapi.json": 401}
    for path, status in paths.items():
        right = narrow.ask(path)
        assert right.status == 200
        for given in ("", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "é"):
            answer = narrow.ask(path, headers={"Authorization": given})
            assert answer.status == status, (path, given)
            if status == 401:
                assert answer.problem() == (401, "token")
                assert answer.headers["WWW-Authenticate"].startswith("Bearer ")
    for path in ("/v1/score", "/v1/explain"):
        answer = narrow.post(path, pictures[:1], Authorization="")
        assert answer.problem() == (401, "token")
    assert narrow.ask("/v1/detectors", headers={"Authorization": f"bearer {TOKEN}"}).status == 200
    assert narrow.ask("/readyz", headers={"Authorization": ""}).json == {"status": "ready"}
    assert set(narrow.ask("/readyz").json["detectors"]) == {"refined", "csp", "local"}


def test_a_body_that_is_too_large_is_not_read(narrow: Server) -> None:
    before = narrow.metrics()["negrefine_batch_images_sum"]
    large = form([("a.png", bytes(200_001))])
    assert narrow.ask("/v1/score", large, headers=FORM).problem() == (413, "body-too-large")
    # Nothing of the body is sent: the head alone says too much.
    for length in ("200001", "9" * 20):
        connection = narrow.connect()
        connection.putrequest("POST", "/v1/score")
        for name, value in {**FORM, **narrow.headers, "Content-Length": length}.items():
            connection.putheader(name, value)
        connection.endheaders()
        assert narrow.read(connection).problem() == (413, "body-too-large")
        connection.close()

    n_sent = 0

    def chunks() -> Iterator[bytes]:
        nonlocal n_sent
        yield large[:300]
        while n_sent < 100:
            n_sent += 1
            yield bytes(10_000)

    answer = narrow.ask("/v1/score", chunks(), headers=FORM)
    assert answer.problem() == (413, "body-too-large")
    assert narrow.metrics()["negrefine_batch_images_sum"] == before


def test_a_body_may_come_in_chunks(narrow: Server, pictures: Pictures) -> None:
    body = form(pictures[:3])
    answer = narrow.ask(
        "/v1/score", (body[i : i + 7] for i in range(0, len(body), 7)), headers=FORM
    )
    assert answer.status == 200
    assert [row["error"] for row in answer.json["results"]] == [None] * 3


def test_bombs_are_refused_by_their_header(narrow: Server) -> None:
    bomb = io.BytesIO()
    Image.new("L", (1001, 1000)).save(bomb, "PNG")
    images = [("bomb.png", bomb.getvalue()), ("huge.png", png_header(60_000, 60_000))]
    answer = narrow.post("/v1/score", [*images, ("thread.png", png_header(1, 900_000))])
    assert answer.problem() == (422, "unreadable")
    first, second, third = (each["error"] for each in answer.json["errors"])
    assert first == (
        "bomb.png: 1,001 x 1,000 pixels are more than the 1,000,000 that this server takes; "
        "shrink the image."
    )
    assert second.startswith("huge.png: 60,000 x 60,000 pixels are more than")
    assert third.startswith("thread.png: ")
    # Advice for operators is none for clients.
    assert "trust" not in answer.body.decode()
    assert narrow.post("/v1/score", [("a", b"x")] * 4).problem() == (413, "too-many-images")


def test_an_image_is_not_encoded_after_its_deadline(narrow: Server, pictures: Pictures) -> None:
    before = narrow.metrics()
    body = form(pictures[:1])

    def slowly() -> Iterator[bytes]:
        yield body[:10]
        time.sleep(0.8)
        yield body[10:]

    # It waits 1.5 seconds for two others, and there is less left of 2.
    started = time.monotonic()
    answer = narrow.ask("/v1/score", slowly(), headers=FORM)
    assert answer.problem() == (503, "deadline")
    assert time.monotonic() - started > 1.9
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    wait_until(lambda: narrow.metrics()["negrefine_queue_images"] == 0)
    after = narrow.metrics()
    assert after["negrefine_batch_images_sum"] == before["negrefine_batch_images_sum"]
    shed = 'negrefine_shed_requests_total{reason="deadline"}'
    assert after[shed] == before[shed] + 1


def test_a_full_queue_sheds_requests(narrow: Server, pictures: Pictures) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(narrow.post, "/v1/score", pictures[:2])
        wait_until(lambda: narrow.metrics()["negrefine_queue_images"] == 2)
        answer = narrow.post("/v1/score?detector=local", pictures[:3])
        assert answer.problem() == (503, "queue-full")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        # The two go on, and a third completes their batch.
        assert narrow.post("/v1/score?detector=local", pictures[2:3]).status == 200
        assert waiting.result().status == 200


def test_the_bodies_under_way_have_a_limit(narrow: Server, pictures: Pictures) -> None:
    connections = []
    for _ in range(8):
        connection = narrow.connect()
        connection.putrequest("POST", "/v1/score")
        for name, value in {**FORM, **narrow.headers, "Transfer-Encoding": "chunked"}.items():
            connection.putheader(name, value)
        connection.endheaders()
        connections.append(connection)
    wait_until(lambda: narrow.metrics()["negrefine_bodies_bytes"] == 8 * 200_000)
    answer = narrow.post("/v1/score", pictures[:3])
    assert answer.problem() == (503, "bodies-full")
    assert answer.headers["Retry-After"] == "1"

    # The bodies never come, and each request ends at its deadline.
    assert {narrow.read(each).problem() for each in connections} == {(408, "slow-body")}
    for connection in connections:
        connection.close()
    wait_until(lambda: narrow.metrics()["negrefine_bodies_bytes"] == 0)
    assert narrow.post("/v1/score", pictures[:3]).status == 200


def test_a_client_that_leaves_costs_no_encoding(narrow: Server, pictures: Pictures) -> None:
    before = narrow.metrics()["negrefine_batch_images_sum"]
    connection = narrow.connect()
    connection.request("POST", "/v1/score", form(pictures[:2]), {**FORM, **narrow.headers})
    wait_until(lambda: narrow.metrics()["negrefine_queue_images"] == 2)
    connection.close()
    left = 'negrefine_requests_total{endpoint="/v1/score",status="499"}'
    wait_until(lambda: narrow.metrics().get(left) == 1)
    wait_until(lambda: narrow.metrics()["negrefine_queue_images"] == 0)
    assert narrow.metrics()["negrefine_batch_images_sum"] == before


FEW_FILES = """
import resource
from negrefine.serving.connection import Connection
resource.setrlimit(resource.RLIMIT_NOFILE, (112, 112))
Connection.head_seconds = Connection.unread_seconds = 1
"""


def test_connections_are_few_and_must_speak(zygote: Zygote, hosted: Hosted) -> None:
    server = zygote.start(hosted[0] / "refined", prelude=FEW_FILES, NEGREFINE_TOKEN="")
    server.wait_until_ready()
    silent = [server.connect() for _ in range(12)]
    for connection in silent:
        connection.connect()
    answer = server.ask("/healthz")
    assert answer.problem() == (503, "connections-full")
    assert answer.headers["Retry-After"] == "1"
    # Half a head is no head.
    silent[0].sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
    wait_until(lambda: server.ask("/healthz").status == 200)
    for connection in silent:
        assert connection.sock.recv(1) == b""
        connection.close()
    # Answers that nobody reads hold up nothing.
    deaf = [server.connect() for _ in range(12)]
    for connection in deaf:
        connection.connect()
        connection.sock.sendall(b"GET /static/app.css HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
    wait_until(lambda: server.ask("/healthz").status == 200)
    for connection in deaf:
        connection.close()
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
