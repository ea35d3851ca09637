"""What several test modules need: encoders, pictures, a small word list, reference outputs."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Models this small gain nothing from threads, which only get into each other's way on a busy
# machine. Set before torch is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nothing that a test stores may reach the user's own cache, or come from it. The workers of one run
# share a cache, which they inherit; NEGREFINE_TEST_CACHE is one that a demo has filled.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["NEGREFINE_CACHE"] = os.environ.get("NEGREFINE_TEST_CACHE") or tempfile.mkdtemp(
        prefix="negrefine-tests-"
    )

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from negrefine import (
    CSP,
    GLMCM,
    MCM,
    Answer,
    Detector,
    Lexicon,
    NegLabel,
    NegRefine,
    load_encoder,
)
from negrefine.benchmarks.bundled import demo_class_names, demo_images
from negrefine.encoders import CLIPEncoder
from negrefine.encoders.images import read_image
from negrefine.evaluation.ablation import ablation_of
from negrefine.evaluation.experiment import evaluate
from negrefine.evaluation.images import find_image_set
from negrefine.evaluation.results import Evaluation

SHARED = Path(__file__).resolve().parents[1].parent / "shared"

CLASS_NAMES = ["dog", "cat", "horse", "owl", "fish", "frog", "whale"]
WORDS = {
    "noun.artifact": "hammer anvil bridge candle carpet engine lantern mirror needle pillow ladder "
    "chisel kettle violin cannon Eiffel_Tower",
    "noun.plant": "oak fern moss daisy willow clover cactus thistle",
    "noun.animal": "dog poodle horse whale sparrow lizard",
    "noun.location": "valley Paris desert village Africa harbor",
    "noun.person": "teacher pirate Einstein plumber queen",
    "noun.substance": "granite copper lava butter",
    "adj.all": "gooey metallic ancient quiet purple hollow frozen crooked dusty liquid sharp "
    "sleepy golden bitter round",
}


class LetterJudge:
    """Calls words with a capital proper nouns, and words a kind of a name they share letters with.

    Leaves words that begin with "m" undecided.
    """

    name = "letters"

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer | bool | None]:
        return [Answer(True, "capital") if word[0].isupper() else False for word in words]

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer | bool | None]:
        return [None if word[0] == "m" else word[:2] == name[:2] for word, name in pairs]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference material, which stands beside the checkout or nowhere."""
    if not SHARED.is_dir():
        pytest.skip("the reference material is not beside the checkout")
    return SHARED


@pytest.fixture(scope="session")
def golden_dir(shared: Path) -> Path:
    """Inputs and outputs of the official implementations."""
    return shared / "golden" / "open"


@pytest.fixture(scope="session")
def golden(golden_dir: Path) -> dict[str, Any]:
    """The outputs."""
    content: dict[str, Any] = json.loads((golden_dir / "golden.json").read_text())
    return content


@pytest.fixture(scope="session")
def tiny_encoder(golden_dir: Path) -> CLIPEncoder:
    """A random CLIP with OpenAI's vocabulary and context of 77 tokens."""
    return load_encoder(golden_dir / "model", device="cpu", background=None)


@pytest.fixture(scope="session")
def builtin_encoder() -> CLIPEncoder:
    """The encoder inside the package, with a context of 32 tokens."""
    return load_encoder("builtin", device="cpu")


@pytest.fixture(scope="session")
def builtin_dir() -> Path:
    """The model directory of the encoder inside the package."""
    import negrefine.encoders

    return Path(negrefine.encoders.__path__[0]) / "builtin" / "model"


@pytest.fixture(scope="session")
def demo_pictures() -> list[Path]:
    """Every ninth picture of the demo, in-distribution ones first."""
    return [image.path for image in demo_images()][::9]


@pytest.fixture(scope="session")
def lexicon_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty words of seven lexicographer files."""
    rows = [
        f"{word}\t{lexname}\t{lexname.partition('.')[0]}"
        for lexname, words in WORDS.items()
        for word in words.split()
    ]
    file = tmp_path_factory.mktemp("lexicon") / "small.tsv"
    file.write_text("\n".join(["word\tlexname\tpos", *rows]) + "\n", encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def small_lexicon(lexicon_file: Path) -> Lexicon:
    """The sixty words."""
    return Lexicon.from_tsv(lexicon_file)


@pytest.fixture(scope="session")
def detectors(builtin_encoder: CLIPEncoder, small_lexicon: Lexicon) -> dict[str, Detector]:
    """One fitted detector for each method without special weights; do not change them."""
    mining: dict[str, Any] = {
        "lexicon": small_lexicon,
        "lexicon_files": "full",
        "top_fraction": 0.8,
        "n_groups": 4,
    }
    unfitted = [
        MCM(builtin_encoder),
        NegLabel(builtin_encoder, **mining),
        CSP(builtin_encoder, **mining),
        NegRefine(builtin_encoder, judge=LetterJudge(), n_candidates=3, **mining),
    ]
    return {detector.method: detector.fit(CLASS_NAMES) for detector in unfitted}


CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tokenizer(directory: Path, *, chat_template: str | None = CHAT_TEMPLATE) -> int:
    """Write a byte-level tokenizer that knows Yes and No; return its number of tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = ["Yes No yes no YES NO Is it a proper noun, a subcatgeory of", *WORDS.values()]
    # At the start of a text a word is another token than after a space.
    answers = ["Yes", "No", "yes", "no", "YES", "NO", "Yes No yes no YES NO"]
    tokenizer.train_from_iterator([*texts * 3, *answers * 50], trainer)
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    wrapped.chat_template = chat_template
    wrapped.save_pretrained(directory)
    return len(tokenizer.get_vocab())


