"""HFJudge against plain forward passes and a plain generation loop, on tiny random models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    CLIPModel,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from negrefine import HFJudge
from negrefine.errors import InputError
from negrefine.judges.base import Answer, Query, answer_all
from negrefine.judges.prompts import JudgePrompts

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{% for message in messages %}{% if message['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
)
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
SYSTEM = "You are a helpful assistant. Answering only Yes/No."
TEXT = [
    SYSTEM,
    "Yes No yes no YES NO. Yes, no. No, yes. YES NO.",
    "Is 'oak' a subcatgeory of 'plant'? Is 'Paris' a proper noun, like the name of a city, "
    "country, mountain, river, or any unique place or entity?",
    "Is 'x' a subcategory of any of these: 'a', 'b'?",
    "system user assistant genus fern moss daisy hammer valley granite teacher",
]
WORDS = ["oak", "Paris", "genus Abies", "x", "Ærøskøbing", "日本", "naïve 🦉", "'", " ", "a" * 60]
NAMES = ["plant", "tabby cat", "great white shark", "é", "fire truck, red one", "x"]
QUERIES = [
    *[Query(word) for word in WORDS],
    *[Query(word, (name,)) for word in WORDS for name in NAMES],
    *[Query(word, tuple(NAMES[:3])) for word in WORDS[:4]],
    Query("oak"),
    Query("oak", ("plant",)),
]


def make_tokenizer(template: str | None = CHATML, *, words: bool = True) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE whose pieces of the text above are whole tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600 if words else 256 + len(SPECIAL),
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 3, trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    wrapped.chat_template = template
    return wrapped


SIZES: dict[str, Any] = {
    "vocab_size": 640,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 0,
    # The usual 0.02 makes all answers 0.500.
    "initializer_range": 0.3,
    "tie_word_embeddings": False,
}
CONFIGS: dict[str, Callable[[], Any]] = {
    "qwen2": lambda: Qwen2Config(**SIZES),
    "llama": lambda: LlamaConfig(**SIZES),
    # Shorter than every prompt.
    "mistral": lambda: MistralConfig(**SIZES, sliding_window=16),
    # Caps its logits, and slides in every other layer.
    "gemma2": lambda: Gemma2Config(
        **SIZES, head_dim=12, sliding_window=16, final_logit_softcapping=2.0
    ),
    # Learned positions; other names for everything.
    "gpt2": lambda: GPT2Config(
        vocab_size=640, n_embd=48, n_layer=2, n_head=4, n_positions=512, initializer_range=0.3
    ),
}


def save_model(directory: Path, config: Any, tokenizer: Any) -> Path:
    """Write a random model as the hub holds one."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def model_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One directory for each architecture."""
    tokenizer = make_tokenizer()
    root = tmp_path_factory.mktemp("models")
    return {kind: save_model(root / kind, make(), tokenizer) for kind, make in CONFIGS.items()}


@pytest.fixture(scope="module")
def qwen(model_dirs: dict[str, Path]) -> Path:
    return model_dirs["qwen2"]


def question(query: Query) -> str:
    """Write the published questions out once more, independently of the package."""
    if not query.class_names:
        return (
            f"Is '{query.word}' a proper noun, like the name of a city, country, mountain, river, "
            "or any unique place or entity?"
        )
    if len(query.class_names) == 1:
        return f"Is '{query.word}' a subcatgeory of '{query.class_names[0]}'?"
    return JudgePrompts().question(query)


def chat(query: Query) -> str:
    return (
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question(query)}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


