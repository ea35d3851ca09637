"""A key that a server or a model repeats is written and shown nowhere."""

from __future__ import annotations

import json
import logging
import re
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from judges.chat_server import Server, judge_at, message
from negrefine import OpenAIJudge
from negrefine.errors import InputError, JudgeError
from negrefine.judges.base import Answer, Query
from negrefine.judges.chat_reply import read_reply
from negrefine.judges.store import AnswerStore, as_json_lines
from negrefine.key_mask import KeyMask

pytest.importorskip("openai", reason="the extra 'openai' is not installed")

KEY = "sk-Very/Secret+1234567890=="
FORMS = {
    "plain": KEY,
    "bearer": f"Bearer {KEY}",
    "in URLs": quote(KEY, safe=""),
    "in JSON": KEY.replace("/", "\\/").replace("+", "\\u002b"),
    "upper": KEY.upper(),
    "in lines": "\n".join(KEY),
    "spaced": " ".join(KEY),
    "wrapped": f"{KEY[:12]}\n   {KEY[12:]}",
    "without its end": KEY[:-5],
    "without its beginning": KEY[5:],
    "twice": KEY + KEY,
}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def letters(text: str) -> str:
    """Return the letters and digits of a text, decoded."""
    text = re.sub(r"%(..)|\\u00(..)", "", text.replace("\\n", "\n"))
    return "".join(filter(str.isalnum, text)).lower()


def assert_hidden(text: str) -> None:
    secret, said = letters(KEY), letters(text)
    for start in range(len(secret) - 8):
        assert secret[start : start + 8] not in said


@pytest.fixture
def judge(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenAIJudge:
    monkeypatch.setenv("SOME_KEY", KEY)
    return judge_at(server.url, api_key_env="SOME_KEY", store=tmp_path / "a.sqlite", max_retries=0)


@forms
@pytest.mark.parametrize("words", ["Yes. Key: {}", "Perhaps {}", "Yes {} " + "x" * 50])
def test_no_answer_repeats_the_key(
    server: Server, judge: OpenAIJudge, tmp_path: Path, form: str, words: str
) -> None:
    server.reply = lambda *_: message(words.format(form))
    (answer,) = judge.is_proper_noun(["paris"])
    assert server.authorization == {f"Bearer {KEY}"}
    assert answer.yes is (True if words.startswith("Yes") else None)
    assert "***" in answer.reason
    assert_hidden(answer.reason)
    (line,) = as_json_lines(AnswerStore(tmp_path / "a.sqlite"))
    assert json.loads(line)["reason"] == answer.reason
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert_hidden(stored.decode("latin-1"))


@forms
def test_no_warning_repeats_the_key(server: Server, judge: OpenAIJudge, form: str) -> None:
    refusal = message(None)
    refusal["choices"][0]["message"]["refusal"] = f"I may not say {form}"
    server.reply = lambda *_: refusal
    with pytest.warns(UserWarning, match=re.escape("***")) as caught:
        (answer,) = judge.is_proper_noun(["paris"])
    assert_hidden(answer.reason)
    assert_hidden(str(caught[0].message))


@forms
@pytest.mark.parametrize("status", [200, 400, 401, 429, 500])
def test_no_error_repeats_the_key(
    server: Server, judge: OpenAIJudge, status: int, form: str
) -> None:
    bodies: list[Any] = [
        {"error": {"message": f"bad key {form}", "code": status}},
        {"detail": [{"key": form}]},
        f"<html>{form}</html>".encode(),
    ]
    for body in bodies:
        server.behave = lambda handler, *_, body=body: handler.send(status, body) or True
        with pytest.raises(JudgeError, match=re.escape("***")) as caught:
            judge.is_proper_noun(["paris"])
        assert_hidden(str(caught.value))


@pytest.mark.parametrize("status", [200, 401])
def test_no_log_repeats_the_key(
    server: Server, judge: OpenAIJudge, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    def behave(handler: Any, *_: Any) -> bool:
        handler.send(status, message(f"Yes {KEY}"), x_request_id=KEY, x_spaced=" ".join(KEY))
        return True

    server.behave = behave
    with caplog.at_level(logging.DEBUG), suppress(JudgeError):
        judge.is_proper_noun(["paris"])
    assert "chat/completions" in caplog.text
    assert "'***" in caplog.text
    for line in caplog.text.splitlines():
        assert_hidden(line)
    # Nothing is masked in what others log later.
    logging.getLogger("openai._base_client").warning(KEY)
    assert caplog.messages[-1] == KEY


def test_a_finish_reason_repeats_no_key(server: Server, judge: OpenAIJudge) -> None:
    reply = message("Yes")
    reply["choices"][0]["finish_reason"] = f"error {KEY}"
    server.reply = lambda *_: reply
    with pytest.raises(JudgeError, match=re.escape("***")) as caught:
        judge.is_proper_noun(["paris"])
    assert_hidden(str(caught.value))


@pytest.mark.parametrize("key", ["yes", "xx", "none", "EMPTY", "Yes-12"])
def test_a_key_that_is_a_word_changes_no_answer(key: str) -> None:
    mask = KeyMask(key)
    assert read_reply("Yes", (), mask) == Answer(True, "replied 'Yes'")
    masked = read_reply(key, (), mask)
    assert masked == (Answer(True, "replied '***'") if "yes" in key.lower() else None)
    assert read_reply(f"No. It is {key}.", (), mask) == Answer(False, "replied 'No. It is ***.'")


def test_what_is_no_piece_of_the_key_stays() -> None:
    text = "Yes, 100% of sk-cities \\ are \\u0041 very odd %41 é 12345"
    assert KeyMask(KEY)(text, 100) == text
    assert KeyMask()(KEY, 7) == KEY[:7]
    assert KEY not in repr(KeyMask(KEY))


@pytest.mark.parametrize(
    "url",
    [
        "http://user:PASSW0RD@127.0.0.1:9/v1",
        "http://user:PASS/W0RD@127.0.0.1:9/v1",
        "http://user:P@SS//W0RD@127.0.0.1:9/v1",
        "http://PASSW0RD@127.0.0.1:9/v1",
        "user:PASSW0RD@127.0.0.1:9/v1",
        "http://127.0.0.1:9/v1?api-key=PASSW0RD",
        "http://127.0.0.1:9/v1#PASSW0RD",
    ],
)
def test_a_secret_in_the_address_is_refused_and_not_shown(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(InputError, match="'OPENAI_BASE_URL' contains a user or") as by_environment:
        OpenAIJudge("m", store=None, max_retries=0).is_proper_noun(["a"])
    with pytest.raises(InputError, match="base_url contains a user or") as by_argument:
        OpenAIJudge("m", url)
    for caught in (by_environment, by_argument):
        assert "W0RD" not in str(caught.value)
        assert "PASS" not in str(caught.value)


def test_the_address_of_the_environment_is_used(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_BASE_URL", f" {server.url} ")
    answers = list(OpenAIJudge("m", store=None).iter_answers([Query("a")]))
    assert len(answers) == 1
    monkeypatch.setenv("OPENAI_BASE_URL", "localhost:8000")
    with pytest.raises(InputError, match="'OPENAI_BASE_URL' is 'localhost:8000'"):
        OpenAIJudge("m", store=None).is_proper_noun(["a"])
