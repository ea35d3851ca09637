"""Every refusal has its status, a problem with one sentence, and no trace of the server's files."""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from conftest import CLASS_NAMES
from negrefine import MCM
from negrefine.encoders import CLIPEncoder
from serving.processes import BOUNDARY, FORM, JSON, Answer, Server, Zygote, form

PNG = base64.b64encode(b"x").decode()


@pytest.mark.parametrize(
    ("headers", "body", "status", "kind", "words"),
    [
        ({}, b"x", 415, "media-type", "it has no type"),
        ({"Content-Type": "image/png"}, b"x", 415, "media-type", "'image/png'"),
        ({"Content-Type": "multipart/form-data"}, b"x", 400, "malformed", "no boundary"),
        (
            {"Content-Type": f"multipart/form-data; boundary={300 * 'x'}"},
            b"x",
            400,
            "malformed",
            "",
        ),
        ({**FORM, "Content-Encoding": "gzip"}, b"x", 415, "media-type", "Compressed bodies"),
        (FORM, b"no form at all", 400, "malformed", "malformed or cut short"),
        (FORM, form([("a", b"x")])[:-8], 400, "malformed", "cut short"),
        (FORM, form([("a", b"x")])[:60], 400, "malformed", "cut short"),
        (FORM, b"", 400, "malformed", "cut short"),
        (FORM, f"--{BOUNDARY}--\r\n".encode(), 400, "malformed", ""),
        (FORM, form([("a", b"x")], "file"), 400, "malformed", "named 'file'"),
        (FORM, form([("n" * 1001, b"x")]), 400, "malformed", "1001 characters"),
        (FORM, form([("a", b"x")]).replace(b'; filename="a"', b""), 400, "malformed", "file name"),
        (FORM, form([("n" * 9000, b"x")]), 400, "malformed", ""),
        (JSON, b"{", 400, "malformed", "no JSON"),
        (JSON, b"", 400, "malformed", "no JSON"),
        (JSON, b"[" * 30_000, 400, "malformed", "nested"),
        (JSON, b'{"images": NaN}', 400, "malformed", "NaN"),
        (JSON, b"\xff\xfe", 400, "malformed", "UTF-8"),
        (JSON, b'{"images": []}', 400, "malformed", "no image"),
        (JSON, b'{"images": {}}', 400, "malformed", "no list 'images'"),
        (JSON, b'{"images": [1]}', 400, "malformed", "images[0] is no object"),
        (JSON, b'{"images": [{"name": "a"}]}', 400, "malformed", "images[0] is no object"),
        (JSON, b'{"images": [{"name": 1, "data": ""}]}', 400, "malformed", "images[0] is no"),
        (JSON, b'{"images": [{"name": "a", "data": "?"}]}', 400, "malformed", "no base64"),
        (JSON, b'{"images": [{"name": "", "data": "data:x"}]}', 400, "malformed", "a data URL"),
        # Each value would take up to thirty times its bytes.
        (JSON, b'{"images": [' + b"{}," * 20_000 + b"{}]}", 400, "malformed", "more commas"),
        (JSON, b'{"images": [], "top": 1}', 400, "malformed", "field 'top'"),
        (JSON, b'{"images": [{"name": "\\ud800", "data": ""}]}', 400, "malformed", "half of a"),
    ],
)
def test_bodies_that_are_malformed(
    server: Server, headers: dict[str, str], body: bytes, status: int, kind: str, words: str
) -> None:
    for path in ("/v1/score", "/v1/explain"):
        answer = server.ask(path, body, headers=headers)
        assert answer.problem() == (status, kind)
        assert words in answer.json["detail"]


def test_more_images_than_a_request_may_have(server: Server) -> None:
    many = [("a", b"x")] * 33
    assert server.post("/v1/score", many).problem() == (413, "too-many-images")
    encoded = [{"name": "a", "data": PNG}] * 33
    answer = server.ask("/v1/score", json.dumps({"images": encoded}).encode(), headers=JSON)
    assert answer.problem() == (413, "too-many-images")


