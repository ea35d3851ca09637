"""The options of a judge on the command line."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from negrefine.cli.judge_options import JudgeMode, JudgeOptions
from negrefine.errors import InputError
from negrefine.judges.hf import HFJudge
from negrefine.judges.openai import OpenAIJudge

GIVEN: dict[str, Any] = {
    "judge_url": "http://x/v1",
    "judge_key": "SOME_KEY",
    "concurrency": 3,
    "max_tokens": 512,
    "request_fields": '{"a": 1}',
    "judge_mode": JudgeMode.OFFICIAL,
    "least_mass": 0.25,
    "answers": Path("a.sqlite"),
}
TAKEN = {
    "hf": {"judge_mode", "least_mass", "answers"},
    "openai": {*GIVEN} - {"judge_mode", "least_mass"},
}


def judge_options(**given: Any) -> JudgeOptions:
    """Return the options of a command line with the given ones."""
    return JudgeOptions(**{**{each.name: None for each in fields(JudgeOptions)}, **given})


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize(
    "judge", [None, "none", "wordnet", "replay:openai:hf:", "hf:m", "openai:m", "wordnet+openai:m"]
)
def test_an_option_that_has_no_effect_on_the_judge_is_refused(judge: str | None, name: str) -> None:
    options = judge_options(judge=judge, **{name: GIVEN[name]})
    kinds = {part.partition(":")[0] for part in (judge or "").split("+")}
    if any(name in TAKEN.get(kind, ()) for kind in kinds):
        options.load("cpu")
    else:
        shown = f"--{name.replace('_', '-')} has no effect without --judge (hf|openai):MODEL"
        with pytest.raises(InputError, match=shown):
            options.load("cpu")


def test_the_options_reach_the_judge(tmp_path: Path) -> None:
    given = {name: GIVEN[name] for name in TAKEN["openai"]}
    judge = judge_options(judge="openai:m", **given).load("cpu")
    assert isinstance(judge, OpenAIJudge)
    assert (judge.base_url, judge.api_key_env, judge.concurrency) == ("http://x/v1", "SOME_KEY", 3)
    assert (judge.max_tokens, judge.extra_body, judge.store) == (512, {"a": 1}, Path("a.sqlite"))
    unlimited = judge_options(judge="openai:m", max_tokens=0).load("cpu")
    assert isinstance(unlimited, OpenAIJudge)
    assert unlimited.max_tokens is None
    plain = judge_options(judge="openai:m").load("cpu")
    assert isinstance(plain, OpenAIJudge)
    assert plain.identity == OpenAIJudge("m").identity
    official = judge_options(judge="hf:m", judge_mode=JudgeMode.OFFICIAL).load("cpu")
    assert isinstance(official, HFJudge)
    assert official.mode == "official"
    strict = judge_options(judge="hf:m", least_mass=0.75).load("cpu")
    assert isinstance(strict, HFJudge)
    assert (strict.least_mass, HFJudge("m").least_mass) == (0.75, 0.5)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"least_mass": 1.5}, "least_mass must be between 0 and 1, not 1.5"),
        (
            {"least_mass": 0.5, "judge_mode": JudgeMode.OFFICIAL},
            "--least-mass has no effect with --judge-mode official",
        ),
    ],
)
def test_a_least_mass_that_cannot_be(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        judge_options(judge="hf:m", **given).load("cpu")


@pytest.mark.parametrize(
    ("judge", "meant"),
    [
        ("wordnett", "'wordnet'"),
        ("WordNet", "'wordnet'"),
        ("None", "'none'"),
        ("hf", "'hf:MODEL'"),
        ("open-ai:gpt", "'openai:gpt'"),
        ("reply:log.txt", "'replay:log.txt'"),
    ],
)
def test_a_misspelt_judge_gets_the_right_name(judge: str, meant: str) -> None:
    with pytest.raises(InputError, match=f"not {judge!r}: did you mean {meant}"):
        judge_options(judge=judge).load("cpu")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{'a': 1}", "--request-fields is .* not JSON"),
        ("", "not JSON"),
        ("[1]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"a": NaN}', "cannot be sent as JSON"),
        ('{"stream": true, "model": "x"}', "contain 'model', 'stream', which the judge sets"),
        ('{"max_tokens": 4}', "'max_tokens', which the judge sets itself"),
    ],
)
def test_unusable_request_fields_are_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        judge_options(judge="openai:m", request_fields=text).load("cpu")