class Plain:
    """One prompt at a time through the whole model."""

    def __init__(self, directory: Path) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(directory).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        yes, no = (
            [self._first(space + form) for form in forms for space in ("", " ")]
            for forms in (("yes", "Yes", "YES"), ("no", "No", "NO"))
        )
        self.yes, self.no = sorted(set(yes)), sorted(set(no))
        assert not set(yes) & set(no)

    def _first(self, text: str) -> int:
        return int(self.tokenizer(text, add_special_tokens=False)["input_ids"][0])

    @torch.inference_mode()
    def p_yes(self, text: str) -> float:
        ids = self.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        weights = self.model(ids).logits[0, -1].double().exp()
        yes, no = weights[self.yes].sum(), weights[self.no].sum()
        return float(yes / (yes + no))

    def answers(self, queries: Sequence[Query], text: Callable[[Query], str] = chat) -> list[float]:
        return [self.p_yes(text(query)) for query in queries]


@pytest.fixture(scope="module")
def plain_qwen(qwen: Path) -> Plain:
    return Plain(qwen)


def p_yes(answer: Answer) -> float:
    assert answer.confidence is not None
    assert answer.confidence >= 0.5
    return answer.confidence if answer.yes else 1 - answer.confidence


def judge_for(directory: str | Path, **options: Any) -> HFJudge:
    return HFJudge(directory, **{"device": "cpu", "store": None, **options})


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


def test_half_precision_stays_near(qwen: Path, plain_qwen: Plain) -> None:
    answers = answer_all(judge_for(qwen, dtype="bfloat16"), QUERIES)
    np.testing.assert_allclose([p_yes(a) for a in answers], plain_qwen.answers(QUERIES), atol=0.15)


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


class LimitedMemory:
    """Fails like a GPU that has room for so many tokens of one pass."""

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
    judge = HFJudge(qwen, device="cpu", store=store)
    assert not judge.loaded
    first = answer_all(judge, QUERIES)
    assert judge.loaded

    again = HFJudge(qwen, device="cpu", store=store, token_budget=7)
    assert answer_all(again, QUERIES) == first
    assert not again.loaded
    assert again.usage.asked == again.usage.prompt_tokens == 0
    assert again.usage.cached == len(QUERIES)
    # One more question loads it after all.
    answer_all(again, [Query("anvil")])
    assert again.loaded
    assert again.usage.asked == 1


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


def test_unusable_models_are_one_sentence(
    qwen: Path, tmp_path: Path, clip_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def error(model: str | Path, **options: Any) -> str:
        with pytest.raises(InputError) as raised:
            answer_all(judge_for(model, **options), QUERIES[:2])
        message = str(raised.value)
        assert "\n" not in message
        return message

    assert "is not a directory" in error(tmp_path / "missing")
    assert "cannot be loaded as a causal language model" in error(clip_dir)

    pickled = tmp_path / "pickled"
    shutil.copytree(qwen, pickled)
    (pickled / "model.safetensors").rename(pickled / "pytorch_model.bin")
    assert "holds no safetensors weights" in error(pickled)

    damaged = tmp_path / "damaged"
    shutil.copytree(qwen, damaged)
    content = (damaged / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(content[: len(content) // 2])
    assert "cannot be loaded" in error(damaged)

    bare = tmp_path / "bare"
    shutil.copytree(qwen, bare, ignore=shutil.ignore_patterns("token*", "chat*", "special*"))
    assert "tokenizer" in error(bare)

    assert "device 'abacus' cannot be used" in error(qwen, device="abacus")
    assert "dtype must be" in error(qwen, dtype="float8")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert "The model hub cannot be reached" in error("nobody/nothing")


@pytest.fixture
def clip_dir(tmp_path: Path) -> Path:
    """A model of pictures and texts, which generates nothing."""
    from transformers import CLIPConfig

    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = CLIPConfig(text_config=sizes, vision_config=sizes, projection_dim=8)
    directory = tmp_path / "clip"
    CLIPModel(config).save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return directory


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "guess"},
        {"token_budget": 0},
        {"batch_size": 0},
        {"ranks_per_round": 0},
        {"max_new_tokens": 0},
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"^{next(iter(options))} must be"):
        HFJudge("anything", store=None, **options)
