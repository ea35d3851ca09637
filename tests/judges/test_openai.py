"""The judge behind a server, asking in parallel."""

from __future__ import annotations

import asyncio
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from judges.chat_server import (
    QUERIES,
    SOON,
    Faults,
    Server,
    decisions,
    expected,
    judge_at,
    message,
    truth,
)
from negrefine import OpenAIJudge
from negrefine.errors import InputError, JudgeError
from negrefine.judges.base import Answer, answer_all
from negrefine.judges.prompts import PUBLISHED_PROMPTS
from negrefine.judges.store import AnswerStore

pytest.importorskip("openai", reason="the extra 'openai' is not installed")


def test_asks_each_question_once_and_keeps_to_the_concurrency(server: Server) -> None:
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


@pytest.mark.parametrize("seed", [0, 1])
def test_faults_change_no_decision(server: Server, seed: int) -> None:
    faults = server.behave = Faults(seed)
    judge = judge_at(server.url, timeout=SOON, max_retries=12)
    assert decisions(answer_all(judge, QUERIES)) == expected()
    assert set(faults.done) == {"error", "timeout", "garbage", "busy", "reset", "empty"}
    assert max(server.asked.values()) <= 13
    assert judge.usage.asked == sum(server.asked.values()) == len(QUERIES) + faults.done.total()


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


def test_what_may_change_the_answers_counts_and_the_defaults_do_not() -> None:
    def identity(**options: Any) -> str:
        return OpenAIJudge("m", store=None, **options).identity

    published = '{"judge": "openai", "model": "m", "prompts": "PROMPTS"}'
    digest = identity().split('"')[-2]
    assert (
        identity() == identity(max_tokens=16, extra_body={}) == published.replace("PROMPTS", digest)
    )
    limits = {identity(max_tokens=limit) for limit in (16, 17, 512, None)}
    assert len(limits | {identity(extra_body={"a": 1})}) == 5


@pytest.mark.parametrize("extra", [{"messages": []}, {"stream": False}, {"a": float("nan")}, "ab"])
def test_extra_fields_that_cannot_be_sent_are_refused(extra: Any) -> None:
    with pytest.raises(InputError, match="extra"):
        OpenAIJudge("m", extra_body=extra)


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


def test_odd_numbers_of_tokens_do_not_count(server: Server) -> None:
    server.reply = lambda question, _: {
        **message(truth(question)),
        "usage": {"prompt_tokens": "3", "completion_tokens": [2]},
    }
    judge = judge_at(server.url)
    assert decisions(answer_all(judge, QUERIES)) == expected()
    assert judge.usage.prompt_tokens == 0


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
    # One more may have arrived in the meantime.
    kept = len(AnswerStore(tmp_path / "a.sqlite").get(judge.identity, QUERIES))
    assert arrived <= kept <= server.asked.total() <= arrived + 4


@pytest.mark.parametrize("end", [GeneratorExit, KeyboardInterrupt])
def test_leaving_early_ends_the_requests_that_are_waiting_for_a_reply(
    server: Server, tmp_path: Path, end: type[BaseException]
) -> None:
    left = threading.Event()

    def hang(handler: Any, question: str, body: Any) -> bool:
        if "'word 0'" not in question:
            left.wait()
        return False

    server.behave = hang
    judge = judge_at(server.url, concurrency=3, store=tmp_path / "a.sqlite")
    stream = judge.iter_answers(QUERIES[:20])
    ((position, _),) = next(stream)
    assert position == 0
    while server.asked.total() < 4 or server.open_now != 3:
        time.sleep(0.01)
    (event_loop,) = (thread for thread in threading.enumerate() if "portal" in thread.name)
    with pytest.raises(end):
        stream.throw(end)  # type: ignore[attr-defined]
    # The server is still working on them, and was not asked what was waiting behind them.
    assert server.open_now == 3
    assert server.asked.total() == 4
    assert not event_loop.is_alive()
    left.set()
    assert len(AnswerStore(tmp_path / "a.sqlite").get(judge.identity, QUERIES)) == 1
