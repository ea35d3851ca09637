"""A server that speaks the OpenAI chat protocol, and misbehaves where a test wants it to."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from negrefine import OpenAIJudge
from negrefine.judges.base import Answer, Query
from negrefine.judges.prompts import PUBLISHED_PROMPTS

QUERIES = [
    *(Query(f"word {i}") for i in range(60)),
    *(Query(f"word {i}", (f"class {j}",)) for i in range(20) for j in range(3)),
]


def truth(question: str) -> str:
    return "Yes." if zlib.crc32(question.encode()) % 3 == 0 else "No"


class Server:
    """Speaks the chat protocol; `behave` may do something else than answer.

    Attributes:
        asked: How often each question was asked.
        open_now: Requests in flight.
        most_open: The most there ever were.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.behave: Callable[[Any, str, dict[str, Any]], bool] = lambda *_: False
        self.reply: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda q, _: message(truth(q))
        self.open_now = self.most_open = 0
        self.authorization: set[str | None] = set()
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Otherwise every reply on a kept connection waits 40 ms for the client's ACK.
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                content = body["messages"][-1]["content"]
                # Of a question about an image, the parts.
                question = content if isinstance(content, str) else json.dumps(content)
                with outer._lock:
                    outer.asked[question] += 1
                    outer.open_now += 1
                    outer.most_open = max(outer.most_open, outer.open_now)
                    outer.authorization.add(self.headers["authorization"])
                try:
                    if not outer.behave(self, question, body):
                        self.send(200, outer.reply(question, body))
                finally:
                    with outer._lock:
                        outer.open_now -= 1

            def send(self, status: int, body: Any, **headers: str) -> None:
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                headers = {"content_type": "application/json", **headers}
                self.send_header("content-length", str(len(data)))
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Keep the output of the tests quiet."""

        class Listening(ThreadingHTTPServer):
            request_queue_size = 256
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """Connections that a client gave up are what is tested here."""

        self._server = Listening(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def message(text: str | None, logprobs: Any = None) -> dict[str, Any]:
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": text},
                "logprobs": logprobs,
            }
        ],
        "usage": {"prompt_tokens": 30, "completion_tokens": 2, "total_tokens": 32},
    }


def judge_at(url: str, **options: Any) -> OpenAIJudge:
    options = {"store": None, "first_pause": 0.002, "longest_pause": 0.05, **options}
    return OpenAIJudge("m", url, **options)


def decisions(answers: list[Answer]) -> list[bool | None]:
    return [answer.yes for answer in answers]


def expected() -> list[bool]:
    return [truth(PUBLISHED_PROMPTS.question(query)) == "Yes." for query in QUERIES]


SOON = 3.0
"""A time-out in seconds within which a busy machine answers, and `Faults.timeout` does not."""


class Faults:
    """Goes wrong at random, at most 12 times for a question, and notes what it did."""

    def __init__(self, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self.of_question: Counter[str] = Counter()
        self._random = np.random.default_rng(seed)
        self._lock = threading.Lock()

    def __call__(self, handler: Any, question: str, _: Any) -> bool:
        with self._lock:
            draw = self._random.random()
            if self.of_question[question] == 12:
                return False
        for share, name in (
            (0.20, "error"),
            (0.10, "timeout"),
            (0.05, "garbage"),
            (0.05, "busy"),
            (0.05, "reset"),
            (0.05, "empty"),
        ):
            draw -= share
            if draw < 0:
                with self._lock:
                    self.done[name] += 1
                    self.of_question[question] += 1
                getattr(self, name)(handler)
                return True
        return False

    def error(self, handler: Any) -> None:
        handler.send(500, {"error": {"message": "broken"}})

    def timeout(self, handler: Any) -> None:
        time.sleep(SOON + 0.4)
        handler.close_connection = True

    def garbage(self, handler: Any) -> None:
        handler.send(200, b"<html>not what you asked for")

    def busy(self, handler: Any) -> None:
        handler.send(429, {"error": {"message": "slow down"}}, retry_after="0.01")

    def reset(self, handler: Any) -> None:
        linger = struct.pack("ii", 1, 0)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        handler.connection.close()
        handler.close_connection = True

    def empty(self, handler: Any) -> None:
        handler.send(200, {"choices": []})
