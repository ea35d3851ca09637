"""The vision judge behind a server, which misbehaves, and runs that are killed."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from judges.chat_server import SOON, Faults, Server, message
from judges.tiny_vision import save_vision_model
from judges.vision_images import NAMES, pictures
from negrefine import OpenAIVision, VisionJudge
from negrefine.errors import InputError, JudgeError
from negrefine.judges.store import AnswerStore
from negrefine.judges.vision import ImagesFailedError

pytest.importorskip("openai", reason="the extra 'openai' is not installed")


def parts_of(question: str) -> tuple[str, Image.Image]:
    """Return the text of a question and its picture."""
    image, text = json.loads(question)
    assert image["type"] == "image_url"
    head, _, data = image["image_url"]["url"].partition(",")
    assert head == "data:image/png;base64"
    return text["text"], Image.open(io.BytesIO(base64.b64decode(data)))


def truth(question: str) -> float:
    """Return the margin that the server has for a question."""
    return zlib.crc32(question.encode()) % 800 / 100 - 4


def with_logprobs(question: str, body: dict[str, Any]) -> dict[str, Any]:
    """Answer in one token, whose probability and that of the other word make the margin."""
    assert body["max_tokens"] == 1
    assert body["logprobs"] is True
    p = 1 / (1 + math.exp(-truth(question)))
    words = sorted((("Yes", p), ("No", 1 - p)), key=lambda each: -each[1])
    top = [{"token": w, "logprob": math.log(q), "bytes": None} for w, q in words]
    return message(words[0][0], {"content": [{**top[0], "top_logprobs": top}]})


def judge_at(url: str, **options: Any) -> OpenAIVision:
    options = {"store": None, "first_pause": 0.002, "longest_pause": 0.05, **options}
    return OpenAIVision("m", url, **options)


def expected_at(server: Server, n: int) -> np.ndarray:
    """Return the true margins, from the questions that were asked."""
    found: dict[tuple[bytes, str], float] = {}
    for question in server.asked:
        text, image = parts_of(question)
        found[image.convert("RGB").tobytes(), text] = truth(question)
    return np.array(
        [
            [
                found[
                    i.tobytes(), f"Is there a {n} in this image? Answer with one word, yes or no."
                ]
                for n in NAMES
            ]
            for i in pictures(n)
        ]
    )


def test_each_question_is_one_request_with_the_picture_as_it_is(server: Server) -> None:
    server.reply = with_logprobs
    judge = judge_at(server.url)
    found = judge.yes_margins(pictures(4), [NAMES] * 4)
    assert set(server.asked.values()) == {1}
    assert len(server.asked) == 16
    np.testing.assert_allclose(found, expected_at(server, 4), atol=1e-9)
    assert judge.usage.asked == 16
    assert isinstance(judge, VisionJudge)


def test_faults_change_no_answer(server: Server) -> None:
    server.reply = with_logprobs
    faults = server.behave = Faults(1)
    judge = judge_at(server.url, timeout=SOON, max_retries=12)
    found = judge.yes_margins(pictures(12), [NAMES] * 12)
    np.testing.assert_allclose(found, expected_at(server, 12), atol=1e-9)
    assert {"error", "timeout", "garbage", "reset"} <= set(faults.done)


def test_a_server_without_logprobs_answers_by_the_word(server: Server) -> None:
    def refuses(handler: Any, _: str, body: dict[str, Any]) -> bool:
        if "logprobs" in body:
            handler.send(400, {"error": {"message": "logprobs is not supported"}})
        return "logprobs" in body

    server.behave = refuses
    server.reply = lambda question, _: message("Yes" if truth(question) > 0 else "No.")
    found = judge_at(server.url).yes_margins(pictures(3), [NAMES] * 3)
    assert np.isinf(found).all()
    np.testing.assert_array_equal(found > 0, expected_at(server, 3) > 0)


def test_what_is_neither_yes_nor_no_and_what_is_refused_is_undecided(server: Server) -> None:
    def reply(question: str, _: Any) -> dict[str, Any]:
        text, _image = parts_of(question)
        if " x " in text:
            return message("Perhaps")
        if "tabby" in text:
            answer = message(None)
            answer["choices"][0]["message"]["refusal"] = "I cannot look at this."
            return answer
        return message("No")

    server.reply = reply
    (row,) = judge_at(server.url).yes_margins(pictures(1), [NAMES])
    np.testing.assert_array_equal(row, [-np.inf, np.nan, -np.inf, np.nan])


def test_a_word_that_was_less_likely_than_not_is_undecided(server: Server) -> None:
    def reply(question: str, _: Any) -> dict[str, Any]:
        likely = {"Yes": 0.45, "No": 0.03} if "tabby" in question else {"Y": 0.9, "Perhaps": 0.1}
        top = [{"token": w, "logprob": math.log(q), "bytes": None} for w, q in likely.items()]
        return message("Yes", {"content": [{**top[0], "top_logprobs": top}]})

    server.reply = reply
    (row,) = judge_at(server.url).yes_margins(pictures(1), [NAMES])
    # Where the word has other tokens than its own, it is all there is.
    np.testing.assert_array_equal(row, [np.nan if "tabby" in name else np.inf for name in NAMES])


def test_failing_questions_cost_their_images_and_the_rest_is_stored(
    server: Server, tmp_path: Path
) -> None:
    server.reply = with_logprobs
    bad = {each.tobytes() for each in (pictures(4)[1], pictures(4)[2])}

    def fails(handler: Any, question: str, _: Any) -> bool:
        text, image = parts_of(question)
        if image.tobytes() in bad and "dog" in text:
            handler.send(503, {"error": {"message": "no"}})
            return True
        return False

    server.behave = fails
    path = tmp_path / "answers.sqlite"
    judge = judge_at(server.url, max_retries=1, store=path)
    with pytest.raises(ImagesFailedError, match=r"2 of 16 questions .* no answer") as caught:
        judge.yes_margins(pictures(4), [NAMES] * 4)
    assert sorted(caught.value.reasons) == [1, 2]
    # What remains is refused for good: an error of these images, not of the server.
    server.behave = lambda handler, *_: handler.send(400, {"error": {"message": "odd"}}) or True
    with pytest.raises(ImagesFailedError, match=r"2 of 2 questions .* odd"):
        judge_at(server.url, store=path).yes_margins(pictures(4), [NAMES] * 4)
    server.behave = lambda *_: False
    again = judge_at(server.url, store=path)
    found = again.yes_margins(pictures(4), [NAMES] * 4)
    assert (again.usage.asked, again.usage.cached) == (2, 14)
    np.testing.assert_allclose(found, expected_at(server, 4), atol=1e-9)


def test_a_server_that_is_not_there_or_refuses_all_is_one_error(server: Server) -> None:
    with pytest.raises(JudgeError, match="cannot be reached"):
        judge_at("http://127.0.0.1:9/v1", max_retries=0).yes_margins(pictures(1), [NAMES])
    server.behave = lambda handler, *_: handler.send(404, {"error": {"message": "?"}}) or True
    with pytest.raises(JudgeError, match="refused") as caught:
        judge_at(server.url).yes_margins(pictures(2), [NAMES] * 2)
    assert not isinstance(caught.value, ImagesFailedError)


def test_large_pictures_are_sent_smaller(server: Server) -> None:
    server.reply = with_logprobs
    picture = Image.effect_noise((90, 30), 50).convert("RGB")
    judge = judge_at(server.url, longest_side=45)
    judge.yes_margins([picture], [["dog"]])
    ((question, _),) = server.asked.items()
    assert parts_of(question)[1].size == (45, 15)
    assert judge.identity != judge_at(server.url).identity
    with pytest.raises(InputError, match="longest_side"):
        judge_at(server.url, longest_side=0)


def test_keys_are_not_shown(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-secret-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    server.behave = lambda handler, *_: handler.send(401, {"error": {"message": key}}) or True
    with pytest.raises(JudgeError) as caught:
        judge_at(server.url).yes_margins(pictures(1), [["dog"]])
    assert key not in str(caught.value)
    assert server.authorization == {f"Bearer {key}"}


class Runs:
    """Starts runs that ask about all pictures, one after the other."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._parent = subprocess.Popen(
            [sys.executable, "-m", "judges.vision_run"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def start(self, model: str, folder: Path) -> int:
        """Return the process number."""
        assert self._parent.stdin is not None
        self._parent.stdin.write(f"{model} {folder / 'a.sqlite'} {folder / 'margins.npy'}\n")
        self._parent.stdin.flush()
        return self._read()

    def kill(self, pid: int, folder: Path) -> None:
        os.kill(pid, signal.SIGKILL)
        assert self._read() == -signal.SIGKILL
        assert not (folder / "margins.npy").exists()

    def finish(self, folder: Path) -> tuple[int, int]:
        """Return the numbers of questions that were asked and stored."""
        assert self._read() == 0
        asked, cached = json.loads((folder / "margins.npy.json").read_text())
        return asked, cached

    def close(self) -> None:
        # Torch takes seconds to leave.
        self._parent.kill()
        self._parent.communicate()

    def _read(self) -> int:
        assert self._parent.stdout is not None
        return int(self._parent.stdout.readline())


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    started = Runs()
    yield started
    started.close()


def test_a_killed_run_continues_where_it_was(server: Server, tmp_path: Path, runs: Runs) -> None:
    arrived = threading.Semaphore(0)

    def slow(question: str, body: dict[str, Any]) -> dict[str, Any]:
        arrived.release()
        time.sleep(0.02)
        return with_logprobs(question, body)

    server.reply = slow
    pid = runs.start(server.url, tmp_path)
    for _ in range(20):
        assert arrived.acquire(timeout=60)
    runs.kill(pid, tmp_path)
    n_before = server.asked.total()
    assert n_before < 48
    server.reply = with_logprobs
    runs.start(server.url, tmp_path)
    asked, cached = runs.finish(tmp_path)
    # What was on its way when it was killed is asked again.
    assert cached >= n_before - 2 * 2 * 2
    assert asked + cached == 48
    np.testing.assert_allclose(
        np.load(tmp_path / "margins.npy"), expected_at(server, 12), atol=1e-9
    )


def test_a_killed_run_of_a_model_continues_where_it_was(tmp_path: Path, runs: Runs) -> None:
    model = str(save_vision_model(tmp_path / "model", "llava"))
    pid = runs.start(model, tmp_path)
    store = AnswerStore(tmp_path / "a.sqlite")
    while not (n_before := sum(1 for _ in store)):
        time.sleep(0.001)
    runs.kill(pid, tmp_path)
    assert n_before < 48
    runs.start(model, tmp_path)
    asked, cached = runs.finish(tmp_path)
    assert asked + cached == 48
    assert n_before <= cached < 48
    store.close()