def test_paths_and_methods(server: Server) -> None:
    for path in ("/nothing", "/v1/score/", "/docs", "/redoc", "/static/", "/static/../gate.py"):
        for method in ("GET", "POST", "OPTIONS", "DELETE"):
            assert server.ask(path, method=method).problem() == (404, "path")
    for path, allow in (("/v1/score", "POST, OPTIONS"), ("/healthz", "GET, HEAD, OPTIONS")):
        answer = server.ask(path, method="DELETE")
        assert answer.problem() == (405, "method")
        assert answer.headers["Allow"] == allow
        answer = server.ask(path, method="OPTIONS")
        assert (answer.status, answer.headers["Allow"], answer.body) == (204, allow, b"")
    assert server.ask("/v1/score", method="GET").problem() == (405, "method")
    assert server.ask("/healthz", b"x").problem() == (405, "method")
    for path in ("/", "/healthz", "/v1/detector", "/metrics"):
        head, get = server.ask(path, method="HEAD"), server.ask(path)
        assert (head.status, head.body) == (get.status, b"") == (200, b"")
        assert head.headers["Content-Type"] == get.headers["Content-Type"]
    unknown = server.metrics()['negrefine_requests_total{endpoint="other",status="404"}']
    assert unknown >= 24


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("attacker.example", 421),
        ("attacker.example:80", 421),
        ("127.0.0.1.attacker.example", 421),
        ("localhost.attacker.example", 421),
        ("10.0.0.1", 421),
        ("", 421),
        ("[", 421),
        # Others may read another name.
        ("localhost@attacker.example", 421),
        ("attacker.example@localhost", 421),
        ("localhost/attacker.example", 421),
        ("localhost#.attacker.example", 421),
        ("localhost?.attacker.example", 421),
        ("localhost:attacker", 421),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("127.0.0.1:9", 200),
        ("127.1.2.3", 200),
        ("[::1]:9", 200),
    ],
)
def test_the_host_must_be_this_machine(server: Server, host: str, status: int) -> None:
    answer = server.ask("/v1/detectors", headers={"Host": host})
    assert answer.status == status
    if status != 200:
        assert answer.problem() == (421, "host")
    # Supervisors ask by an address of their own.
    probe = server.ask("/readyz", headers={"Host": host})
    assert (probe.status, "detectors" in probe.json) == (200, status == 200)
    assert server.ask("/healthz", headers={"Host": host}).status == 200


