"""Bodies that are too long, too deep, or no chat completion: each costs its question only."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from judges.chat_server import QUERIES, Server, decisions, expected, judge_at, message, truth
from negrefine.errors import JudgeError
from negrefine.judges.base import answer_all
from negrefine.judges.chat_client import MOST_BYTES
from negrefine.judges.completion import MOST_CHARACTERS
from negrefine.judges.store import AnswerStore

pytest.importorskip("openai", reason="the extra 'openai' is not installed")

DEPTH = 100_000
DEEP = "[" * DEPTH + "]" * DEPTH
DIGITS = "9" * 5000


def with_content(content: str) -> bytes:
    """Return a completion with this JSON as content."""
    return json.dumps(message("CONTENT")).replace('"CONTENT"', content).encode()


def with_field(field: str) -> bytes:
    """Return a completion that says yes, with one more field at its beginning."""
    return f"{{{field}, {json.dumps(message('Yes'))[1:]}".encode()


def one_of_many(server: Server, body: bytes, **headers: str) -> None:
    def behave(handler: Any, question: str, _: Any) -> bool:
        if "'word 0'" not in question:
            return False
        handler.send(200, body, **headers)
        return True

    server.behave = behave


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (with_content(DEEP), "the reply is nested too deeply"),
        (with_content('{"a":' * DEPTH + "1" + "}" * DEPTH), "the reply is nested too deeply"),
        (b'{"error": ' + DEEP.encode() + b"}", "the reply is nested too deeply"),
        (b'{"error": ' + b"[" * 900 + b"]" * 900 + b"}", ""),
        (DEEP.encode(), "the reply is nested too deeply"),
        (with_field(f'"created": {DIGITS}'), "not a chat completion: "),
        (b'{"error": {"message": "M", "code": "' + DIGITS.encode() + b'"}}', "M"),
        (message("x" * (MOST_CHARACTERS + 1)), "the reply is longer than 1,048,576 characters"),
        (b"\xff\xfe\x00 not UTF-8", "the body is not a chat completion"),
        (with_content('"Yes'), "the body is not a chat completion"),
        (b" " * (MOST_BYTES + 1), "the reply is longer than 16,777,216 bytes"),
        (b"", "not a chat completion: it is empty"),
        (b"<html>Log in</html>", "not a chat completion: '<html>Log in</html>'"),
        ({"detail": "Wrong door"}, "it has no 'choices': '{\"detail\": \"Wrong door\"}'"),
        ({"choices": None, "message": "Ask Bob"}, "it has no 'choices': .*Ask Bob"),
        ({"choices": [], "note": "Ask Bob"}, "its list of 'choices' is empty: .*Ask Bob"),
        ({"choices": {"0": "Ask Bob"}}, "its 'choices' are no list: .*Ask Bob"),
        ({"choices": "Ask Bob"}, "its 'choices' are no list: .*Ask Bob"),
        ({"choices": ["Ask Bob"]}, "its first choice has no 'message': .*Ask Bob"),
        ({"choices": [None]}, "its first choice has no 'message'"),
        ({"choices": [{"text": "Ask Bob"}]}, "its first choice has no 'message': .*Ask Bob"),
        ({"choices": [{"message": ["Ask Bob"]}]}, "has no 'message': .*Ask Bob"),
        (message({"type": "text", "text": 7}), "its message is neither text nor"),  # type: ignore[arg-type]
        (message(7), "the content of its message is neither text nor a list of parts"),  # type: ignore[arg-type]
        (["Ask Bob"], "it is no JSON object: .*Ask Bob"),
        (b"null", "it is no JSON object: 'null'"),
    ],
)
def test_a_broken_reply_costs_its_question(
    server: Server, tmp_path: Path, body: Any, sentence: str
) -> None:
    one_of_many(server, body)
    judge = judge_at(server.url, store=tmp_path / "a.sqlite", max_retries=1)
    with pytest.raises(JudgeError, match=rf"^4 of 120 questions to .*{sentence}") as caught:
        answer_all(judge, QUERIES)
    for internal in ("Traceback", "NoneType", "object is not", "unpack", "attribute"):
        assert internal not in str(caught.value)
    assert len(AnswerStore(tmp_path / "a.sqlite").get(judge.identity, QUERIES)) == 116


@pytest.mark.parametrize(
    "body",
    [
        with_field('"created": NaN, "x": [Infinity, -Infinity, 1e999]'),
        with_field('"created": ' + "9" * 4000),
        with_field('"error": null, "x": "\\ud800"'),
        with_content('"Yes \\ud800\\u0000"'),
        {**message("Yes"), "usage": {"prompt_tokens": 10**4000, "completion_tokens": -1}},
        {**message("Yes"), "usage": {"prompt_tokens": True, "completion_tokens": float("nan")}},
        {**message("Yes"), "usage": [1, 2]},
        message("Yes", {"content": [{"token": "Yes", "logprob": 10**4000, "top_logprobs": []}]}),
        message("Yes", {"content": [{"token": 7, "logprob": -1}]}),
        message("Yes", {"content": [{"token": "Y", "logprob": "x", "top_logprobs": [7]}]}),
        message("Yes", {"content": [{"token": "Y", "logprob": 0, "top_logprobs": [{"token": 7}]}]}),
        message("Yes", {"content": 7}),
        message("Yes", [7]),
    ],
)
def test_odd_fields_beside_an_answer_change_nothing(
    server: Server, tmp_path: Path, body: Any
) -> None:
    server.behave = lambda handler, *_: handler.send(200, body) or True
    judge = judge_at(server.url, store=tmp_path / "a.sqlite", max_retries=0)
    assert judge.is_proper_noun(["a"])[0].yes is True
    assert 0 <= judge.usage.prompt_tokens <= 30
    assert judge.usage.completion_tokens in {0, 2}


def test_a_compressed_reply_is_not_unpacked(server: Server) -> None:
    bomb = gzip.compress(b" " * (MOST_BYTES + 1))
    asked_for: set[str] = set()

    def behave(handler: Any, *_: Any) -> bool:
        asked_for.add(handler.headers["accept-encoding"])
        handler.send(200, bomb, content_encoding="gzip")
        return True

    server.behave = behave
    with pytest.raises(JudgeError, match="compressed, which was not asked for"):
        judge_at(server.url, max_retries=1).is_proper_noun(["a"])
    assert asked_for == {"identity"}


ENDLESS = """
import resource, sys
from negrefine import OpenAIJudge
from negrefine.errors import JudgeError

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

