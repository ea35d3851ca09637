"""What the judge does about the errors of a server."""

from __future__ import annotations

import logging
import socket
import time
import traceback
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from judges.chat_server import QUERIES, Server, decisions, expected, judge_at, message, truth
from negrefine import OpenAIJudge
from negrefine.errors import JudgeError
from negrefine.judges.base import Query, answer_all
from negrefine.judges.prompts import PUBLISHED_PROMPTS
from negrefine.judges.store import AnswerStore

pytest.importorskip("openai", reason="the extra 'openai' is not installed")

SYSTEM = PUBLISHED_PROMPTS.system


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


def test_a_dead_server_is_not_asked_forever(server: Server, tmp_path: Path) -> None:
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


def in_choice(error: dict[str, Any]) -> dict[str, Any]:
    """Return a completion that failed on the way."""
    body = message("No")
    body["choices"][0]["error"] = error
    return body


@pytest.mark.parametrize(
    ("body", "requests"),
    [
        ({"error": {"message": "WORDS", "code": 404}}, 1),
        ({"error": {"message": "WORDS", "code": "401"}}, 1),
        ({"error": {"message": "WORDS", "code": None, "type": "invalid_request_error"}}, 2),
        ({"error": {"message": "WORDS", "code": "model_not_found"}}, 1),
        ({"error": {"message": "WORDS", "code": "insufficient_quota"}}, 1),
        ({"object": "error", "message": "WORDS", "type": "NotFoundError", "code": 404}, 1),
        (b'{"error": {"message": "WORDS", "code": 403}}', 1),
        ({"error": {"message": "WORDS", "code": 429}}, 4),
        ({"error": {"message": "WORDS", "code": 503}, "choices": []}, 4),
        ({"error": {"message": "WORDS", "status": "RESOURCE_EXHAUSTED"}, "choices": None}, 4),
        ({"error": "WORDS"}, 4),
        ({"error": {"reason": "WORDS"}}, 4),
        (in_choice({"message": "WORDS", "code": 502}), 4),
    ],
)
def test_an_error_with_status_200_is_shown_and_its_code_is_the_status(
    server: Server, body: Any, requests: int
) -> None:
    server.reply = lambda *_: body
    with pytest.raises(JudgeError, match="WORDS"):
        answer_all(judge_at(server.url, max_retries=3), [Query("a")])
    assert server.asked.total() == requests


def test_an_error_with_status_200_that_passes_costs_a_request(server: Server) -> None:
    def reply(question: str, _: Any) -> dict[str, Any]:
        busy = {"error": {"message": "busy", "code": 429}}
        return busy if server.asked[question] == 1 else {**message(truth(question)), "error": None}

    server.reply = reply
    assert decisions(answer_all(judge_at(server.url), QUERIES)) == expected()
    assert server.asked.total() == 2 * len(QUERIES)


def test_what_is_not_a_completion_is_shown(server: Server) -> None:
    def page(handler: Any, *_: Any) -> bool:
        handler.send(200, b"<html>Log in</html>", content_type="text/html")
        return True

    server.behave = page
    with pytest.raises(JudgeError, match="not a chat completion: '<html>Log in"):
        answer_all(judge_at(server.url, max_retries=0), [Query("a")])


@pytest.mark.parametrize(
    "body",
    [{"detail": "Ask Bob"}, {"detail": [{"msg": "Ask Bob"}]}, ["Ask Bob"], b"<p>Ask Bob</p>"],
)
def test_the_words_of_an_error_without_a_message_are_shown(server: Server, body: Any) -> None:
    server.behave = lambda handler, *_: handler.send(400, body) or True
    with pytest.raises(JudgeError, match=r"Error code: 400 - .*Ask Bob"):
        answer_all(judge_at(server.url, max_retries=0), [Query("a")])


def test_an_option_that_is_refused_without_a_message_is_left_out(server: Server) -> None:
    def refuse(handler: Any, question: str, body: dict[str, Any]) -> bool:
        if "temperature" in body:
            handler.send(422, {"detail": [{"loc": ["body", "temperature"], "msg": "forbidden"}]})
            return True
        return False

    server.behave = refuse
    assert decisions(answer_all(judge_at(server.url), QUERIES)) == expected()


@pytest.mark.parametrize("status", [200, 400, 422, 500])
@pytest.mark.parametrize(
    "words",
    [
        "System role not supported",
        "Only user and assistant roles are supported!",
        "Conversation roles must alternate user/assistant/user/assistant/...",
        "Developer instruction is not enabled for models/gemma-3-27b-it",
        "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
        "Template error: system messages are not supported",
        "This model does not support the system prompt",
    ],
)
def test_without_a_system_role_its_text_heads_the_question(
    server: Server, status: int, words: str
) -> None:
    def refuse(handler: Any, _: str, body: dict[str, Any]) -> bool:
        if [each["role"] for each in body["messages"]] == ["user"]:
            return False
        handler.send(status, {"error": {"message": words, "code": status}})
        return True

    server.behave = refuse
    server.reply = lambda question, _: message(truth(question.removeprefix(f"{SYSTEM}\n\n")))
    judge = judge_at(server.url, concurrency=3)
    assert decisions(answer_all(judge, QUERIES)) == expected()
    assert server.asked.total() <= len(QUERIES) + 3
    # Another call of the same judge knows it.
    answer_all(judge, QUERIES)
    assert server.asked.total() <= 2 * len(QUERIES) + 3


def test_a_role_that_was_accepted_is_kept(server: Server) -> None:
    def refuse(handler: Any, question: str, body: dict[str, Any]) -> bool:
        assert len(body["messages"]) == 2
        if "'word 50'" in question:
            handler.send(400, {"error": {"message": "a role I do not play"}})
            return True
        return False

    server.behave = refuse
    with pytest.raises(JudgeError, match=r"1 of 120 questions .* a role I do not play"):
        answer_all(judge_at(server.url, concurrency=2), QUERIES)


def test_a_question_that_is_filtered_is_undecided(server: Server) -> None:
    def filtered(handler: Any, question: str, body: Any) -> bool:
        if "'word 5'" in question:
            handler.send(400, {"error": {"code": "content_filter", "message": "filtered"}})
            return True
        return False

    server.behave = filtered
    with pytest.warns(UserWarning, match="4 of 120 questions to 'openai:m' were refused"):
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


def test_a_host_that_accepts_nothing_is_not_tried_again() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        address = silent.getsockname()
        # A full backlog: further connections hang.
        waiting = [socket.socket() for _ in range(4)]
        for connection in waiting:
            connection.setblocking(False)
            connection.connect_ex(address)
        begun = time.monotonic()
        with pytest.raises(JudgeError, match="check that it runs"):
            answer_all(judge_at(f"http://127.0.0.1:{address[1]}/v1", timeout=1), QUERIES)
        assert time.monotonic() - begun < 5
        for connection in waiting:
            connection.close()


def test_a_dead_port_is_one_quick_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(JudgeError, match=rf"127\.0\.0\.1:{port}.*check that it runs"):
        answer_all(OpenAIJudge("m", f"http://127.0.0.1:{port}/v1", store=None), QUERIES)
