"""Reading yes or no from replies."""

from __future__ import annotations

import numpy as np
import pytest

from negrefine.judges.base import Answer
from negrefine.judges.chat_reply import read_reply
from negrefine.judges.thoughts import without_thoughts


@pytest.mark.parametrize(
    ("text", "yes"),
    [
        ("Yes", True),
        (" no.", False),
        ("**No**, because", False),
        ('"Yes, it is."', True),
        ("<think>No? Yes!\n</think>\n\nNo", False),
        ("<think>never ends: yes", None),
        ("Yes and no.", None),
        ("Nothing", None),
        ("Yesterday", None),
        ("_Yes_", True),
        ("__No__", False),
        ("Yes/No", None),
        ("No wait, let me think.\n</think>\n\nYes", True),
        ("The answer is yes", None),
        ("", None),
    ],
)
def test_reads_replies(text: str, yes: bool | None) -> None:
    answer = read_reply(text)
    assert (None if answer is None else answer.yes) is yes


@pytest.mark.parametrize(
    "text",
    [
        "[THINK]a city? No.[/THINK]Yes",
        "<THINKING>no</THINKING>\nYes",
        "<reasoning>No <think>no</think> no</reasoning> Yes",
        "<Thought>no</Thought>\n<answer>Yes</answer>",
        "No, wait.\n[/think]\nyes",
        "<|START_THINKING|>no<|END_THINKING|><|START_RESPONSE|>Yes<|END_RESPONSE|>",
        "<|begin_of_thought|>no<|end_of_thought|>\n\n<|begin_of_solution|>Yes",
        "<seed:think>no</seed:think>Yes",
        "\u25c1think\u25b7no\u25c1/think\u25b7Yes",
        "Yes\n<think>No? Yes.</think>",
        "<|channel|>analysis<|message|>No.<|end|><|start|>assistant<|channel|>final<|message|>Yes",
        "<|channel|>Final <|constrain|>json<|message|>Yes<|return|>",
        "analysis<|message|>No.<|end|><|start|>assistant<|channel|>final<|message|>Yes",
        "analysisNo, a city.assistantfinalYes",
        "<|channel>thought\nNo.<channel|>Yes",
    ],
)
def test_thoughts_of_every_format_are_not_read(text: str) -> None:
    answer = read_reply(text)
    assert answer is not None
    assert answer.yes is True


@pytest.mark.parametrize(
    "text",
    [
        "<think>Yes",
        "[THINK] yes, no",
        "<reasoning>\nyes",
        "Hm</think>",
        "<|channel|>analysis<|message|>Yes.<|end|>",
        "<|channel|>commentary<|message|>final Yes",
        "analysisWe must say Yes",
        "<thought>a</thought><thought>yes",
    ],
)
def test_thoughts_without_an_answer_are_none(text: str) -> None:
    assert read_reply(text) is None
    assert without_thoughts(text) == ""


@pytest.mark.parametrize(
    "text", ["Analysis: Yes", "I think yes", "It depends [1]", "Final thought: no", "a < b > c"]
)
def test_a_reply_without_thoughts_stays_as_it_is(text: str) -> None:
    assert without_thoughts(text) == text


def test_probabilities_change_the_confidence_but_not_the_answer() -> None:
    shares = {"Yes": 0.4, "No": 0.3, "no": 0.25}
    sure = read_reply("Yes", [(word, float(np.log(p))) for word, p in shares.items()])
    assert sure is not None
    assert sure.yes is True
    assert sure.confidence == pytest.approx(0.4 / 0.95)
    assert read_reply("Yes and no", [("Yes", -0.01)]) is None


@pytest.mark.parametrize("odd", [1000.0, float("inf"), float("nan")])
def test_impossible_probabilities_do_not_count(odd: float) -> None:
    assert read_reply("Yes", [("Yes", odd)]) == Answer(True, "replied 'Yes'")


def test_improbable_words_do_not_count() -> None:
    alternatives = [("The", float(np.log(0.7))), ("Yes", float(np.log(0.3)))]
    assert read_reply("The answer is unclear", alternatives) is None
    assert read_reply("No", alternatives) == Answer(False, "replied 'No'")