def test_pages_of_other_sites_cannot_post(
    server: Server, pictures: list[tuple[str, bytes]]
) -> None:
    own = urlsplit(server.url).netloc
    refused = [
        {"Origin": "https://attacker.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": f"http://{own}.attacker.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ]
    for headers in refused:
        assert server.post("/v1/score", pictures[:1], **headers).problem() == (403, "cross-site")
    for headers in ({"Origin": f"http://{own}"}, {"Sec-Fetch-Site": "none"}):
        assert server.post("/v1/score", pictures[:1], **headers).status == 200


def test_the_page_is_served_from_a_list(server: Server) -> None:
    page = server.ask("/")
    assert page.status == 200
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
    assert "unsafe" not in policy
    for name in re.findall(r'(?:src|href)="(static/[^"]+)"', page.body.decode()):
        assert server.ask(f"/{name}").status == 200
    for path in Path(__file__).parents[2].glob("src/negrefine/serving/page/*.*"):
        served = "/" if path.name == "index.html" else f"/static/{path.name}"
        answer = server.ask(served)
        assert answer.body == path.read_bytes()
        assert answer.headers["Cache-Control"] == "no-cache"
        again = server.ask(served, headers={"If-None-Match": answer.headers["ETag"]})
        assert (again.status, again.body) == (304, b"")


def test_what_is_no_http_is_refused(server: Server) -> None:
    for text in (b"\x16\x03\x01 no HTTP\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
        connection = server.connect()
        connection.connect()
        connection.sock.sendall(text)
        response = http.client.HTTPResponse(connection.sock)
        response.begin()
        answer = Answer(response.status, response.headers, response.read())
        assert answer.problem() == (400, "malformed")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        connection.close()
    assert server.ask("/healthz").status == 200


def test_a_refusal_reaches_clients_that_send_the_whole_body_first(server: Server) -> None:
    # Such as urllib, which also closes the connection after each answer.
    for path, kind, data in [
        ("/v1/score", FORM["Content-Type"], bytes(40_000_000)),
        ("/v1/score", "image/png", bytes(20_000_000)),
        ("/v1/score", FORM["Content-Type"], form([("a", bytes(20_000_000))], "file")),
        ("/v1/detectr", "image/png", bytes(20_000_000)),
    ]:
        request = Request(server.url.rstrip("/") + path, data, {"Content-Type": kind})  # noqa: S310
        with pytest.raises(HTTPError) as caught:
            urlopen(request, timeout=60)  # noqa: S310
        with caught.value as answer:
            assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_client_may_ask_before_it_sends(server: Server) -> None:
    connection = server.connect()
    connection.putrequest("POST", "/v1/score")
    for name, value in {**FORM, "Content-Length": "99999999", "Expect": "100-continue"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    started = time.monotonic()
    assert server.read(connection).problem() == (413, "body-too-large")
    assert time.monotonic() - started < 0.4
    connection.close()


def test_a_broken_chunk_gets_one_answer(server: Server) -> None:
    head = "POST {} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    head += f"Content-Type: {FORM['Content-Type']}\r\n\r\n5\r\n--b0u\r\n"
    for path, status in (("/v1/score", 400), ("/nothing", 404)):
        connection = server.connect()
        connection.connect()
        connection.sock.sendall(head.format(path).encode())
        if status == 404:
            # It waits half a second for more.
            assert connection.sock.recv(12) == b"HTTP/1.1 404"
        connection.sock.sendall(b"no chunk\r\n")
        received = connection.sock.makefile("rb").read()
        assert received.count(b"HTTP/1.1") == (0 if status == 404 else 1)
        if status == 400:
            assert received.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        connection.close()


def test_two_lengths_are_none(server: Server) -> None:
    # A proxy that goes by the first would take what follows for a request of somebody else.
    head = "POST /v1/score HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    after = "0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    connection = server.connect()
    connection.connect()
    connection.sock.sendall(f"{head}Content-Length: {len(after)}\r\n\r\n{after}".encode())
    received = connection.sock.makefile("rb").read()
    assert received.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"both Content-Length and Transfer-Encoding" in received
    assert received.count(b"HTTP/1.1") == 1
    connection.close()


def test_names_of_many_commas_are_names(server: Server, pictures: list[tuple[str, bytes]]) -> None:
    data = base64.b64encode(pictures[0][1]).decode()
    images = [{"name": ",[{" * 333, "data": data}] * 32
    body = json.dumps({"images": images}).encode()
    # Without a monitor, to which so many copies are a drift.
    answer = server.ask("/v1/score?detector=local", body, headers=JSON)
    assert [row["name"] for row in answer.json["results"]] == [",[{" * 333] * 32


def test_a_name_may_be_written_as_in_rfc_5987(
    server: Server, pictures: list[tuple[str, bytes]]
) -> None:
    body = form([("a", pictures[0][1])])
    body = body.replace(b'filename="a"', b"filename*=UTF-8''gr%C3%BCn%22.png")
    answer = server.ask("/v1/score", body, headers=FORM)
    assert answer.json["results"][0]["name"] == 'gr\u00fcn".png'


def test_the_name_of_an_upload_opens_no_file(server: Server, tmp_path: Path) -> None:
    # Pillow maps plain formats into memory, from the file of their name.
    other = tmp_path / "other.bin"
    other.write_bytes(bytes(range(256)) * 20)
    plain = b"P5 64 64 255\n" + bytes([255]) * 64 * 64
    named, nameless = server.post("/v1/score", [(str(other), plain), ("a", plain)]).json["results"]
    assert named["score"] == pytest.approx(nameless["score"], abs=1e-6)


def test_refusals_leave_no_line_in_the_log(server: Server) -> None:
    warned = [line for line in server.err.read_text().splitlines() if "no threshold" not in line]
    assert warned == []


FICKLE = """
from negrefine.detectors import MCM, detector, register

@detector
class Fickle(MCM):
    method = "fickle"

    def compute_part(self, name, images):
        if len(images) > 1:
            raise RuntimeError("the inside of /hidden/place")
        return super().compute_part(name, images)

register(Fickle)
"""


def test_a_fault_is_answered_by_a_name_for_the_log(
    zygote: Zygote, builtin_encoder: CLIPEncoder, tmp_path: Path, pictures: list[tuple[str, bytes]]
) -> None:
    MCM(builtin_encoder).fit(CLASS_NAMES).save(tmp_path / "mcm")
    save = f"""
from negrefine import load_encoder
Fickle(load_encoder("builtin", device="cpu")).fit({CLASS_NAMES}).save({str(tmp_path / "own")!r})
"""
    places = [tmp_path / "own", tmp_path / "mcm"]
    server = zygote.start(*places, "--batch-wait", 300, prelude=FICKLE + save)
    server.hidden = [str(tmp_path), "/hidden", "RuntimeError"]
    server.wait_until_ready()
    with ThreadPoolExecutor(2) as pool:
        own = pool.submit(server.post, "/v1/score", pictures[:2])
        # In the same batch, others do not suffer.
        other = pool.submit(server.post, "/v1/score?detector=mcm", pictures[:2])
        answer = own.result()
        assert other.result().status == 200
    assert answer.problem() == (500, "fault")
    found = re.search("[0-9a-f]{16}", answer.json["detail"])
    assert found is not None
    log = server.err.read_text()
    assert f"negrefine: Fault {found[0]}:\n" in log
    assert "RuntimeError: the inside of /hidden/place\n" in log
    assert server.post("/v1/score", pictures[:1]).status == 200
    # Clients choose how many images there are to warn of, so few warnings are shown.
    dark = io.BytesIO()
    Image.fromarray(np.full((20, 20), 1000, dtype=np.uint16)).save(dark, "PNG")
    answer = server.post(
        "/v1/score?detector=mcm", [(f"{i}.png", dark.getvalue()) for i in range(20)]
    )
    assert answer.status == 200
    assert server.err.read_text().count("nearly black") == 10
    server.signal(15)
    assert server.wait() == 0
