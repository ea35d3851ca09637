"""The wording of questions."""

from __future__ import annotations

import json

import pytest

from negrefine.errors import InputError
from negrefine.judges.base import Query
from negrefine.judges.prompts import PUBLISHED_PROMPTS, JudgePrompts, judge_identity


def test_identity_depends_on_every_fact_and_on_the_wording() -> None:
    base = judge_identity(PUBLISHED_PROMPTS, model="m", revision=None, mode="probability")
    assert json.loads(base)["model"] == "m"
    others = [
        judge_identity(PUBLISHED_PROMPTS, model="m", revision="r", mode="probability"),
        judge_identity(PUBLISHED_PROMPTS, model="m", revision=None, mode="official"),
        judge_identity(JudgePrompts(system=""), model="m", revision=None, mode="probability"),
    ]
    assert len({base, *others}) == 4


@pytest.mark.parametrize("template", ["Is it?", "Is {word}{other} a {class_name}?", "{word} {"])
def test_refuses_prompts_that_do_not_name_the_question(template: str) -> None:
    with pytest.raises(InputError, match="subcategory"):
        JudgePrompts(subcategory=template)


def test_published_wording() -> None:
    assert PUBLISHED_PROMPTS.question(Query("{oak}", ("safe",))) == (
        "Is '{oak}' a subcatgeory of 'safe'?"
    )
    messages = PUBLISHED_PROMPTS.messages(Query("oak", ("safe", "tree")))
    assert [message["role"] for message in messages] == ["system", "user"]
    assert "'safe', 'tree'" in messages[1]["content"]
