"""What may be a judge, and what it may answer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from negrefine.errors import NegrefineError
from negrefine.judges.base import Answer, Judge, as_answers
from negrefine.judges.replay import ReplayJudge
from negrefine.judges.wordnet import WordNetJudge


class Plain:
    name = "plain"

    def is_proper_noun(self, words):
        return [word.istitle() for word in words]

    def is_subcategory(self, pairs):
        return [None for _ in pairs]


def test_plain_bools_become_answers():
    answer = Answer(True, "because", 0.5)
    assert as_answers([True, None, answer], 3, Plain()) == [Answer(True), Answer(None), answer]
    assert as_answers((), 0, Plain()) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([True], "'plain' left 1 of 2 questions without an answer"),
        ([True, None, True], "'plain' answered position 2 twice, or was not asked about it"),
        ([True, "yes"], "returned 'yes' as answer 1"),
        ([True, 1], "returned 1 as answer 1"),
        (None, "returned None: return a list"),
    ],
)
def test_wrong_answers_are_explained(values, message):
    with pytest.raises(NegrefineError, match=message):
        as_answers(values, 2, Plain())


def test_anything_with_the_two_methods_is_a_judge(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("oslo | proper noun \n", encoding="utf-8")
    for candidate in (Plain(), WordNetJudge(), ReplayJudge(log)):
        assert isinstance(candidate, Judge)
    assert not isinstance(object(), Judge)


def test_importing_the_judges_that_need_no_model_imports_no_heavy_package():
    modules = ", ".join(
        f"negrefine.judges.{name}"
        for name in ("base", "cascade", "language_model", "prompts", "replay", "store", "wordnet")
    )
    code = (
        f"import sys, {modules}\n"
        "print(sorted({'torch', 'transformers', 'openai', 'jinja2', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
