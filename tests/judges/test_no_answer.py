"""Replies of a server that are no answer, and thoughts and parts beside the answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from judges.chat_server import QUERIES, Server, decisions, expected, judge_at, message, truth
from negrefine.errors import JudgeError
from negrefine.judges.base import Answer, Query, answer_all
from negrefine.judges.store import AnswerStore

pytest.importorskip("openai", reason="the extra 'openai' is not installed")


CALL = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}


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
        (completion(None, "MAX_TOKENS"), "was cut off before an answer"),
    ],
)
def test_thoughts_without_an_answer_are_a_failure_that_a_limit_may_mend(
    server: Server, tmp_path: Path, reply: dict[str, Any], sentence: str
) -> None:
    advice = "raise max_tokens (--max-tokens), or turn thinking off with extra_body"
    fails_and_is_asked_again(server, tmp_path, reply, f"{sentence}; {advice}")


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (completion(""), "the reply is empty; check that"),
        (completion(None), "the reply is empty; check that"),
        (completion(" \n"), "the reply is empty; check that"),
        (completion([]), "the reply is empty; check that"),
        (completion(None, refusal=""), "the reply is empty; check that"),
        (completion(None, "tool_calls", tool_calls=[CALL]), "calls a tool instead of answering"),
        (completion("", tool_calls=[CALL]), "calls a tool instead of answering"),
        (completion(None, "function_call", function_call=CALL["function"]), "calls a tool"),
    ],
)
def test_an_empty_reply_is_a_failure_that_no_limit_mends(
    server: Server, tmp_path: Path, reply: dict[str, Any], sentence: str
) -> None:
    said = fails_and_is_asked_again(server, tmp_path, reply, sentence)
    assert "max_tokens" not in said


@pytest.mark.parametrize("end", ["error", "ERROR", "abort", "insufficient_system_resource"])
def test_a_reply_that_ends_with_an_error_is_no_answer(
    server: Server, tmp_path: Path, end: str
) -> None:
    server.reply = lambda *_: completion("No", end)
    judge = judge_at(server.url, store=tmp_path / "a.sqlite", max_retries=2)
    with pytest.raises(JudgeError, match=f"ended the reply with '{end.lower()}'"):
        judge.is_proper_noun(["paris"])
    # The next time it may work.
    assert server.asked.total() == 3
    server.reply = lambda question, _: (
        completion("No", end) if server.asked[question] == 1 else message("Yes")
    )
    assert judge.is_proper_noun(["rome"])[0].yes is True


def fails_and_is_asked_again(
    server: Server, tmp_path: Path, reply: dict[str, Any], sentence: str
) -> str:
    """Return the message of the failure."""
    server.reply = lambda *_: reply
    path = tmp_path / "a.sqlite"
    with pytest.raises(JudgeError, match=re.escape(sentence)) as caught:
        judge_at(server.url, store=path).is_proper_noun(["paris"])
    # The same request would get the same reply.
    assert server.asked.total() == 1
    server.reply = lambda *_: message("Yes")
    again = judge_at(server.url, store=path)
    assert again.is_proper_noun(["paris"])[0].yes is True
    assert (again.usage.asked, again.usage.cached) == (1, 0)
    return str(caught.value)


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
        (completion(None, refusal="No, I cannot say."), "refused by the model: No, I cannot say."),
        (completion("", refusal="I cannot."), "refused by the model: I cannot."),
        (
            completion([{"type": "refusal", "refusal": "Yes? I cannot."}]),
            "refused by the model: Yes? I cannot.",
        ),
        (completion("", "content_filter"), "refused by the server's content filter"),
        (completion("No, bec", "content_filter"), "refused by the server's content filter"),
        (completion("", "SAFETY"), "refused by the server's content filter"),
    ],
)
def test_a_refusal_is_undecided_and_counted(
    server: Server, tmp_path: Path, reply: dict[str, Any], reason: str
) -> None:
    server.reply = lambda question, _: reply if "'a'" in question else message(truth(question))
    path = tmp_path / "a.sqlite"
    counted = re.escape("1 of 3 questions to 'openai:m' were refused: they are undecided and")
    for asked in (3, 0):
        judge = judge_at(server.url, store=path)
        with pytest.warns(UserWarning, match=f"{counted}.*{re.escape(reason)}"):
            answers = judge.is_proper_noun(["a", "b", "c"])
        assert answers[0] == Answer(None, reason)
        assert None not in decisions(answers[1:])
        assert judge.usage.asked == asked


def test_a_whole_reply_that_does_not_answer_is_undecided(server: Server, tmp_path: Path) -> None:
    server.reply = lambda *_: completion("<think>x</think>Perhaps")
    expected_answer = Answer(None, "neither yes nor no, twice: 'Perhaps'")
    path = tmp_path / "a.sqlite"
    assert judge_at(server.url, store=path).is_proper_noun(["a"]) == [expected_answer]
    again = judge_at(server.url, store=path)
    assert again.is_proper_noun(["a"]) == [expected_answer]
    assert again.usage.asked == 0


@pytest.mark.parametrize(
    ("failing", "stored", "sentence"),
    [
        ("'word 0'", True, "the others are stored: run it again to ask only these."),
        (
            "'word 0'",
            False,
            "without an answer store the others are lost: run it again to ask all.",
        ),
        ("", True, "run it again when that is mended."),
        ("", False, "run it again when that is mended."),
    ],
)
def test_what_is_said_of_the_other_answers_is_true(
    server: Server, tmp_path: Path, failing: str, stored: bool, sentence: str
) -> None:
    server.reply = lambda question, _: (
        completion("") if failing in question else message(truth(question))
    )
    judge = judge_at(server.url, store=tmp_path / "a.sqlite" if stored else None)
    with pytest.raises(JudgeError) as caught:
        judge.is_proper_noun(["word 0", "word 1", "word 2"] if failing else ["word 0"])
    assert str(caught.value).endswith(f"); {sentence}")
    assert failing or "others" not in str(caught.value)


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
