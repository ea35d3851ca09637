"""Requests byte by byte over a socket, and answers as they come."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BufferedReader
from typing import Any


@dataclass(frozen=True)
class Answer:
    """An answer that came whole; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Return its body."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Heard:
    """What came back: whole answers, and then `end`.

    `end` is "closed", "cut off" (within an answer), "silent" (nothing in time), or "" when as many
    answers came as were expected.
    """

    answers: tuple[Answer, ...]
    end: str


def converse(
    port: int,
    pieces: Sequence[bytes],
    *,
    expected: int = 1,
    head_only: bool = False,
    leaves: bool = False,
    pause: float = 0.0,
    patience: float = 20.0,
) -> Heard:
    """Send pieces of bytes over a connection of their own, and listen.

    Args:
        port: On the loopback interface.
        pieces: Sent one after the other, with `pause` seconds between.
        expected: How many answers to wait for.
        head_only: Answers have no body (HEAD).
        leaves: Say after the last piece that no more will come, as a client does that goes away.
        pause: Seconds.
        patience: Seconds without a byte after which the server counts as silent.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        # A server may answer and close before it has read everything.
        with suppress(ConnectionError):
            for i, piece in enumerate(pieces):
                if i and pause:
                    time.sleep(pause)
                connection.sendall(piece)
            if leaves:
                connection.shutdown(socket.SHUT_WR)
        answers: list[Answer] = []
        with connection.makefile("rb") as stream:
            while len(answers) < expected:
                try:
                    answer = _read(stream, head_only=head_only)
                except TimeoutError:
                    return Heard(tuple(answers), "silent")
                except (ConnectionError, EOFError):
                    return Heard(tuple(answers), "closed")
                except ValueError:
                    return Heard(tuple(answers), "cut off")
                if answer.status >= 200:
                    answers.append(answer)
        return Heard(tuple(answers), "")


def _read(stream: BufferedReader, *, head_only: bool) -> Answer:
    """Return the next answer; EOFError if none begins, ValueError if it does not end."""
    line = stream.readline()
    if not line:
        raise EOFError
    status = int(line.split()[1])
    headers: dict[str, str] = {}
    while line := stream.readline().rstrip(b"\r\n"):
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    if head_only or status < 200 or status in (204, 304):
        return Answer(status, headers, b"")
    if "chunked" in headers.get("transfer-encoding", ""):
        body = b""
        while size := int(stream.readline() or b"cut off", 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
        return Answer(status, headers, body)
    if "content-length" not in headers:
        return Answer(status, headers, stream.read())
    length = int(headers["content-length"])
    body = stream.read(length)
    if len(body) < length:
        raise ValueError("cut off")
    return Answer(status, headers, body)
