"""The language model in this process, against plain forward passes and a plain generate loop."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    Gemma2ForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
)

from conftest import CHAT_TEMPLATE, write_tokenizer
from negrefine import HFJudge
from negrefine.errors import InputError, JudgeError
from negrefine.labels.answer_store import AnswerStore
from negrefine.labels.judge_prompts import PUBLISHED_PROMPTS
from negrefine.labels.judges import Answer, Query, answer_all

QUERIES = [
    Query("oak"),
    Query("Eiffel Tower"),
    Query("bird's nest fern"),
    Query("é"),
    Query("oak", ("tree",)),
    Query("oak", ("cardigan sweater",)),
    Query("oak", ("tree", "dog", "cat")),
    Query("oak", ("tree",)),
    Query("x", ("safe",)),
    *(Query(f"word {i}", (f"class {i * j}",)) for i in range(4) for j in range(5)),
    Query("a very long label with many words, far longer than others", ("moss",)),
]


class Plain:
    """One prompt at a time, whole, without padding."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        self.model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()

    def ids(self, query: Query) -> torch.Tensor:
        text = self.tokenizer.apply_chat_template(
            PUBLISHED_PROMPTS.messages(query), tokenize=False, add_generation_prompt=True
        )
        encoded = self.tokenizer(text, add_special_tokens=False, return_tensors="pt")
        ids: torch.Tensor = encoded["input_ids"]
        return ids

    @torch.inference_mode()
    def p_yes(self, query: Query) -> float:
        logits = self.model(self.ids(query)).logits[0, -1].double()
        masses = []
        for words in ("Yes yes YES", "No no NO"):
            forms = [space + word for word in words.split() for space in ("", " ")]
            ids = [self.tokenizer.encode(form, add_special_tokens=False) for form in forms]
            single = sorted({i[0] for i in ids if len(i) == 1})
            assert single
            masses.append(logits[single].logsumexp(0))
        return float((masses[0] - masses[1]).sigmoid())


@pytest.fixture(scope="module")
def plain(tiny_llm: Path) -> Plain:
    return Plain(tiny_llm)


@pytest.fixture(scope="module")
def judge(tiny_llm: Path) -> HFJudge:
    return HFJudge(tiny_llm, store=None)


def p_yes(answers: Sequence[Answer]) -> list[float]:
    """Read the probabilities back, and check that the parts of an answer agree."""
    values = []
    for answer in answers:
        assert answer.confidence is not None
        values.append(answer.confidence if answer.yes else 1 - answer.confidence)
        assert answer.reason == f"P(yes) = {values[-1]:.3f}"
    return values


