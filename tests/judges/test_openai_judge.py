"""The judge behind a server: a real `transformers serve`, and a server that misbehaves."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
import urllib.error
import urllib.request
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from negrefine import HFJudge, OpenAIJudge
from negrefine.errors import InputError, JudgeError
from negrefine.judges.base import Answer, Query, answer_all
from negrefine.judges.chat_reply import read_reply
from negrefine.judges.prompts import PUBLISHED_PROMPTS
from negrefine.judges.store import AnswerStore

pytest.importorskip("openai", reason="the extra 'openai' is not installed")

QUERIES = [
    *(Query(f"word {i}") for i in range(60)),
    *(Query(f"word {i}", (f"class {j}",)) for i in range(20) for j in range(3)),
]

SERVED = [Query(word, names) for word in ("oak", "x", "word 7") for names in ((), ("dog",))]


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
                question = body["messages"][-1]["content"]
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
                self.send_header("content-type", "application/json")
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


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


def judge_at(url: str, **options: Any) -> OpenAIJudge:
    options = {"store": None, "first_pause": 0.002, "longest_pause": 0.05, **options}
    return OpenAIJudge("m", url, **options)


def decisions(answers: list[Answer]) -> list[bool | None]:
    return [answer.yes for answer in answers]


def expected() -> list[bool]:
    return [truth(PUBLISHED_PROMPTS.question(query)) == "Yes." for query in QUERIES]


def test_asks_each_question_once_and_no_more_than_so_many_at_a_time(server: Server) -> None:
    def slow(*_: Any) -> bool:
        time.sleep(0.01)
        return False

    server.behave = slow
    judge = judge_at(server.url, concurrency=5)
    assert decisions(answer_all(judge, QUERIES)) == expected()
    assert set(server.asked.values()) == {1}
    assert 2 <= server.most_open <= 5
    n = len(QUERIES)
    usage = judge.usage
    assert (usage.asked, usage.prompt_tokens, usage.completion_tokens) == (n, 30 * n, 2 * n)


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
        time.sleep(1.8)
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


@pytest.mark.parametrize("seed", [0, 1])
def test_faults_change_no_decision(server: Server, seed: int) -> None:
    faults = server.behave = Faults(seed)
    judge = judge_at(server.url, timeout=1.5, max_retries=12)
    assert decisions(answer_all(judge, QUERIES)) == expected()
    assert set(faults.done) == {"error", "timeout", "garbage", "busy", "reset", "empty"}
    assert max(server.asked.values()) <= 13
    assert judge.usage.asked == sum(server.asked.values()) == len(QUERIES) + faults.done.total()


def test_waits_as_long_as_the_server_wants(server: Server) -> None:
    times: list[float] = []

    def busy_once(handler: Any, question: str, body: Any) -> bool:
        times.append(time.monotonic())
        if len(times) == 1:
            handler.send(429, {}, retry_after="0.5")
            return True
        return False

    server.behave = busy_once
    answer_all(judge_at(server.url, longest_pause=5), [Query("a")])
    assert len(times) == 2
    assert times[1] - times[0] >= 0.5


def test_what_fails_for_good_is_named_and_the_rest_is_stored(
    server: Server, tmp_path: Path
) -> None:
    def never(handler: Any, question: str, body: Any) -> bool:
        if "'word 7'" in question:
            handler.send(503, {"error": {"message": "no"}})
            return True
        return False

    server.behave = never
    path = tmp_path / "a.sqlite"
    judge = judge_at(server.url, max_retries=2, concurrency=20, store=path)
    with pytest.raises(JudgeError, match=r"4 of 120 questions .* run it again"):
        answer_all(judge, QUERIES)
    lost = [q for q in QUERIES if q.word == "word 7"]
    assert {server.asked[PUBLISHED_PROMPTS.question(q)] for q in lost} == {3}
    assert len(AnswerStore(path).get(judge.identity, QUERIES)) == 116
    server.behave = lambda *_: False
    again = judge_at(server.url, store=path)
    assert decisions(answer_all(again, QUERIES)) == expected()
    assert (again.usage.asked, again.usage.cached) == (4, 116)


def test_what_failed_is_named_to_a_slow_reader_too(server: Server) -> None:
    def last_fails(handler: Any, question: str, body: Any) -> bool:
        if "'word 0'" not in question:
            time.sleep(0.3)
        if "'word 5'" in question:
            handler.send(403, {"error": {"message": "last"}})
            return True
        return False

    server.behave = last_fails
    stream = judge_at(server.url, concurrency=6).iter_answers(QUERIES[:6])
    next(stream)
    # The other answers, the error and the end are waiting together when the reader comes back.
    time.sleep(1)
    with pytest.raises(JudgeError, match="last"):
        list(stream)


def test_a_server_that_dies_is_not_asked_on_and_on(server: Server, tmp_path: Path) -> None:
    def dying(handler: Any, question: str, body: Any) -> bool:
        if server.asked.total() > 30:
            handler.send(500, {})
            return True
        return False

    server.behave = dying
    judge = judge_at(server.url, max_retries=1, concurrency=4, store=tmp_path / "a.sqlite")
    with pytest.raises(JudgeError, match="has stopped answering"):
        answer_all(judge, QUERIES)
    assert server.asked.total() <= 30 + 2 * (16 + 4)
    assert len(AnswerStore(tmp_path / "a.sqlite").get(judge.identity, QUERIES)) == 30


def test_neither_yes_nor_no_is_asked_once_more_and_then_undecided(
    server: Server, tmp_path: Path
) -> None:
    def reply(question: str, _: Any) -> dict[str, Any]:
        if "'maybe'" in question:
            return message("It depends on the context.")
        first = server.asked[question] == 1
        return message("Well" if first else "**Yes**")

    server.reply = reply
    judge = judge_at(server.url, store=tmp_path / "a.sqlite")
    maybe, late = judge.is_proper_noun(["maybe", "late"])
    assert maybe.yes is None
    assert "neither yes nor no" in maybe.reason
    assert late.yes is True
    assert set(server.asked.values()) == {2}
    again = judge_at(server.url, store=tmp_path / "a.sqlite")
    assert again.is_proper_noun(["maybe"])[0] == maybe
    assert again.usage.asked == 0


def test_reads_probabilities_where_the_server_gives_them(server: Server) -> None:
    def reply(question: str, body: dict[str, Any]) -> dict[str, Any]:
        assert body["logprobs"] is True
        shares = {" Yes": 0.3, "yes": 0.1, "No": 0.5, " NO": 0.05, "It": 0.05}
        top = [{"token": t, "logprob": float(np.log(p)), "bytes": None} for t, p in shares.items()]
        blank = {"token": "\n", "logprob": -0.1, "bytes": None, "top_logprobs": []}
        return message("\nNo", {"content": [blank, {**top[2], "top_logprobs": top}]})

    server.reply = reply
    (answer,) = judge_at(server.url).is_proper_noun(["a"])
    assert answer.yes is False
    assert answer.confidence == pytest.approx(0.55 / 0.95)


def test_does_without_probabilities_where_the_server_refuses_them(server: Server) -> None:
    def refuses(handler: Any, question: str, body: dict[str, Any]) -> bool:
        if "logprobs" in body:
            handler.send(400, {"error": {"message": "logprobs is not supported"}})
            return True
        return False

    server.behave = refuses
    judge = judge_at(server.url, concurrency=3)
    assert decisions(answer_all(judge, QUERIES)) == expected()
    assert server.asked.total() <= len(QUERIES) + 3


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("Yes", True),
        (" no.", False),
        ("**No**, because", False),
        ('"Yes, it is."', True),
        ("<think>No? Yes!\n</think>\n\nNo", False),
        ("<think>never ends: yes", None),
        ("Yes and no.", None),
        ("Nothing", None),
        ("Yesterday", None),
        ("_Yes_", True),
        ("__No__", False),
        ("Yes/No", None),
        ("No wait, let me think.\n</think>\n\nYes", True),
        ("The answer is yes", None),
        ("", None),
    ],
)
def test_reads_replies(text: str, yes: bool | None) -> None:
    answer = read_reply(text)
    assert (None if answer is None else answer.yes) is yes


def test_probabilities_change_the_confidence_but_not_the_answer() -> None:
    shares = {"Yes": 0.4, "No": 0.3, "no": 0.25}
    sure = read_reply("Yes", [(word, float(np.log(p))) for word, p in shares.items()])
    assert sure is not None
    assert sure.yes is True
    assert sure.confidence == pytest.approx(0.4 / 0.95)
    assert read_reply("Yes and no", [("Yes", -0.01)]) is None


@pytest.mark.parametrize("odd", [1000.0, float("inf"), float("nan")])
def test_impossible_probabilities_do_not_count(odd: float) -> None:
    assert read_reply("Yes", [("Yes", odd)]) == Answer(True, "replied 'Yes'")


def test_improbable_words_do_not_count() -> None:
    alternatives = [("The", float(np.log(0.7))), ("Yes", float(np.log(0.3)))]
    assert read_reply("The answer is unclear", alternatives) is None
    assert read_reply("No", alternatives) == Answer(False, "replied 'No'")


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(401, "check the key"), (403, "check the key"), (404, "has a model 'm'")],
)
def test_refusals_end_the_run_at_once(
    server: Server,
    status: int,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    secret = "sk-very-secret-1234567890"  # noqa: S105
    monkeypatch.setenv("SOME_KEY", secret)

    def refuse(handler: Any, question: str, body: Any) -> bool:
        handler.send(status, {"error": {"message": f"Incorrect API key provided: {secret}"}})
        return True

    server.behave = refuse
    judge = judge_at(server.url, api_key_env="SOME_KEY", concurrency=2, store=tmp_path / "a.sqlite")
    with caplog.at_level(logging.DEBUG), pytest.raises(JudgeError, match=sentence) as caught:
        answer_all(judge, QUERIES)
    assert server.asked.total() <= 2
    assert server.authorization == {f"Bearer {secret}"}
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for text in (str(caught.value), repr(judge), repr(vars(judge)), judge.identity):
        assert secret not in text
    assert secret not in caplog.text
    assert secret.encode() not in stored


@pytest.mark.parametrize("padding", [0, 240, 250, 260])
def test_a_server_that_repeats_the_key_leaks_none_of_it(
    server: Server, padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sk-very-secret-1234567890"  # noqa: S105
    monkeypatch.setenv("SOME_KEY", f"{secret}\n")

    def refuse(handler: Any, question: str, body: Any) -> bool:
        handler.send(401, {"error": {"message": "x" * padding + secret}})
        return True

    server.behave = refuse
    with pytest.raises(JudgeError) as caught:
        answer_all(judge_at(server.url, api_key_env="SOME_KEY"), QUERIES)
    assert server.authorization == {f"Bearer {secret}"}
    assert secret[:8] not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("key", ["sk-“quoted”-1234", "sk-1234\nsk-5678"])
def test_a_key_that_cannot_be_sent_is_not_shown(
    server: Server, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_KEY", key)
    with pytest.raises(InputError, match="'SOME_KEY'") as caught:
        answer_all(judge_at(server.url, api_key_env="SOME_KEY"), QUERIES)
    assert "1234" not in "".join(traceback.format_exception(caught.value))
    assert not server.asked


def test_an_empty_key_is_no_key(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "")
    judge = judge_at(server.url, api_key_env="SOME_KEY")
    assert decisions(answer_all(judge, QUERIES)) == expected()


def test_passwords_in_the_address_are_refused_and_not_shown() -> None:
    with pytest.raises(InputError, match="user or password") as caught:
        OpenAIJudge("m", "https://user:hunter2@localhost/v1")
    assert "hunter2" not in str(caught.value)


def test_extra_fields_count_and_are_not_shown() -> None:
    def identity(**extra: Any) -> str:
        return OpenAIJudge("m", "http://a/v1", extra_body=extra, store=None).identity

    assert identity(a={"x": 1, "y": 2}) == identity(a={"y": 2, "x": 1}) != identity(a={"x": 1})
    assert "hunter2" not in identity(password="hunter2")
    with pytest.raises(InputError, match="extra_body"):
        identity(a={1, 2})


def test_a_reader_that_stops_stops_the_questions_and_loses_no_answer(
    server: Server, tmp_path: Path
) -> None:
    judge = judge_at(server.url, concurrency=4, store=tmp_path / "a.sqlite")
    stream = judge.iter_answers(QUERIES)
    first = len(next(stream))
    seen = -1
    while server.open_now or server.asked.total() != seen:
        seen = server.asked.total()
        time.sleep(0.2)
    assert seen <= first + 2 * 4
    stream.close()  # type: ignore[attr-defined]
    assert len(AnswerStore(tmp_path / "a.sqlite").get(judge.identity, QUERIES)) == seen


def test_thoughts_that_were_cut_off_are_no_answer(server: Server, tmp_path: Path) -> None:
    def think(question: str, body: dict[str, Any]) -> dict[str, Any]:
        cut = message("<think>Hm" if "'word 1'" in question else None)
        cut["choices"][0]["finish_reason"] = "length"
        return cut if body["max_tokens"] < 100 else message(truth(question))

    server.reply = think
    path = tmp_path / "a.sqlite"
    with pytest.raises(JudgeError, match="raise max_tokens"):
        answer_all(judge_at(server.url, store=path), QUERIES)
    assert server.asked.total() <= 16
    longer = judge_at(server.url, store=path, max_tokens=1000)
    assert decisions(answer_all(longer, QUERIES)) == expected()
    assert longer.usage.cached == 0


def test_a_question_that_is_filtered_is_undecided(server: Server) -> None:
    def filtered(handler: Any, question: str, body: Any) -> bool:
        if "'word 5'" in question:
            handler.send(400, {"error": {"code": "content_filter", "message": "filtered"}})
            return True
        return False

    server.behave = filtered
    answers = answer_all(judge_at(server.url, concurrency=2), QUERIES)
    for query, answer, yes in zip(QUERIES, answers, expected(), strict=True):
        assert answer.yes is (None if query.word == "word 5" else yes)


def test_one_question_that_is_refused_does_not_end_the_run(server: Server, tmp_path: Path) -> None:
    def refuse(handler: Any, question: str, body: Any) -> bool:
        if "'word 50'" in question:
            handler.send(400, {"error": {"message": "too rude"}})
            return True
        return False

    server.behave = refuse
    judge = judge_at(server.url, concurrency=2, store=tmp_path / "a.sqlite")
    with pytest.raises(JudgeError, match=r"1 of 120 questions .* too rude"):
        answer_all(judge, QUERIES)
    assert len(AnswerStore(tmp_path / "a.sqlite").get(judge.identity, QUERIES)) == 119


def test_does_without_options_that_the_server_refuses(server: Server) -> None:
    def refuse(handler: Any, question: str, body: dict[str, Any]) -> bool:
        for option in ("max_tokens", "temperature", "top_logprobs"):
            if option in body:
                text = f"Unsupported parameter: '{option}'"
                handler.send(400, {"error": {"message": text, "param": option}})
                return True
        assert body["max_completion_tokens"] == 16
        return False

    server.behave = refuse
    judge = judge_at(server.url, concurrency=3)
    assert decisions(answer_all(judge, QUERIES)) == expected()
    assert max(server.asked.values()) <= 1 + 3
    assert server.asked.total() <= len(QUERIES) + 3 * 3


def test_waits_until_a_date(server: Server) -> None:
    times: list[float] = []

    def busy_once(handler: Any, question: str, body: Any) -> bool:
        times.append(time.time())
        if len(times) == 1:
            # Dates have whole seconds.
            handler.send(429, {}, retry_after=formatdate(int(times[0]) + 2, usegmt=True))
            return True
        return False

    server.behave = busy_once
    answer_all(judge_at(server.url, longest_pause=5), [Query("a")])
    assert times[1] >= int(times[0]) + 2


def test_a_reply_that_drips_is_too_slow(server: Server) -> None:
    def drip(handler: Any, question: str, body: Any) -> bool:
        handler.send_response(200)
        handler.send_header("content-length", "1000")
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b" ")
            time.sleep(0.1)
        return True

    server.behave = drip
    begun = time.monotonic()
    with pytest.raises(JudgeError, match=r"1 of 1 questions .* within 0\.4 seconds"):
        answer_all(judge_at(server.url, timeout=0.4, max_retries=1), [Query("a")])
    assert time.monotonic() - begun < 5


def test_odd_numbers_of_tokens_do_not_count(server: Server) -> None:
    server.reply = lambda question, _: {
        **message(truth(question)),
        "usage": {"prompt_tokens": "3", "completion_tokens": [2]},
    }
    judge = judge_at(server.url)
    assert decisions(answer_all(judge, QUERIES)) == expected()
    assert judge.usage.prompt_tokens == 0


def test_neighbours_that_fail_do_not_stop_a_run_that_asks_one_by_one(
    server: Server, tmp_path: Path
) -> None:
    def never(handler: Any, question: str, body: Any) -> bool:
        if "'word 3'" in question or "'word 4'" in question:
            handler.send(500, {})
            return True
        return False

    server.behave = never
    judge = judge_at(server.url, concurrency=1, max_retries=1, store=tmp_path / "a.sqlite")
    with pytest.raises(JudgeError, match="8 of 120 questions"):
        answer_all(judge, QUERIES)
    assert len(AnswerStore(tmp_path / "a.sqlite").get(judge.identity, QUERIES)) == 112


def test_a_host_that_accepts_nothing_is_not_tried_again() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        address = silent.getsockname()
        # A full backlog: further connections hang.
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)
        begun = time.monotonic()
        with pytest.raises(JudgeError, match="check that it runs"):
            answer_all(judge_at(f"http://127.0.0.1:{address[1]}/v1", timeout=1), QUERIES)
        assert time.monotonic() - begun < 5
        for one in waiting:
            one.close()


def test_a_dead_port_is_one_quick_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(JudgeError, match=rf"127\.0\.0\.1:{port}.*check that it runs"):
        answer_all(OpenAIJudge("m", f"http://127.0.0.1:{port}/v1", store=None), QUERIES)


def test_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(InputError, match="no key in the environment variable 'OPENAI_API_KEY'"):
        OpenAIJudge("gpt", store=None).is_proper_noun(["a"])
    with pytest.raises(InputError, match="base_url"):
        OpenAIJudge("m", "localhost:8000")
    for url in ("http://[bad", "http://127.0.0.1:99999/v1", "http://"):
        with pytest.raises((InputError, JudgeError)):
            answer_all(judge_at(url), QUERIES)
    with pytest.raises(InputError, match="concurrency must be at least 1"):
        OpenAIJudge("m", concurrency=0)


def test_works_inside_a_running_event_loop(server: Server) -> None:
    async def notebook() -> list[Answer]:
        return answer_all(judge_at(server.url), QUERIES)

    assert decisions(asyncio.run(notebook())) == expected()


def test_leaving_early_keeps_what_has_arrived(server: Server, tmp_path: Path) -> None:
    def slow(*_: Any) -> bool:
        time.sleep(0.02)
        return False

    server.behave = slow
    judge = judge_at(server.url, concurrency=2, store=tmp_path / "a.sqlite")
    arrived = 0
    stream = judge.iter_answers(QUERIES)
    for batch in stream:
        arrived += len(batch)
        if arrived >= 10:
            break
    stream.close()  # type: ignore[attr-defined]
    assert len(AnswerStore(tmp_path / "a.sqlite").get(judge.identity, QUERIES)) == arrived
    assert server.asked.total() <= arrived + 4


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    for package in ("fastapi", "uvicorn"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("the extra transformers[serving] is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    command = Path(sys.executable).with_name("transformers")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [command, "serve", "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
            stdout=output,
            stderr=output,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def yes_no_llm(tiny_llm: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random model with an output matrix that makes it say Yes or No."""
    directory = tmp_path_factory.mktemp("models") / "yes-no"
    shutil.copytree(tiny_llm, directory)
    model = AutoModelForCausalLM.from_pretrained(tiny_llm)
    tokenizer = AutoTokenizer.from_pretrained(tiny_llm)
    with torch.no_grad():
        ends = []
        for query in SERVED[:2]:
            text = tokenizer.apply_chat_template(
                PUBLISHED_PROMPTS.messages(query), tokenize=False, add_generation_prompt=True
            )
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            ends.append(model.model(ids).last_hidden_state[0, -1])
        # Positive for the first question and negative for the second.
        direction = ends[0] / ends[0].norm() - ends[1] / ends[1].norm()
        model.lm_head.weight.zero_()
        for word, sign in (("Yes", 1), ("No", -1)):
            (token,) = tokenizer.encode(word, add_special_tokens=False)
            model.lm_head.weight[token] = sign * direction
    model.save_pretrained(directory)
    return directory