@pytest.fixture(scope="session")
def tiny_llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A causal language model of Qwen2's architecture that says yes or no at random."""
    directory = tmp_path_factory.mktemp("models") / "tiny-qwen2"
    n_tokens = write_tokenizer(directory)
    config = Qwen2Config(
        vocab_size=n_tokens,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        eos_token_id=2,
        pad_token_id=0,
        bos_token_id=None,
        initializer_range=0.3,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config)
    tokenizer = AutoTokenizer.from_pretrained(directory)
    yes, no = (tokenizer.encode(word, add_special_tokens=False)[0] for word in ("Yes", "No"))
    with torch.no_grad():
        direction = 10_000 * model.lm_head.weight[yes]
        model.lm_head.weight.zero_()
        # Whatever was read, one of them is far above zero, where all other words are.
        model.lm_head.weight[yes], model.lm_head.weight[no] = direction, -direction
    model.save_pretrained(directory)
    return directory


class OwnEncoder:
    """Maps images and texts to eight numbers each; knows nothing of `CLIPEncoder`."""

    name, fingerprint, logit_scale = "own", "0" * 64, 10.0
    options: dict[str, Any] = {}  # noqa: RUF012 - read only

    def encode_images(self, images: Sequence[Any], batch_size: int = 64) -> np.ndarray:  # noqa: ARG002
        pixels = [np.asarray(read_image(image).resize((4, 2)).convert("L")) for image in images]
        return np.array(pixels, dtype=np.float32).reshape(-1, 8) / 255 - 0.5

    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:  # noqa: ARG002
        seeds = [sum(text.encode()) for text in texts]
        rows = [np.random.default_rng(seed).normal(size=8) for seed in seeds]
        return np.array(rows, dtype=np.float32).reshape(-1, 8)


@pytest.fixture
def own_encoder() -> OwnEncoder:
    return OwnEncoder()


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each set of the demo, the animals in folders of their class."""
    root = tmp_path_factory.mktemp("images")
    counts: dict[str, int] = {}
    for picture in demo_images():
        counts[picture.set_name] = counts.get(picture.set_name, 0) + 1
        if counts[picture.set_name] > 16 or picture.set_name in ("objects", "plants"):
            continue
        target = root / picture.set_name / (picture.class_name or "") / picture.path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture.path, target)
    (root / "animals" / "broken.png").write_bytes(b"nothing")
    (root / "classes.txt").write_text("\n".join(demo_class_names()), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def fit(builtin_encoder: CLIPEncoder, small_lexicon: Lexicon) -> Callable[..., dict[str, Detector]]:
    """Returns detectors fitted on the demo's class names, by the names of their methods."""

    def fit(*methods: str, **parameters: Any) -> dict[str, Detector]:
        mining = {"lexicon": small_lexicon, "lexicon_files": "full", "n_groups": 5, **parameters}
        classes = {cls.method: cls for cls in (MCM, GLMCM, NegLabel, CSP, NegRefine)}
        return {
            method: classes[method](
                builtin_encoder, **({} if method.endswith("mcm") else mining)
            ).fit(demo_class_names())
            for method in methods
        }

    return fit


@pytest.fixture(scope="session")
def run(folders: Path, fit: Callable[..., dict[str, Detector]]) -> Callable[..., Evaluation]:
    """Evaluates methods, or detectors, on the animals against food and vehicles."""

    def run(
        out: Path,
        detectors: Sequence[str] | dict[str, Detector] = ("mcm",),
        *,
        root: Path = folders,
        with_ablation: bool = False,
        **options: Any,
    ) -> Evaluation:
        if not isinstance(detectors, dict):
            detectors = fit(*detectors)
        if with_ablation:
            refine = detectors["negrefine"]
            assert isinstance(refine, NegRefine)
            options["ablation"] = ablation_of(refine)
        return evaluate(
            detectors,
            find_image_set("animals", root / "animals", demo_class_names()),
            [find_image_set(name, root / name) for name in ("food", "vehicles")],
            out=out,
            **{"n_bootstrap": 20, **options},
        )

    return run


@pytest.fixture(scope="session")
def setup(golden_dir: Path, golden: dict[str, Any], tiny_encoder: CLIPEncoder) -> dict[str, Any]:
    """What the reference outputs were made of, with the features of its images."""
    files = [golden_dir / "images" / image["file"] for image in golden["images"]]
    return {
        "encoder": tiny_encoder,
        "class_names": golden["classes"],
        "features": tiny_encoder.encode_images(files),
        "lexicon": Lexicon.from_tsv(golden_dir / "lexicon.tsv"),
    }


def fitted(setup: dict[str, Any], **parameters: Any) -> NegRefine:
    """Return NegRefine fitted on the setup."""
    detector = NegRefine(setup["encoder"], lexicon=setup["lexicon"], **parameters)
    return detector.fit(setup["class_names"])
