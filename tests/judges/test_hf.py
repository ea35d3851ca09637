"""The judge that is a model in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
)

from judges.tiny_models import (
    CHATML,
    QUERIES,
    WORDS,
    Plain,
    chat,
    judge_for,
    make_tokenizer,
    p_yes,
)
from negrefine import HFJudge
from negrefine.errors import InputError
from negrefine.judges.base import Query, answer_all
from negrefine.judges.prompts import JudgePrompts
from negrefine.judges.thoughts import ends_in_thoughts


def test_both_questions_through_the_judge_protocol(qwen: Path, plain_qwen: Plain) -> None:
    judge = judge_for(qwen)
    nouns = judge.is_proper_noun(WORDS)
    pairs = judge.is_subcategory([(word, "plant") for word in WORDS])
    expected = plain_qwen.answers([Query(word) for word in WORDS])
    np.testing.assert_allclose([p_yes(a) for a in nouns], expected, atol=1e-5)
    expected = plain_qwen.answers([Query(word, ("plant",)) for word in WORDS])
    np.testing.assert_allclose([p_yes(a) for a in pairs], expected, atol=1e-5)
    assert judge.name == f"hf:{qwen}"
    assert judge.is_proper_noun([]) == []


@torch.inference_mode()
def plain_reply(plain: Plain, text: str, max_new_tokens: int) -> str:
    """The most probable continuation up to the end token, without a cache."""
    ids = plain.tokenizer(text, add_special_tokens=False)["input_ids"]
    n_prompt = len(ids)
    for _ in range(max_new_tokens):
        ids.append(int(plain.model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == plain.tokenizer.eos_token_id:
            break
    reply: str = plain.tokenizer.decode(ids[n_prompt:], skip_special_tokens=True)
    return reply


def test_official_mode_generates_as_a_plain_loop(qwen: Path, tmp_path: Path) -> None:
    # A head that likes the wanted tokens best makes the replies of a random model say something.
    directory = tmp_path / "talks"
    shutil.copytree(qwen, directory)
    model = AutoModelForCausalLM.from_pretrained(directory)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    wanted = [tokenizer.encode(text)[0] for text in ("Yes", "yes", " Yes", "No", "<|im_end|>", ".")]
    with torch.no_grad():
        rest = [i for i in range(model.lm_head.weight.shape[0]) if i not in wanted]
        model.lm_head.weight[rest] *= 0.1
    model.save_pretrained(directory)
    plain = Plain(directory)

    judge = judge_for(directory, mode="official", greedy=True, max_new_tokens=12)
    answers = answer_all(judge, QUERIES)
    replies = [plain_reply(plain, chat(query), 12) for query in QUERIES]
    assert [a.reason for a in answers] == [f"replied {reply!r}" for reply in replies]
    assert [a.yes for a in answers] == [reply.lower().startswith("yes") for reply in replies]
    assert {True, False} == {a.yes for a in answers}
    # A space before makes a no.
    assert any(reply.startswith(" Yes") for reply in replies)
    assert judge.usage.completion_tokens >= len(set(QUERIES))
    assert judge.ranks_per_round == 1


def test_official_mode_samples_by_seed_and_leaves_the_global_generator(
    qwen: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "samples"
    shutil.copytree(qwen, directory)
    generation = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20}
    (directory / "generation_config.json").write_text(
        json.dumps({**generation, "repetition_penalty": 1.05, "eos_token_id": [2, 0]})
    )

    def reasons(queries: Sequence[Query], **options: Any) -> list[str]:
        judge = judge_for(directory, mode="official", max_new_tokens=5, **options)
        return [answer.reason for answer in answer_all(judge, queries)]

    state = torch.random.get_rng_state()
    numbers = np.random.get_state()[1].copy()  # type: ignore[union-attr, index]  # noqa: NPY002
    first = reasons(QUERIES[:12])
    assert torch.equal(torch.random.get_rng_state(), state)
    assert np.array_equal(numbers, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002
    # By question, not by order.
    assert reasons(QUERIES[11::-1]) == first[::-1]
    assert reasons(QUERIES[:12], seed=1) != first
    assert reasons(QUERIES[:12], greedy=True) != first


def test_probability_mode_leaves_the_global_generator(qwen: Path) -> None:
    state = torch.random.get_rng_state()
    answer_all(judge_for(qwen), QUERIES)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_second_run_asks_nothing_and_loads_no_model(
    qwen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "answers.sqlite"
    judge = HFJudge(qwen, device="cpu", store=store, least_mass=0)
    assert not judge.loaded
    first = answer_all(judge, QUERIES)
    assert judge.loaded

    again = HFJudge(qwen, device="cpu", store=store, token_budget=7, least_mass=0)
    assert answer_all(again, QUERIES) == first
    assert not again.loaded
    assert again.usage.asked == again.usage.prompt_tokens == 0
    assert again.usage.cached == len(QUERIES)
    # One more question loads it after all.
    answer_all(again, [Query("anvil")])
    assert again.loaded
    assert again.usage.asked == 1


THINKING = f"{CHATML.removesuffix('{% endif %}')}<think>\n{{% endif %}}"


def with_template(model: Path, directory: Path, template: str) -> Path:
    shutil.copytree(model, directory, ignore=shutil.ignore_patterns("chat_template*"))
    make_tokenizer(template).save_pretrained(directory)
    return directory


@pytest.mark.parametrize("template", [THINKING, THINKING.replace("<think>", "[THINK]"), CHATML])
def test_a_model_that_is_about_to_write_something_else_decides_nothing(
    qwen: Path, tmp_path: Path, template: str
) -> None:
    directory = with_template(qwen, tmp_path / "else", template)
    store = tmp_path / "answers.sqlite"
    reasons = []
    # A second run, with stored answers, warns as well.
    for _ in range(2):
        judge = HFJudge(directory, device="cpu", store=store)
        with pytest.warns(UserWarning, match="^3 of 3 questions to .* are undecided") as caught:
            answers = judge.is_proper_noun(["paris", "dog", "cat"])
        assert [(a.yes, a.confidence) for a in answers] == [(None, None)] * 3
        assert "\n" not in str(caught[0].message)
        reasons.append([a.reason for a in answers])
    assert reasons[0] == reasons[1]
    thinks = template != CHATML
    assert reasons[0][0].startswith("the chat template opens a thought, P(yes) + P(no) =") is thinks
    # With another template, it is another judge.
    mended = with_template(qwen, tmp_path / "mended" / "else", f"{CHATML} ")
    judge = HFJudge(mended, device="cpu", store=store, least_mass=0)
    assert all(a.yes is not None for a in judge.is_proper_noun(["paris", "dog", "cat"]))
    assert judge.usage.cached == 0


def test_answers_with_enough_probability_do_not_warn(tiny_llm: Path) -> None:
    answers = HFJudge(tiny_llm, device="cpu", store=None).is_proper_noun(["paris", "dog", "cat"])
    assert all(a.yes is not None and a.confidence is not None for a in answers)


@pytest.mark.parametrize(
    ("template", "yes"),
    [(THINKING, None), (f"{CHATML} <think>\n\n</think>\n\n", False), (CHATML, False)],
)
def test_official_replies_that_end_within_thoughts_decide_nothing(
    qwen: Path, tmp_path: Path, template: str, yes: bool | None
) -> None:
    directory = with_template(qwen, tmp_path / "thinks", template)
    judge = judge_for(directory, mode="official", max_new_tokens=3)
    queries = [Query("paris"), Query("dog")]
    if yes is None:
        with pytest.warns(UserWarning, match="the reply ends within thoughts after 3 tokens"):
            answers = answer_all(judge, queries)
    else:
        answers = answer_all(judge, queries)
    assert [a.yes for a in answers] == [yes, yes]


@pytest.mark.parametrize(
    ("reply", "within"),
    [
        ("<think>\nHm, yes", True),
        ("< think >", True),
        ("<|begin_of_thought|>No", True),
        ("[THINK]Hm[/THINK]Yes", False),
        ("<think></think>Yes", False),
        ("<think>a</think><THINK>b", True),
        ("<|channel|>analysis<|message|>Hm", True),
        ("<|channel|>analysis<|message|>Hm<|channel|>final<|message|>Yes", False),
        ("I think <so>", False),
        ("", False),
    ],
)
def test_where_thoughts_end(reply: str, within: bool) -> None:
    assert ends_in_thoughts(reply) is within


def test_identity_tells_apart_what_decides_answers(
    qwen: Path, model_dirs: dict[str, Path], tmp_path: Path
) -> None:
    copied = tmp_path / "elsewhere" / qwen.name
    shutil.copytree(qwen, copied)
    base = judge_for(qwen).identity
    assert judge_for(copied).identity == base
    assert judge_for(qwen, token_budget=5, batch_size=2).identity == base
    others = [
        judge_for(model_dirs["llama"]),
        judge_for(qwen, dtype="bfloat16"),
        judge_for(qwen, least_mass=0.5),
        judge_for(qwen, mode="official"),
        judge_for(qwen, mode="official", seed=1),
        judge_for(qwen, mode="official", greedy=True),
        judge_for(qwen, mode="official", max_new_tokens=5),
        judge_for(qwen, prompts=JudgePrompts(system="Be brief.")),
    ]
    weights = copied / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    identities = [judge.identity for judge in [*others, judge_for(copied)]]
    assert len({base, *identities}) == 1 + len(identities)
    commit = "0123456789abcdef0123456789abcdef01234567"
    assert commit in HFJudge("Qwen/Qwen2.5-14B-Instruct", revision=commit, store=None).identity


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "guess"},
        {"token_budget": 0},
        {"batch_size": 0},
        {"ranks_per_round": 0},
        {"max_new_tokens": 0},
        {"least_mass": 1.5},
        {"least_mass": float("nan")},
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"^{next(iter(options))} must be"):
        HFJudge("anything", store=None, **options)