def test_transformers_serve_with_and_without_faults(
    transformers_serve: str, yes_no_llm: Path, server: Server
) -> None:
    queries = SERVED
    name = str(yes_no_llm)
    options: dict[str, Any] = {"store": None, "concurrency": 2, "max_tokens": 1}
    judge = OpenAIJudge(name, transformers_serve, **options)
    answers = decisions(answer_all(judge, queries))
    greedy = HFJudge(
        yes_no_llm, store=None, mode="official", greedy=True, max_new_tokens=1, dtype="float32"
    )
    assert answers == decisions(answer_all(greedy, queries))
    assert answers[:2] == [True, False]
    assert judge.usage.completion_tokens > 0

    def forward(_: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310
            f"{transformers_serve}/chat/completions",
            json.dumps(body).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request) as response:  # noqa: S310
            content: dict[str, Any] = json.load(response)
        return content

    faults = server.behave = Faults(2)
    server.reply = forward
    faulty = OpenAIJudge(
        name, server.url, **options, timeout=5, max_retries=12, first_pause=0.01, longest_pause=0.1
    )
    # The real server may take longer than a time-out worth waiting for in a test.
    faults.timeout = faults.reset  # type: ignore[method-assign]
    for _ in range(3):
        assert decisions(answer_all(faulty, queries)) == answers
    assert faults.done.total() >= 3
    assert max(server.asked.values()) <= 3 * 13
