"""Malformed and odd requests: bodies, heads and whole conversations, from a seeded generator."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from http_load.client import BOUNDARY, form_of

ENDPOINTS = (
    *("/v1/score", "/v1/explain", "/v1/detector", "/v1/detectors", "/healthz", "/readyz"),
    *("/metrics", "/openapi.json", "/", "/static/app.js"),
)
_FORM = f"multipart/form-data; boundary={BOUNDARY}"
_NAMES = (
    *("", "a.png", "\0", "a\0b.png", "../../etc/passwd", "\u202egnp.exe", "a" * 5000, "<b>&\"'"),
    *("=1+1", "\r\nX-Injected: 1", "\x1b[2J", "\ud800", "é.png", "\U0001f98a.png", "a\\b", "."),
)


@dataclass(frozen=True)
class Case:
    """A conversation.

    Attributes:
        name: What is odd about it.
        pieces: Bytes to send.
        expected: Answers that must come; 0 if the request is not whole, or nobody can tell, so that
            the server may just close the connection.
        head_only: The answer has no body.
        leaves: The client goes away after the last byte.
        pause: Seconds between the pieces.
    """

    name: str
    pieces: tuple[bytes, ...]
    expected: int = 1
    head_only: bool = False
    leaves: bool = False
    pause: float = 0.0


def request(
    body: bytes = b"",
    content_type: str | None = None,
    *,
    method: str = "POST",
    target: str = "/v1/score",
    headers: bytes = b"",
    length: int | str | None = None,
) -> bytes:
    """Return a request with a length that is right unless another is given."""
    lines = [f"{method} {target} HTTP/1.1", "Host: 127.0.0.1"]
    if content_type is not None:
        lines.append(f"Content-Type: {content_type}")
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    head = "\r\n".join([*lines, ""]).encode("utf-8", "surrogatepass")
    return head + headers + b"\r\n" + body


def cases(number: int, seed: int, picture: bytes) -> Case:
    """Return the case of this number, with a valid picture at hand."""
    rng = random.Random(f"{seed} {number}")  # noqa: S311 - no secret
    kind = _KINDS[number % len(_KINDS)]
    case = kind(rng, picture)
    return replace(case, name=f"{kind.__name__.strip('_')}: {case.name}")


def _mutated(data: bytes, rng: random.Random) -> bytes:
    content = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place, kind = rng.randrange(max(1, len(content))), rng.randrange(5)
        if kind == 0 and content:
            content[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del content[place : place + rng.randrange(1, 40)]
        elif kind == 2:
            content[place:place] = content[: rng.randrange(64)]
        elif kind == 3:
            content[place:place] = rng.choice([b"\r\n", b"\n", b"\0", b"--", b'"', b"\xff", b"%00"])
        elif content:
            content[place] = rng.randrange(256)
    return bytes(content)


def _form_cut(rng: random.Random, picture: bytes) -> Case:
    form = form_of([("a.png", picture), ("b.png", picture)])
    body = form[: rng.randrange(len(form))]
    return Case("shorter, with its right length", (request(body, _FORM),))


def _form_mutated(rng: random.Random, picture: bytes) -> Case:
    form = form_of([("a.png", picture[:200])])
    return Case("mutated", (request(_mutated(form, rng), _FORM, target=rng.choice(ENDPOINTS[:2])),))


def _form_parts(rng: random.Random, picture: bytes) -> Case:
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n'
    end = f"\r\n--{BOUNDARY}--\r\n".encode()
    name = rng.choice(_NAMES).encode("utf-8", "surrogatepass")
    disposition = b'Content-Disposition: form-data; name="images"; filename="' + name + b'"'
    first = f"--{BOUNDARY}\r\n".encode()
    bodies = {
        "another field": part.replace("images", "files").encode() + b"\r\nx" + end,
        "a file name that is odd": first + disposition + b"\r\n\r\n" + picture + end,
        "no file name": part.replace('; filename="a"', "").encode() + b"\r\nx" + end,
        "filename*": part.replace("filename=", "filename*=UTF-8''").encode() + b"\r\nx" + end,
        "no disposition": first + b"X: y\r\n\r\n" + picture + end,
        "two dispositions": first + disposition + b"\r\n" + disposition + b"\r\n\r\nx" + end,
        "no headers": first + b"\r\n" + picture + end,
        "a huge header": first + b"X: " + b"y" * rng.choice([5000, 200_000]) + b"\r\n\r\nx" + end,
        "many headers": first + b"X: y\r\n" * 3000 + b"\r\nx" + end,
        "many parts": (part.encode() + b"\r\n\r\n") * rng.choice([32, 33, 5000]) + end[2:],
        "line feeds": form_of([("a.png", picture)]).replace(b"\r\n", b"\n"),
        "a part within": form_of([("a", form_of([("b", picture)]))]),
        "no part": f"--{BOUNDARY}--\r\n".encode(),
        "nothing": b"",
        "only a preamble": b"hello",
        "something after the end": form_of([("a.png", picture)]) + b"x" * rng.choice([1, 70_000]),
        "something before": b"x" * 1000 + b"\r\n" + form_of([("a.png", picture)]),
        "an encoding": part.encode() + b"Content-Transfer-Encoding: base64\r\n\r\nAAAA" + end,
    }
    what = rng.choice(sorted(bodies))
    return Case(what, (request(bodies[what], _FORM),))


def _content_type(rng: random.Random, picture: bytes) -> Case:
    form = form_of([("a.png", picture)])
    given = rng.choice(
        [
            *(None, "", "image/png", "text/plain", "application/x-www-form-urlencoded", "*/*"),
            *(
                "multipart/form-data",
                "multipart/form-data; boundary=",
                "multipart/mixed; boundary=x",
            ),
            f'Multipart/Form-Data; Boundary="{BOUNDARY}"',
            f"{_FORM}; boundary=other",
            f"multipart/form-data; boundary={'b' * 5000}",
            "multipart/form-data; boundary=\xe9\xff",
            'multipart/form-data; boundary="a\\"b',
            *(
                "application/json",
                "application/json; charset=utf-16",
                "application/json-patch+json",
            ),
            *(";", "a" * 20_000, "application/json\t", "\xff/\xfe", "multipart/form-data;" * 500),
        ]
    )
    return Case(f"{str(given)[:60]!r}", (request(form, given),))


def _json_values(rng: random.Random, picture: bytes) -> Case:
    data = base64.b64encode(picture).decode()
    image: dict[str, Any] = {"name": "a.png", "data": data}
    deep = b"[" * rng.choice([100, 1000, 200_000])
    texts: dict[str, bytes] = {
        "deep": deep,
        "deep within": b'{"images": ' + deep + b"]" * len(deep) + b"}",
        "a long number": b'{"images": ' + b"9" * 100_000 + b"}",
        "NaN": b'{"images": [NaN, Infinity, -Infinity]}',
        "1e999": b'{"images": 1e999}',
        "two of a key": b'{"images": [], "images": [{"name": "a", "data": ""}]}',
        "a half surrogate": b'{"images": [{"name": "\\ud800", "data": "AAAA"}]}',
        "bytes that are no UTF-8": b'{"images": [{"name": "\xff\xfe", "data": "AAAA"}]}',
        "UTF-16": json.dumps({"images": [image]}).encode("utf-16"),
        "a mark of order": b"\xef\xbb\xbf" + json.dumps({"images": [image]}).encode(),
        "NUL": b'{"images": [{"name": "\\u0000", "data": "AA\\u0000A"}]}',
        "a raw NUL": b'{"images": [{"name": "\0", "data": "AAAA"}]}',
        "nothing": b"",
        "spaces": b" " * 100_000,
        "text after the end": json.dumps({"images": [image]}).encode() + b" x",
    }
    values: dict[str, Any] = {
        "names": {"images": [{"name": rng.choice(_NAMES), "data": data}]},
        "base64": {"images": [{"name": "a", "data": rng.choice(_BASE64) + data}]},
        "base64 cut": {"images": [{"name": "a", "data": data[: rng.randrange(len(data))]}]},
        "types": {"images": [rng.choice([None, 1, "x", [], {}, {"name": 1, "data": 2}, [image]])]},
        "list": rng.choice([[], None, 1, "x", [image], {"images": image}, {"images": None}]),
        "fields": {"images": [{**image, "path": "/etc/passwd"}]},
        "fields above": {"images": [image], "detector": "x", "\ud800": 1},
        "counts": {"images": [image] * rng.choice([0, 32, 33, 3000])},
        "many empty": {"images": [{}] * 32},
    }
    what = rng.choice([*sorted(texts), *sorted(values)])
    text = texts[what] if what in texts else json.dumps(values[what]).encode()
    target = rng.choice(ENDPOINTS[:2])
    return Case(what, (request(text, "application/json", target=target),))


_BASE64 = ("data:image/png;base64,", "=", "A=", "\n", " ", "-_-_", "é", "\0", "%41", "====")


def _json_mutated(rng: random.Random, picture: bytes) -> Case:
    image = {"name": "a.png", "data": base64.b64encode(picture[:300]).decode()}
    text = _mutated(json.dumps({"images": [image]}).encode(), rng)
    return Case("mutated", (request(text, "application/json"),))


def _query(rng: random.Random, picture: bytes) -> Case:
    query = rng.choice(
        [
            *("top=0", "top=-1", "top=101", "top=abc", "top=", "top=1&top=2", "top=1e2", "top=%00"),
            *(
                f"top={'9' * 5000}",
                "top=NaN",
                "top=5&",
                "&&&",
                "=",
                "?",
                "top[]=1",
                "%zz",
                "%",
                "#",
            ),
            *(
                "detector=",
                "detector=%00",
                "detector=%ff%fe",
                "detector=../..",
                "detector=a&detector=",
            ),
            *(f"detector={'d' * 5000}", "detector=%ED%A0%80", "detector=%E2%80%AE", "unknown=1"),
        ]
    )
    target = f"{rng.choice(ENDPOINTS)}?{query}"
    body = form_of([("a.png", picture)])
    if target.startswith(ENDPOINTS[:2]):
        return Case(query[:60], (request(body, _FORM, target=target),))
    return Case(query[:60], (request(method="GET", target=target),))


def _method(rng: random.Random, picture: bytes) -> Case:
    method = rng.choice(
        [
            *("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"),
            "get",
            "X",
            "POST",
        ]
    )
    target = rng.choice([*ENDPOINTS, "/nothing", "//", "/v1/score/", "/V1/score", "*"])
    body = picture if method in {"PUT", "POST"} else b""
    sent = request(body, "image/png" if body else None, method=method, target=target)
    return Case(f"{method} {target}", (sent,), head_only=method == "HEAD")


def _target(rng: random.Random, _: bytes) -> Case:
    target = rng.choice(
        [
            *(
                "/../../etc/passwd",
                "/static/../../../etc/passwd",
                "/static/%2e%2e/%2e%2e/x",
                "/%00",
            ),
            *("/static//etc/passwd", "/static/app.js%00", "http://example.org/healthz", "/%ff%fe"),
            *("/" + "a" * 60_000, "/" + "a/" * 3000, "/v1\\score", "/%E2%80%AE", "/healthz;x=1"),
            *("/static/" + "../" * 500, "/openapi.json/", "/docs", "/redoc", "/static/index.html"),
        ]
    )
    return Case(target[:60], (request(method="GET", target=target),))


def _length(rng: random.Random, picture: bytes) -> Case:
    form = form_of([("a.png", picture)])
    length = rng.choice(
        [
            "-1",
            "+5",
            "0x10",
            "1e3",
            "5, 5",
            "9" * 30,
            "9" * 5000,
            "1 2",
            "",
            "\u0665",
            "1.0",
            "10_0",
        ]
    )
    sent = request(form, _FORM, length=length)
    return Case(f"length {length[:20]!r}", (sent,), expected=0, leaves=True)


def _length_other(rng: random.Random, picture: bytes) -> Case:
    form = form_of([("a.png", picture)])
    shift = rng.choice([-len(form), -1, -rng.randrange(len(form)), 1, 1000])
    sent = request(form, _FORM, length=len(form) + shift)
    # What is longer than it says is followed by garbage that may get an answer of its own.
    return Case(f"length {shift:+}", (sent,), expected=int(shift < 0), leaves=shift > 0)


def _length_huge(rng: random.Random, _: bytes) -> Case:
    length = rng.choice([2**25 + 1, 2**31, 2**63, 10**18])
    return Case(f"length {length}, and no body", (request(b"", _FORM, length=length),))


def _chunked(rng: random.Random, picture: bytes) -> Case:
    form = form_of([("a.png", picture)])
    head = (
        f"POST /v1/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {_FORM}\r\n"
        "Transfer-Encoding: chunked\r\n"
    ).encode()
    size = f"{len(form):x}".encode()
    whole = size + b"\r\n" + form + b"\r\n0\r\n\r\n"
    single = b"".join(b"1\r\n%c\r\n" % byte for byte in form[:3000]) + b"0\r\n\r\n"
    what, sent, expected = rng.choice(
        [
            ("right", head + b"\r\n" + whole, 1),
            ("of single bytes, cut", head + b"\r\n" + single, 1),
            ("with an extension", head + b"\r\n" + whole.replace(b"\r\n", b";a=b\r\n", 1), 1),
            ("with a trailer", head + b"\r\n" + whole[:-2] + b"X: y\r\n\r\n", 1),
            ("of letters", head + b"\r\nzz\r\n" + form, 1),
            ("negative", head + b"\r\n-5\r\nabcde\r\n0\r\n\r\n", 1),
            ("huge", head + b"\r\n" + b"f" * 16 + b"\r\n" + form, 0),
            ("of many digits", head + b"\r\n" + b"0" * 3000 + size + b"\r\n" + form, 0),
            ("without an end", head + b"\r\n" + whole[:-5], 0),
            ("with a length", head + b"Content-Length: 5\r\n\r\n" + whole, 0),
            ("with a wrong size", head + b"\r\n5\r\n" + whole, 1),
            ("unknown coding", head.replace(b"chunked", b"gzip, chunked") + b"\r\n" + whole, 0),
        ]
    )
    return Case(what, (sent,), expected=expected, leaves=not expected)


def _head(rng: random.Random, _: bytes) -> Case:
    line, named = b"GET /healthz HTTP/1.1\r\n", b"GET /v1/detectors HTTP/1.1\r\n"
    host = b"Host: 127.0.0.1\r\n"
    what, sent, expected = rng.choice(
        [
            ("a huge header", line + host + b"X: " + b"y" * 60_000 + b"\r\n\r\n", 1),
            ("many headers", line + host + b"X: y\r\n" * 5000 + b"\r\n", 1),
            ("no host", line + b"\r\n", 1),
            ("two hosts", line + host + b"Host: example.org\r\n\r\n", 1),
            ("a host with a user", named + b"Host: a@127.0.0.1\r\n\r\n", 1),
            ("a host of brackets", named + b"Host: [::1\r\n\r\n", 1),
            ("another host", named + b"Host: example.org\r\n\r\n", 1),
            ("a NUL", line + host + b"X: a\0b\r\n\r\n", 1),
            ("letters above ASCII", line + host + b"X: \xff\xfe\r\n\r\n", 1),
            ("a name with a space", line + host + b"X Y: z\r\n\r\n", 1),
            ("a line that goes on", line + host + b"X: a\r\n b\r\n\r\n", 1),
            ("two lengths", line + host + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n", 1),
            ("the same length twice", line + host + b"Content-Length: 0\r\n" * 2 + b"\r\n", 1),
            ("HTTP/1.0", b"GET /healthz HTTP/1.0\r\n\r\n", 1),
            ("HTTP/0.9", b"GET /healthz\r\n", 0),
            ("HTTP/9.9", b"GET /healthz HTTP/9.9\r\n" + host + b"\r\n", 1),
            ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 1),
            ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100 + b"\r\n\r\n", 1),
            ("line feeds", b"GET /healthz HTTP/1.1\nHost: 127.0.0.1\n\n", 1),
            ("a websocket", line + host + _WEBSOCKET + b"\r\n", 1),
            ("another protocol", line + host + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 1),
            ("a coding of the answer", line + host + b"Accept-Encoding: gzip, br\r\n\r\n", 1),
            ("ranges", line + host + b"Range: bytes=0-1,-1,5-\r\n\r\n", 1),
            ("a token", line + host + b"Authorization: Bearer \xff\xfe\r\n\r\n", 1),
            ("a colon first", line + b": x\r\n" + host + b"\r\n", 1),
            ("an empty line first", b"\r\n" + line + host + b"\r\n", 1),
            ("nothing but zeros", b"\0" * 70_000 + b"\r\n\r\n", 1),
            ("no end", line + host, 0),
            ("nothing", b"", 0),
        ]
    )
    return Case(what, (sent,), expected=expected, leaves=not expected)


_WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def _accept(rng: random.Random, picture: bytes) -> Case:
    accept = rng.choice(
        [
            "image/png",
            "image/png;q=0",
            "*/*",
            "image/png, */*",
            "\xff",
            "a" * 20_000,
            ",;,",
            "IMAGE/PNG",
        ]
    )
    n = rng.choice([1, 2])
    body = form_of([("a.png", rng.choice([picture, b"no picture"]))] * n)
    header = f"Accept: {accept}\r\n".encode("latin-1")
    sent = request(body, _FORM, target="/v1/explain", headers=header)
    return Case(f"{n} for {accept[:30]!r}", (sent,))


def _expect(rng: random.Random, picture: bytes) -> Case:
    body = form_of([("a.png", picture)])
    given = rng.choice([b"100-continue", b"200-ok"])
    coding = rng.choice([b"", b"Content-Encoding: gzip\r\n"])
    sent = request(b"", _FORM, headers=b"Expect: " + given + b"\r\n" + coding, length=len(body))
    return Case(f"{given!r} {coding!r}", (sent, body), pause=0.05)


def _pipelined(rng: random.Random, picture: bytes) -> Case:
    get = request(method="GET", target="/healthz")
    post = request(form_of([("a.png", picture)]), _FORM)
    what, sent, expected = rng.choice(
        [
            ("50 reads", get * 50, 50),
            ("reads and scores", (get + post) * 3, 6),
            ("garbage after a read", get + b"\0\xff garbage\r\n\r\n" * 10, 1),
            ("garbage after a score", post + b"\0\xff" * 1000, 1),
            ("a refusal in between", get + request(b"x", "text/plain") + get, 3),
        ]
    )
    return Case(what, (sent,), expected=expected)


def _pieces(rng: random.Random, picture: bytes) -> Case:
    sent = request(form_of([("a.png", picture)]), _FORM)
    cuts = sorted(rng.randrange(1, len(sent)) for _ in range(6))
    pieces = tuple(sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True))
    return Case("slowly", pieces, pause=0.02)


def _mutated_whole(rng: random.Random, picture: bytes) -> Case:
    sent = request(form_of([("a.png", picture[:100])]), _FORM)
    head = sent.index(b"\r\n\r\n")
    return Case("head", (_mutated(sent[:head], rng) + sent[head:],), expected=0, leaves=True)


_KINDS: tuple[Callable[[random.Random, bytes], Case], ...] = (
    *(_form_cut, _form_mutated, _form_parts, _content_type, _json_values, _json_mutated, _query),
    *(_method, _target, _length, _length_other, _length_huge, _chunked, _head, _accept, _expect),
    *(_pipelined, _pieces, _mutated_whole, _head, _json_values, _form_parts),
)
