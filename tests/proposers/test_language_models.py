"""Proposals of language models: in this process, and behind a server that may fail."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from conftest import write_tokenizer
from judges.chat_server import SOON, Faults, Server, message
from negrefine import AnswerStore, HFProposer, OpenAIProposer, Proposer
from negrefine.errors import InputError, JudgeError
from negrefine.judges.base import Query
from negrefine.proposers.base import ask_similar
from negrefine.proposers.prompts import ProposalPrompts, far_query, similar_query

NAMES = [f"class {i}" for i in range(30)]
PROMPTS = ProposalPrompts()
WORDS = ("otter", "sea lion", "Red lantern", "walrus", "kelp", "buoy", "rope", "crate")


def proposed(question: str) -> str:
    """Return a list that depends on the request alone."""
    start = zlib.crc32(question.encode()) % len(WORDS)
    words = (WORDS + WORDS)[start : start + 4]
    return "Here you are:\n" + "\n".join(f"- {word}." for word in words)


@pytest.fixture
def server() -> Iterator[Server]:
    pytest.importorskip("openai", reason="the extra 'openai' is not installed")
    started = Server()
    started.reply = lambda question, _: message(proposed(question))
    yield started
    started.close()


def proposer_at(url: str, **options: Any) -> OpenAIProposer:
    options = {"store": None, "first_pause": 0.002, "longest_pause": 0.05, **options}
    return OpenAIProposer("m", url, **options)


def expected(n: int = 3) -> dict[str, list[str]]:
    found = {}
    for name in NAMES:
        reply = proposed(PROMPTS.similar.format(n=n, class_name=name))
        found[name] = [line[2:-1] for line in reply.splitlines()[1:]][:n]
    return found


def test_a_server_is_asked_once_for_each_class(server: Server) -> None:
    bodies: list[dict[str, Any]] = []
    server.behave = lambda _handler, _question, body: bodies.append(body) or False
    proposer = proposer_at(server.url)
    assert isinstance(proposer, Proposer)
    assert ask_similar(proposer, NAMES, 3) == expected()
    assert (proposer.name, proposer.usage.asked) == ("openai:m", len(NAMES))
    assert set(server.asked.values()) == {1}
    for body in bodies:
        assert (body["temperature"], body["max_tokens"]) == (0.0, 1024)
        assert "logprobs" not in body
        assert [each["role"] for each in body["messages"]] == ["system", "user"]


def test_faults_change_no_proposal(server: Server) -> None:
    faults = server.behave = Faults(0)
    proposer = proposer_at(server.url, timeout=SOON, max_retries=12)
    assert proposer.propose_similar(NAMES, 3) == expected()
    assert len(faults.done) >= 4


def test_what_is_stored_is_not_asked_again_also_elsewhere(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    first = proposer_at(server.url, store=path).propose_similar(NAMES, 3)
    other = Server()
    try:
        again = proposer_at(other.url, store=path)
        assert json.dumps(again.propose_similar(NAMES, 3)) == json.dumps(first)
        assert (again.usage.asked, again.usage.cached) == (0, len(NAMES))
        # Another number, wording or model is another request.
        store = AnswerStore(path)
        known = [similar_query(name, 3) for name in NAMES]
        assert len(store.get(again.identity, known)) == len(NAMES)
        assert not store.get(again.identity, [similar_query(NAMES[0], 4)])
        wording = ProposalPrompts(system="Be brief.")
        assert proposer_at(other.url, prompts=wording).identity != again.identity
        assert json.loads(again.identity)["task"] == "propose"
    finally:
        other.close()


def test_far_names_are_asked_for_fifty_at_a_time_in_one_conversation(
    server: Server, tmp_path: Path
) -> None:
    chats: list[list[dict[str, str]]] = []
    server.behave = lambda _handler, _question, body: chats.append(body["messages"]) or False
    n = iter(range(1000))

    def fifty(question: str, _: Any) -> dict[str, Any]:
        assert "Name 50 " in question or "name 50 " in question
        return message("\n".join(f"{i + 1}. thing {next(n) // 2}" for i in range(50)))

    server.reply = fifty
    path = tmp_path / "a.sqlite"
    found = proposer_at(server.url, store=path).propose_far(["owl", "frog"], 130)
    # Each name came twice.
    assert found == [f"thing {i}" for i in range(75)]
    assert [len(chat) for chat in chats] == [2, 4, 6]
    assert "owl, frog" in chats[0][1]["content"]
    assert chats[2][:4] == chats[1]
    assert chats[2][2]["role"] == "assistant"
    assert chats[2][2]["content"].startswith("1. thing 0\n2. thing 0\n3. thing 1")
    again = proposer_at("http://127.0.0.1:9/v1", store=path)
    assert again.propose_far(["owl", "frog"], 130) == found


def test_a_key_in_a_reply_is_not_kept(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    server.reply = lambda *_: message("- sk-0123456789abcdef\n- otter")
    path = tmp_path / "a.sqlite"
    found = proposer_at(server.url, store=path).propose_similar(["owl"], 3)
    assert "otter" in found["owl"]
    assert "0123456789" not in str(found)
    assert b"0123456789" not in b"".join(each.read_bytes() for each in tmp_path.iterdir())


def test_replies_that_are_none(server: Server) -> None:
    refusal = message(None)
    refusal["choices"][0]["message"]["refusal"] = "I will not"
    server.reply = lambda *_: refusal
    proposer = proposer_at(server.url)
    with pytest.warns(UserWarning, match="1 of 1 requests to 'openai:m' for proposals gave none"):
        assert proposer.propose_similar(["owl"], 3) == {"owl": []}
    cut = message("- otter\n- sea l")
    cut["choices"][0]["finish_reason"] = "length"
    server.reply = lambda *_: cut
    with pytest.raises(JudgeError, match="cut off before an answer; raise max_tokens"):
        proposer_at(server.url).propose_similar(["owl"], 3)


_RUN = """
import json, sys
from pathlib import Path
from negrefine import OpenAIProposer

