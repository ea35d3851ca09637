"""The judge behind a real server, `transformers serve`."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
)

from judges.chat_server import Faults, Server, decisions
from negrefine import HFJudge, OpenAIJudge
from negrefine.judges.base import Query, answer_all
from negrefine.judges.prompts import PUBLISHED_PROMPTS

pytest.importorskip("openai", reason="the extra 'openai' is not installed")

SERVED = [Query(word, names) for word in ("oak", "x", "word 7") for names in ((), ("dog",))]


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