@pytest.mark.parametrize("budget", [1, 60, 200, 1000, 100_000])
@pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
def test_equals_one_prompt_at_a_time(tiny_llm: Path, plain: Plain, budget: int, order: str) -> None:
    judge = HFJudge(tiny_llm, store=None, token_budget=budget)
    queries = list(QUERIES)
    if order == "backward":
        queries.reverse()
    elif order == "shuffled":
        queries = [QUERIES[i] for i in np.random.default_rng(3).permutation(len(QUERIES))]
    expected = [plain.p_yes(query) for query in queries]
    assert max(expected) > 0.6
    assert min(expected) < 0.4
    np.testing.assert_allclose(p_yes(answer_all(judge, queries)), expected, atol=1e-5)


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.builds(
            Query,
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
            st.lists(st.text("abc '", min_size=1, max_size=6), max_size=2).map(tuple),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_equals_one_prompt_at_a_time_for_any_text(
    judge: HFJudge, plain: Plain, queries: list[Query]
) -> None:
    expected = [plain.p_yes(query) for query in queries]
    np.testing.assert_allclose(p_yes(answer_all(judge, queries)), expected, atol=1e-5)


def test_computes_shared_beginnings_once(tiny_llm: Path, plain: Plain) -> None:
    judge = HFJudge(tiny_llm, store=None)
    queries = [Query(f"word {i}", (f"class {j}",)) for i in range(6) for j in range(10)]
    answer_all(judge, queries)
    whole = sum(plain.ids(query).shape[1] for query in queries)
    assert judge.usage.asked == 60
    assert 0 < judge.usage.prompt_tokens < whole / 3


def test_methods_of_a_judge(judge: HFJudge, plain: Plain) -> None:
    (proper,) = judge.is_proper_noun(["oak"])
    sub = judge.is_subcategory([("oak", "tree"), ("elm", "safe")])
    expected = [plain.p_yes(q) for q in (Query("oak"), Query("oak", ("tree",)))]
    np.testing.assert_allclose(p_yes([proper, sub[0]]), expected, atol=1e-5)
    assert judge.is_proper_noun([]) == []


def test_official_mode_equals_a_generate_loop(tiny_llm: Path, plain: Plain) -> None:
    judge = HFJudge(tiny_llm, store=None, mode="official", greedy=True)
    queries = [Query("oak"), Query("oak", ("tree",)), Query("Paris"), Query("moss", ("safe",))]
    answers = answer_all(judge, queries)
    written = 0
    for query, answer in zip(queries, answers, strict=True):
        ids = plain.ids(query)
        start = ids.shape[1]
        with torch.inference_mode():
            while ids.shape[1] - start < 512:
                following = plain.model(ids).logits[0, -1].argmax().view(1, 1)
                ids = torch.cat([ids, following], dim=1)
                if following.item() == plain.tokenizer.eos_token_id:
                    break
        reply = plain.tokenizer.decode(ids[0, start:], skip_special_tokens=True)
        written += ids.shape[1] - start
        assert answer == Answer(reply.lower().startswith("yes"), f"replied {reply[:40]!r}")
    assert judge.usage.completion_tokens == written


def test_sampling_leaves_the_global_generator_alone_and_repeats(tiny_llm: Path) -> None:
    queries = [Query("oak"), Query("elm")]
    state = torch.random.get_rng_state()
    first = answer_all(HFJudge(sampling(tiny_llm), store=None, mode="official"), queries)
    again = answer_all(HFJudge(sampling(tiny_llm), store=None, mode="official"), queries[::-1])
    other = answer_all(HFJudge(sampling(tiny_llm), store=None, mode="official", seed=1), queries)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first == again[::-1]
    assert first != other


def sampling(directory: Path) -> Path:
    """Return a copy whose generation_config samples, and stops soon."""
    copy = directory.parent / "sampling"
    if not copy.exists():
        shutil.copytree(directory, copy)
        (copy / "generation_config.json").write_text(
            '{"do_sample": true, "temperature": 1.5, "eos_token_id": [2, 20, 30, 40, 50, 60, 70]}'
        )
    return copy


def test_halves_batches_when_memory_runs_out(tiny_llm: Path, plain: Plain) -> None:
    judge = HFJudge(tiny_llm, store=None, token_budget=4000)
    largest = []

    def limited(module: Any, args: Any, kwargs: Any) -> None:
        ids = kwargs["input_ids"]
        if ids.numel() > 250:
            raise torch.OutOfMemoryError("CUDA out of memory")
        largest.append(ids.numel())

    hook = judge._model.base_model.register_forward_pre_hook(limited, with_kwargs=True)
    try:
        answers = answer_all(judge, QUERIES)
    finally:
        hook.remove()
    np.testing.assert_allclose(p_yes(answers), [plain.p_yes(q) for q in QUERIES], atol=1e-5)
    assert max(largest) <= 250

    def never(module: Any, args: Any, kwargs: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    hook = judge._model.base_model.register_forward_pre_hook(never, with_kwargs=True)
    try:
        with pytest.raises(JudgeError, match="does not fit into memory"):
            answer_all(judge, [Query("fresh")])
    finally:
        hook.remove()


ARCHITECTURES = {
    # Attention that forgets after 16 tokens, less than a prompt.
    "mistral": (
        MistralForCausalLM,
        MistralConfig(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            sliding_window=16,
            initializer_range=0.3,
        ),
    ),
    # A bound on logits after the output matrix.
    "gemma2": (
        Gemma2ForCausalLM,
        Gemma2Config(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            final_logit_softcapping=0.5,
            initializer_range=0.3,
        ),
    ),
    # No keys and values at all.
    "mamba": (
        MambaForCausalLM,
        MambaConfig(hidden_size=32, num_hidden_layers=2, state_size=4, initializer_range=0.3),
    ),
}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.filterwarnings("ignore:.*does not give the same answers when prompts share")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_other_architectures_give_the_answers_of_plain_passes(name: str, tmp_path: Path) -> None:
    cls, config = ARCHITECTURES[name]
    config.vocab_size = write_tokenizer(tmp_path)
    config.pad_token_id, config.eos_token_id, config.bos_token_id = 0, 2, None
    with torch.random.fork_rng():
        torch.manual_seed(1)
        cls(config).save_pretrained(tmp_path)
    plain = Plain(tmp_path)
    judge = HFJudge(tmp_path, store=None, token_budget=300)
    expected = [plain.p_yes(query) for query in QUERIES]
    np.testing.assert_allclose(p_yes(answer_all(judge, QUERIES)), expected, atol=1e-4)
    assert np.ptp(expected) > 0.01


def test_stored_answers_need_no_model(tiny_llm: Path, tmp_path: Path) -> None:
    copy = tmp_path / "moving" / tiny_llm.name
    shutil.copytree(tiny_llm, copy)
    first = HFJudge(copy, store=tmp_path / "a.sqlite")
    answers = answer_all(first, QUERIES)
    assert first.usage.asked == len(set(QUERIES))
    again = HFJudge(tiny_llm, store=AnswerStore(tmp_path / "a.sqlite"))
    assert again.identity == first.identity
    assert answer_all(again, QUERIES) == answers
    assert (again.usage.asked, again.usage.cached) == (0, len(QUERIES))
    assert "_model" not in vars(again)
    official = HFJudge(tiny_llm, store=tmp_path / "a.sqlite", mode="official")
    assert official.identity != first.identity


def test_other_weights_are_another_judge(tiny_llm: Path, tmp_path: Path) -> None:
    copy = tmp_path / tiny_llm.name
    shutil.copytree(tiny_llm, copy)
    before = HFJudge(copy, store=None).identity
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert HFJudge(copy, store=None).identity != before


def test_undecided_below_the_wanted_confidence(tiny_llm: Path, judge: HFJudge) -> None:
    confidences = [answer.confidence or 0 for answer in answer_all(judge, QUERIES)]
    middle = float(np.median(confidences))
    strict = HFJudge(tiny_llm, store=None, min_confidence=middle)
    undecided = [answer.yes is None for answer in answer_all(strict, QUERIES)]
    assert undecided == [confidence < middle for confidence in confidences]
    assert any(undecided)
    assert not all(undecided)


def test_templates_without_a_system_role(tiny_llm: Path, tmp_path: Path) -> None:
    for template in (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        + CHAT_TEMPLATE,
        None,
    ):
        copy = tmp_path / f"copy{template is None}"
        shutil.copytree(tiny_llm, copy)
        (copy / "chat_template.jinja").unlink()
        write_tokenizer(copy, chat_template=template)
        judge = HFJudge(copy, store=None)
        text = judge._chat(Query("oak"))
        assert PUBLISHED_PROMPTS.system in text
        assert "'oak'" in text
        assert judge.is_proper_noun(["oak"])[0].yes is not None


def test_says_what_is_wrong(tiny_llm: Path, tmp_path: Path) -> None:
    for wrong, match in (
        ({"mode": "fast"}, "mode must be"),
        ({"dtype": "int8"}, "dtype must be"),
        ({"min_confidence": 0.2}, "min_confidence"),
        ({"token_budget": 0}, "token_budget"),
        ({"greedy": True}, "greedy belongs"),
    ):
        with pytest.raises(InputError, match=match):
            HFJudge(tiny_llm, store=None, **wrong)  # type: ignore[arg-type]
    with pytest.raises(JudgeError, match="is not a directory"):
        HFJudge("/no/such/model", store=None).is_proper_noun(["a"])
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(JudgeError, match="cannot be loaded"):
        HFJudge(empty, store=None).is_proper_noun(["a"])
    pickled = tmp_path / "pickled"
    shutil.copytree(tiny_llm, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    with pytest.raises(JudgeError, match="no safetensors"):
        HFJudge(pickled, store=None).is_proper_noun(["a"])
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_llm, damaged)
    (damaged / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(JudgeError, match="cannot be loaded on"):
        HFJudge(damaged, store=None).is_proper_noun(["a"])
