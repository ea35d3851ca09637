"""P(yes) against plain forward passes, on tiny random models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

from judges.tiny_models import (
    CHATML,
    CONFIGS,
    NAMES,
    QUERIES,
    Plain,
    chat,
    judge_for,
    make_tokenizer,
    p_yes,
)
from negrefine.errors import InputError
from negrefine.judges.base import Query, answer_all


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("budget", [1, 200, 100_000])
def test_answers_are_those_of_whole_prompts_one_by_one(
    model_dirs: dict[str, Path], kind: str, budget: int
) -> None:
    judge = judge_for(model_dirs[kind], token_budget=budget)
    expected = Plain(model_dirs[kind]).answers(QUERIES)
    answers = answer_all(judge, QUERIES)
    np.testing.assert_allclose([p_yes(a) for a in answers], expected, atol=1e-5)
    assert [a.yes for a in answers] == [p > 0.5 for p in expected]
    # Otherwise the test would prove nothing.
    assert 0.1 < np.mean([p > 0.5 for p in expected]) < 0.9
    assert np.std(expected) > 0.02
    assert answers[0].reason == f"P(yes) = {expected[0]:.2f}"
    assert judge.usage.asked == len(set(QUERIES))


@pytest.mark.parametrize(
    ("kind", "shares"), [("qwen2", True), ("llama", True), ("mistral", False), ("gemma2", False)]
)
def test_prefixes_are_read_once_where_the_cache_is_plain(
    model_dirs: dict[str, Path], kind: str, shares: bool
) -> None:
    queries = [Query(word, (name,)) for word in ("oak", "genus Abies") for name in NAMES]
    whole = judge_for(model_dirs[kind], share_prefixes=False)
    shared = judge_for(model_dirs[kind])
    answer_all(whole, queries)
    answer_all(shared, queries)
    tokenizer = AutoTokenizer.from_pretrained(model_dirs[kind])
    n_tokens = sum(len(tokenizer(chat(query))["input_ids"]) for query in queries)
    assert whole.usage.prompt_tokens == n_tokens
    if not shares:
        assert shared.usage.prompt_tokens == n_tokens
        return
    # The first call also reads a few prompts whole, as a proof.
    first = shared.usage.prompt_tokens
    answer_all(shared, queries)
    again = shared.usage.prompt_tokens - first
    assert again < first
    assert again < 0.45 * n_tokens


@given(
    words=st.lists(st.text(max_size=12), min_size=1, max_size=4),
    names=st.lists(st.text(min_size=1, max_size=12), max_size=4, unique=True),
    several=st.booleans(),
    batch_size=st.integers(1, 7),
    budget=st.integers(1, 300),
    order=st.randoms(use_true_random=False),
)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_neither_order_nor_batches_change_answers(
    qwen: Path,
    plain_qwen: Plain,
    words: list[str],
    names: list[str],
    several: bool,
    batch_size: int,
    budget: int,
    order: Any,
) -> None:
    queries = [Query(word) for word in words]
    queries += [Query(word, (name,)) for word in words for name in names]
    queries += [Query(word, tuple(names)) for word in words if several and names]
    order.shuffle(queries)
    judge = judge_for(qwen, batch_size=batch_size, token_budget=budget)
    answers = answer_all(judge, queries)
    np.testing.assert_allclose([p_yes(a) for a in answers], plain_qwen.answers(queries), atol=1e-5)


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("share_prefixes", [True, False])
def test_an_answer_with_little_probability_is_undecided(
    model_dirs: dict[str, Path], kind: str, share_prefixes: bool
) -> None:
    plain = Plain(model_dirs[kind])
    masses = [plain.mass(chat(query)) for query in QUERIES]
    # Both sides are there; no question is so near that rounding decides.
    least = float(np.mean(sorted(masses)[len(masses) // 2 - 1 :][:2]))
    judge = judge_for(model_dirs[kind], least_mass=least, share_prefixes=share_prefixes)
    n_undecided = sum(mass < least for mass in masses)
    with pytest.warns(UserWarning, match=rf"^{n_undecided} of {len(QUERIES)} questions to 'hf:"):
        answers = answer_all(judge, QUERIES)
    expected = plain.answers(QUERIES)
    for answer, mass, p in zip(answers, masses, expected, strict=True):
        if mass < least:
            assert answer.yes is None
            assert answer.confidence is None
            assert answer.reason == f"about to write something else, P(yes) + P(no) = {mass:.2g}"
        else:
            assert p_yes(answer) == pytest.approx(p, abs=1e-5)


def test_half_precision_stays_near(qwen: Path, plain_qwen: Plain) -> None:
    answers = answer_all(judge_for(qwen, dtype="bfloat16"), QUERIES)
    np.testing.assert_allclose([p_yes(a) for a in answers], plain_qwen.answers(QUERIES), atol=0.15)


class LimitedMemory:
    """Fails like a GPU whose memory is enough for at most `limit` tokens per pass."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
        self.limit = limit
        self.failures = 0
        self.largest = 0
        load = AutoModelForCausalLM.from_pretrained

        def load_limited(*arguments: Any, **options: Any) -> Any:
            model, report = load(*arguments, **options)
            model.base_model.register_forward_pre_hook(self._check, with_kwargs=True)
            return model, report

        monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", load_limited)

    def _check(self, _module: Any, _arguments: Any, options: dict[str, Any]) -> None:
        n_tokens = options["input_ids"].numel()
        if n_tokens > self.limit:
            self.failures += 1
            raise torch.OutOfMemoryError("Tried to allocate more than there is.")
        self.largest = max(self.largest, n_tokens)


