"""Replies of a server that are no answer, and thoughts and parts beside the answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from judges.chat_server import QUERIES, Server, decisions, expected, judge_at, message, truth
from negrefine.errors import JudgeError
from negrefine.judges.base import Answer, Query, answer_all
from negrefine.judges.store import AnswerStore

pytest.importorskip("openai", reason="the extra 'openai' is not installed")


def completion(content: Any, end: str = "stop", **fields: Any) -> dict[str, Any]:
    """Return a chat completion whose message has more fields."""
    body = message(None)
    body["choices"][0]["finish_reason"] = end
    body["choices"][0]["message"] |= {"content": content, **fields}
    return body


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (completion("Okay, the user asks", "length"), "was cut off before an answer"),
        (completion("<think>Hm: yes", "length"), "was cut off before an answer"),
        (completion(None, "length"), "was cut off before an answer"),
        (completion("[THINK]Hm: yes"), "ended within the model's thoughts"),
        (completion("", reasoning="a city, so yes"), "ended within the model's thoughts"),
        (completion(None, reasoning_content="yes"), "ended within the model's thoughts"),
        (completion([{"type": "thinking", "thinking": "yes"}]), "within the model's thoughts"),
        (completion(""), "the reply is empty"),
        (completion(None), "the reply is empty"),
        (completion(" \n"), "the reply is empty"),
        (completion([]), "the reply is empty"),
    ],
)
def test_no_answer_is_a_failure_and_asked_again_by_the_next_run(
    server: Server, tmp_path: Path, reply: dict[str, Any], sentence: str
) -> None:
    server.reply = lambda *_: reply
    path = tmp_path / "a.sqlite"
    advice = r"raise max_tokens \(--max-tokens\), or turn thinking off with extra_body"
    with pytest.raises(JudgeError, match=rf"{sentence}; {advice}"):
        judge_at(server.url, store=path).is_proper_noun(["paris"])
    # The same request would get the same reply.
    assert server.asked.total() == 1
    server.reply = lambda *_: message("Yes")
    again = judge_at(server.url, store=path)
    assert again.is_proper_noun(["paris"])[0].yes is True
    assert (again.usage.asked, again.usage.cached) == (1, 0)


def test_questions_without_an_answer_do_not_stop_the_others(server: Server, tmp_path: Path) -> None:
    def reply(question: str, _: Any) -> dict[str, Any]:
        return completion("") if "'word 0'" in question else message(truth(question))

    server.reply = reply
    judge = judge_at(server.url, store=tmp_path / "a.sqlite", concurrency=1)
    with pytest.raises(JudgeError, match=r"4 of 120 questions to the server .*the reply is empty"):
        answer_all(judge, QUERIES)
    assert len(AnswerStore(tmp_path / "a.sqlite").get(judge.identity, QUERIES)) == 116


def test_a_model_that_never_answers_is_not_asked_everything(server: Server, tmp_path: Path) -> None:
    def think(question: str, body: dict[str, Any]) -> dict[str, Any]:
        short = body["max_tokens"] < 100
        return completion("<think>Hm", "length") if short else message(truth(question))

    server.reply = think
    path = tmp_path / "a.sqlite"
    with pytest.raises(JudgeError, match="replies without an answer only: the reply was cut off"):
        answer_all(judge_at(server.url, store=path), QUERIES)
    assert server.asked.total() <= 2 * 16
    longer = judge_at(server.url, store=path, max_tokens=1000)
    assert decisions(answer_all(longer, QUERIES)) == expected()
    assert longer.usage.cached == 0


def test_a_cut_off_reply_that_begins_with_the_answer_is_one(server: Server) -> None:
    server.reply = lambda *_: completion("No, because it is", "length")
    assert judge_at(server.url).is_proper_noun(["a"])[0].yes is False
    assert server.asked.total() == 1


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (completion(None, refusal="I cannot say."), "neither yes nor no, twice: 'I cannot say.'"),
        (completion("", "content_filter"), "refused by the server's content filter"),
        (completion("<think>x</think>Perhaps"), "neither yes nor no, twice: 'Perhaps'"),
    ],
)
def test_a_whole_reply_that_does_not_answer_is_undecided(
    server: Server, tmp_path: Path, reply: dict[str, Any], reason: str
) -> None:
    server.reply = lambda *_: reply
    path = tmp_path / "a.sqlite"
    assert judge_at(server.url, store=path).is_proper_noun(["a"]) == [Answer(None, reason)]
    again = judge_at(server.url, store=path)
    assert again.is_proper_noun(["a"]) == [Answer(None, reason)]
    assert again.usage.asked == 0


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "Yes"}],
        [{"type": "text", "text": "Ye"}, {"type": "text", "text": "s"}],
        [
            {"type": "thinking", "thinking": [{"type": "text", "text": "No"}]},
            {"type": "text", "text": "Yes"},
        ],
        [{"type": "reasoning", "text": "No"}, {"type": "output_text", "text": "Yes"}],
        ["Yes"],
        {"type": "text", "text": "Yes"},
    ],
)
def test_reads_content_in_parts(server: Server, content: Any) -> None:
    server.reply = lambda *_: completion(content)
    assert answer_all(judge_at(server.url), [Query("a")]) == [Answer(True, "replied 'Yes'")]


def test_probabilities_of_thoughts_do_not_count(server: Server) -> None:
    top = [{"token": "No", "logprob": -0.01, "bytes": None}]
    reply = completion("Yes", reasoning_content="No, wait: yes")
    reply["choices"][0]["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    server.reply = lambda *_: reply
    assert answer_all(judge_at(server.url), [Query("a")]) == [Answer(True, "replied 'Yes'")]
