"""How a chat is written for a model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from judges.tiny_models import (
    NO_SYSTEM,
    QUERIES,
    SYSTEM,
    Plain,
    judge_for,
    make_tokenizer,
    p_yes,
    question,
)
from negrefine.judges.base import Query, answer_all


def test_without_a_system_role_the_system_prompt_heads_the_message(
    qwen: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "folds"
    shutil.copytree(qwen, directory)
    make_tokenizer(NO_SYSTEM).save_pretrained(directory)

    def folded(query: Query) -> str:
        return f"<|im_start|>{SYSTEM}\n\n{question(query)}<|im_end|>"

    answers = answer_all(judge_for(directory), QUERIES)
    expected = Plain(directory).answers(QUERIES, folded)
    np.testing.assert_allclose([p_yes(a) for a in answers], expected, atol=1e-5)


def test_without_a_chat_template_the_prompt_is_plain_text(qwen: Path, tmp_path: Path) -> None:
    directory = tmp_path / "plain"
    shutil.copytree(qwen, directory, ignore=shutil.ignore_patterns("chat_template*"))
    make_tokenizer(None).save_pretrained(directory)

    def text(query: Query) -> str:
        return f"{SYSTEM}\n\n{question(query)}\n\nAnswer:"

    answers = answer_all(judge_for(directory), QUERIES)
    expected = Plain(directory).answers(QUERIES, text)
    np.testing.assert_allclose([p_yes(a) for a in answers], expected, atol=1e-5)