def test_batches_are_halved_for_good_when_memory_runs_out(
    qwen: Path, plain_qwen: Plain, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plain_qwen.answers(QUERIES)
    memory = LimitedMemory(monkeypatch, 300)
    judge = judge_for(qwen, token_budget=5000)
    first = answer_all(judge, QUERIES)
    assert memory.failures > 0
    assert 100 < memory.largest <= 300
    failures = memory.failures
    assert answer_all(judge, QUERIES) == first
    assert memory.failures == failures
    np.testing.assert_allclose([p_yes(a) for a in first], expected, atol=1e-5)


def test_one_prompt_too_large_for_memory_is_a_sentence(
    qwen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    LimitedMemory(monkeypatch, 5)
    with pytest.raises(InputError, match="does not fit into the memory of cpu"):
        answer_all(judge_for(qwen), QUERIES[:3])


def test_spellings_of_several_tokens_count_by_their_first(qwen: Path, tmp_path: Path) -> None:
    directory = tmp_path / "bytes"
    shutil.copytree(qwen, directory)
    tokenizer = make_tokenizer(words=False)
    tokenizer.save_pretrained(directory)
    plain = Plain.__new__(Plain)
    plain.model = AutoModelForCausalLM.from_pretrained(directory).eval()
    plain.tokenizer = tokenizer
    # A space begins both and tells nothing.
    plain.yes, plain.no = (
        [tokenizer.encode(letter)[0] for letter in letters] for letters in ("yY", "nN")
    )
    queries = QUERIES[:8]
    answers = answer_all(judge_for(directory), queries)
    np.testing.assert_allclose([p_yes(a) for a in answers], plain.answers(queries), atol=1e-5)


def test_a_tokenizer_that_cannot_tell_yes_from_no(qwen: Path, tmp_path: Path) -> None:
    directory = tmp_path / "blind"
    shutil.copytree(qwen, directory)
    tokenizer = Tokenizer(models.WordLevel({"?": 0, "Is": 1}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?")
    wrapped.chat_template = CHATML
    wrapped.save_pretrained(directory)
    with pytest.raises(InputError, match="cannot tell 'Yes' from 'No' by their first tokens"):
        answer_all(judge_for(directory), QUERIES[:2])


def test_a_model_that_gives_nan(qwen: Path, tmp_path: Path) -> None:
    directory = tmp_path / "nan"
    shutil.copytree(qwen, directory)
    model = AutoModelForCausalLM.from_pretrained(directory)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    model.save_pretrained(directory)
    with pytest.raises(InputError, match="returns NaN in torch"):
        answer_all(judge_for(directory), QUERIES[:3])