url, folder = sys.argv[1], Path(sys.argv[2])
proposer = OpenAIProposer("m", url, store=folder / "a.sqlite", concurrency=2, max_retries=1,
                          first_pause=0.01)
found = proposer.propose_similar([f"class {i}" for i in range(30)], 3)
(folder / "found.json").write_text(json.dumps(found))
"""


def test_a_run_that_is_killed_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    def slow(*_: Any) -> bool:
        time.sleep(0.04)
        return False

    def start() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", _RUN, server.url, str(tmp_path)]
        return subprocess.Popen(command, stderr=subprocess.PIPE)

    server.behave = slow
    run = start()
    while sum(server.asked.values()) < 10:
        assert run.poll() is None
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    run.communicate()
    assert not (tmp_path / "found.json").exists()
    before = server.asked.copy()
    server.behave = lambda *_: False
    run = start()
    assert run.communicate()[1] == b""
    assert run.returncode == 0
    assert json.loads((tmp_path / "found.json").read_text()) == expected()
    # Only what was on its way is asked twice: two open requests, and twice as many answers.
    twice = [question for question, n in server.asked.items() if n > 1]
    assert len(twice) <= 6
    assert len(before) < len(NAMES) == len(server.asked)


def test_a_server_that_dies_costs_nothing_that_was_answered(server: Server, tmp_path: Path) -> None:
    def dies(handler: Any, *_: Any) -> bool:
        if sum(server.asked.values()) > 12:
            handler.connection.close()
            handler.close_connection = True
            return True
        return False

    server.behave = dies
    path = tmp_path / "a.sqlite"
    options: dict[str, Any] = {"store": path, "max_retries": 1, "concurrency": 2}
    with pytest.raises(JudgeError, match="run it again"):
        proposer_at(server.url, **options).propose_similar(NAMES, 3)
    server.behave = lambda *_: False
    again = proposer_at(server.url, **options)
    assert again.propose_similar(NAMES, 3) == expected()
    assert again.usage.cached == 12


@pytest.fixture(scope="module")
def fern_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that writes "- fern" on every line, without an end."""
    directory = tmp_path_factory.mktemp("fern")
    n_tokens = write_tokenizer(directory)
    config = Qwen2Config(
        vocab_size=n_tokens,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        eos_token_id=2,
        pad_token_id=0,
        bos_token_id=None,
        tie_word_embeddings=False,
    )
    model = Qwen2ForCausalLM(config)
    vocabulary = AutoTokenizer.from_pretrained(directory).get_vocab()
    line = [vocabulary[token] for token in ("Ċ", "-", "Ġ", "f", "e", "r", "n")]
    with torch.no_grad():
        for weights in model.parameters():
            weights.zero_()
        model.model.norm.weight.fill_(1)
        for i, token in enumerate(line):
            model.model.embed_tokens.weight[token, i] = 1
            # Nothing but the last token says what comes next.
            model.lm_head.weight[line[(i + 1) % len(line)], i] = 1
    model.save_pretrained(directory)
    return directory


def test_a_model_in_this_process_is_asked_once(fern_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    proposer = HFProposer(fern_model, device="cpu", max_new_tokens=18, store=path)
    assert isinstance(proposer, Proposer)
    assert proposer.propose_similar(["owl", "frog"], 3) == {"owl": ["fern"], "frog": ["fern"]}
    assert proposer.usage.asked == 2
    again = HFProposer(fern_model, device="cpu", max_new_tokens=18, store=path)
    assert again.propose_similar(["owl", "frog"], 3) == {"owl": ["fern"], "frog": ["fern"]}
    assert (again.usage.asked, again.usage.cached) == (0, 2)
    # Of a reply that was cut off, the line that had no end is no name: "- fern\n- fer".
    (answer,) = AnswerStore(path).get(proposer.identity, [similar_query("owl", 3)]).values()
    assert answer.reason == "- fern\n- fern"
    short = HFProposer(fern_model, device="cpu", max_new_tokens=5, store=None)
    assert short.propose_similar(["owl"], 3) == {"owl": []}
    assert HFProposer(fern_model, max_new_tokens=20).identity != proposer.identity


def test_the_messages_of_requests() -> None:
    assert PROMPTS.messages(similar_query("sea {lion}", 4))[1]["content"].startswith(
        "Somebody sorts photos and takes some of them for photos of 'sea {lion}'"
    )
    query = far_query(["a", "b"], 7, ["- x", "- y"])
    assert [m["role"] for m in PROMPTS.messages(query)] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    plain = PROMPTS.messages(query, system_role=False)
    assert plain[0]["content"].startswith(PROMPTS.system)
    assert [m["role"] for m in plain] == ["user", "assistant", "user", "assistant", "user"]
    assert far_query(["a"], 7, []) != far_query(["a"], 7, ["- x"]) != Query("a")
    with pytest.raises(InputError, match=r"'more' of a proposer .* must contain \{n\}"):
        ProposalPrompts(more="more")
    with pytest.raises(InputError, match="prompts must be ProposalPrompts"):
        OpenAIProposer("m", prompts="ask")  # type: ignore[arg-type]