import anyio.from_thread, openai
before = megabytes()
judge = OpenAIJudge("m", sys.argv[1], store=None, max_retries=1, first_pause=0)
try:
    judge.is_proper_noun(["word"])
except JudgeError as error:
    print(error)
print(megabytes() - before)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="measures memory with resource")
@pytest.mark.parametrize("status", [200, 500])
def test_a_reply_without_end_takes_little_memory(server: Server, status: int) -> None:
    def pour(handler: Any, *_: Any) -> bool:
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("connection", "close")
        handler.end_headers()
        # Half a gigabyte, if the client takes it.
        for _ in range(512):
            handler.wfile.write(b"[" * (1 << 20))
        return True

    server.behave = pour
    done = subprocess.run(
        [sys.executable, "-c", ENDLESS, server.url], capture_output=True, text=True, check=True
    )
    sentence, megabytes = done.stdout.splitlines()
    assert "1 of 1 questions" in sentence
    assert "the reply is longer than 16,777,216 bytes" in sentence
    assert int(megabytes) < 100
    assert server.asked.total() == 1


def test_mutated_replies_never_end_in_a_traceback(server: Server) -> None:
    rng = random.Random(0)  # noqa: S311
    logprobs = {"content": [{"token": "Yes", "logprob": -0.1, "top_logprobs": []}]}
    odd = [None, True, 7, -1.5, "", "\ud800", [], {}, [None], {"a": 1}, [[]], float("nan"), 10**30]

    def mutate(value: Any) -> Any:
        if rng.random() < 0.08:
            return rng.choice(odd)
        if isinstance(value, dict):
            return {key: mutate(each) for key, each in value.items() if rng.random() > 0.03}
        return [mutate(each) for each in value] if isinstance(value, list) else value

    def body(question: str) -> bytes:
        reply = {**message(truth(question), logprobs), "error": None}
        if rng.random() < 0.2:
            reply["error"] = {"message": "M", "code": 400, "type": "t"}
        text = json.dumps(mutate(reply)).encode()
        if rng.random() < 0.2:
            cut = rng.randrange(len(text))
            text = text[:cut] + rng.randbytes(3) + text[cut + rng.randrange(4) :]
        return text

    def behave(handler: Any, question: str, _: Any) -> bool:
        with_status = 200 if rng.random() < 0.9 else rng.choice([400, 429, 500])
        handler.send(with_status, body(question))
        return True

    server.behave = behave
    for _ in range(8):
        # Only a JudgeError may end the run.
        with suppress(JudgeError):
            answer_all(judge_at(server.url, max_retries=0, first_pause=0), QUERIES)
    assert server.asked.total() > 100
    server.behave = lambda *_: False
    assert decisions(answer_all(judge_at(server.url), QUERIES)) == expected()
