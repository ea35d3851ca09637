"""Templates with fields, which somebody else may have written."""

from __future__ import annotations

from typing import Any

import pytest

from negrefine.errors import InputError
from negrefine.judges.base import Query
from negrefine.judges.prompts import JudgePrompts
from negrefine.judges.vision import VisionPrompts
from negrefine.judges.wording import has_fields
from negrefine.proposers.prompts import ProposalPrompts


@pytest.mark.parametrize(
    "template",
    [
        "no field",
        "{}",
        "{0}",
        "{name} {other}",
        "{name} {name.__class__}",
        "{name[0]} {name}",
        "{name:>99999999}",
        "{name:{name}}",
        "{name!x}",
        "{name",
        "name}",
        None,
        3,
        b"{name}",
    ],
)
def test_a_template_with_more_or_less_than_its_fields_is_refused(template: Any) -> None:
    assert not has_fields(template, ["name"])
    with pytest.raises(InputError, match="no other field"):
        VisionPrompts(template)
    with pytest.raises(InputError, match="no other field"):
        JudgePrompts(proper_noun=template)
    with pytest.raises(InputError, match="no other field"):
        ProposalPrompts(more=template)


def test_braces_and_quotes_of_a_template_and_of_a_name_stay() -> None:
    prompts = VisionPrompts("{name!r}, {{so}}: {name}?")
    assert has_fields(prompts.question, ["name"])
    assert prompts.text(Query("key", ("{x}\n'",))) == "\"{x}\\n'\", {so}: {x}\n'?"
