"""Proposed negative labels on the command line."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from cli.workspace import Workspace
from negrefine import HFProposer, OpenAIProposer, ReplayProposer
from negrefine.cli.judge_options import JudgeMode
from negrefine.cli.propose_options import ProposeOptions
from negrefine.errors import InputError
from negrefine.proposers.replay import FORMAT


def options(**given: Any) -> ProposeOptions:
    return ProposeOptions(**{**{each.name: None for each in fields(ProposeOptions)}, **given})


@pytest.fixture
def proposals(tmp_path: Path) -> Path:
    path = tmp_path / "p.json"
    similar = {"dog": ["wolf", "dog sled", "fox"], "cat": ["lynx", "Wolf"], "horse": ["mule"]}
    content = {"format": FORMAT, "version": 1, "similar": similar}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_the_options_reach_the_proposer(proposals: Path, tmp_path: Path) -> None:
    assert options().given("cpu") == {}
    assert options(propose="wordnet").given("cpu")["propose"].value == "wordnet"
    replay = options(propose=f"replay:{proposals}").given("cpu")["propose"].value
    assert isinstance(replay, ReplayProposer)
    given = {"judge_url": "http://x/v1", "max_tokens": 77, "answers": tmp_path / "a.sqlite"}
    server = options(propose="openai:m", **given).given("cpu")["propose"].value
    assert isinstance(server, OpenAIProposer)
    assert '"max_tokens": "77"' in server.identity
    model = options(propose="hf:some/model", answers=tmp_path / "a").given("cpu")["propose"].value
    assert isinstance(model, HFProposer)
    # Both ask the same server.
    both = options(judge="openai:j", propose="openai:m", **given).given("cpu")
    assert {each.option for each in both.values()} == {"--judge", "--propose"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"propose": "openai"}, r"--propose must be .*: did you mean 'openai:MODEL'\?"),
        ({"propose": "word-net"}, r"not 'word-net': did you mean 'wordnet'\?"),
        ({"propose": "wordnet:3"}, r"not 'wordnet:3'\."),
        ({"propose": "none"}, r"--propose must be 'wordnet', 'hf:MODEL'"),
        (
            {"propose": "wordnet", "judge_url": "http://x/v1"},
            "--judge-url has no effect without --judge or --propose openai:MODEL",
        ),
        (
            {"propose": "hf:m", "judge_mode": JudgeMode.OFFICIAL},
            "--judge-mode has no effect without --judge hf:MODEL",
        ),
    ],
)
def test_what_cannot_be_used_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        options(**given).given("cpu")


def test_fit_labels_and_explain(
    quick: Any, work: Workspace, proposals: Path, lexicon_file: Path, tmp_path: Path
) -> None:
    classes = tmp_path / "classes.txt"
    classes.write_text("dog\ncat\nhorse\n", encoding="utf-8")
    new = ["--classes", classes, "--encoder", "builtin", "--lexicon", lexicon_file]
    out = tmp_path / "detector"
    mining = ["--lexicon-files", "full", "--n-groups", "4", "--top-fraction", "1"]
    proposing = ["--propose", f"replay:{proposals}", "--n-proposed", "3"]
    done = quick("fit", "--out", out, *new, *mining, *proposing)
    assert done.code == 0, done.err
    assert "Proposed by replay(p.json): 6, of which 3 are negative labels" in done.out
    listed = quick("labels", out)
    rows = [line.split("\t") for line in listed.out.splitlines()]
    by_text = {row[1]: row for row in rows}
    assert by_text["wolf"][0] == "kept"
    assert by_text["wolf"][5] == "proposed by replay(p.json) for 'dog'"
    assert by_text["lynx"][5].endswith(
        "for 'cat'; subcategory of 'cat': kind of cat: wildcat > cat"
    )
    assert by_text["dog sled"][::5] == [
        "removed",
        "proposed by replay(p.json) for 'dog'; shares the word 'dog' with the class 'dog'",
    ]
    assert "6 proposals by replay(p.json): 3 kept, 2 removed by the filter or prop" in listed.err
    assert "dog sled" not in quick("labels", out, "--show", "kept").out
    picture = work.pictures / "1.png"
    shown = quick("explain", out, picture)
    assert shown.code == 0, shown.err
    assert "of the softmax is on proposed labels" in shown.out
    (line,) = quick("explain", out, picture, "--json").out.splitlines()
    assert 0 < json.loads(line)["parts"]["near"] < 1
    scored = tmp_path / "scores.jsonl"
    assert quick("score", out, picture, "--out", scored).code == 0
    assert 0 < json.loads(scored.read_text())["near"] < 1
    for said, extra in (
        ("--n-proposed has no effect without --propose", [*new, "--n-proposed", "3"]),
        (
            "--propose has no effect on the method 'mcm'",
            [*new[:4], "--propose", "wordnet", "--method", "mcm"],
        ),
    ):
        refused = quick("fit", "--out", tmp_path / "other", *extra)
        assert refused.code == 1
        assert said in refused.err
