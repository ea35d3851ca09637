"""The encoder of photographs: what it knows, and that every part of the library works with it."""

from __future__ import annotations

import json
import pickle
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

import negrefine.encoders
from negrefine import NegRefine, load_detector, load_encoder
from negrefine.benchmarks.bundled import demo_images
from negrefine.detectors import DETECTORS
from negrefine.encoders.clip import CLIPEncoder
from negrefine.encoders.photo import PhotoEncoder
from negrefine.errors import EncoderError, InputError
from negrefine.labels.embedding import normalise
from negrefine.labels.lexicon import Lexicon
from negrefine.metrics import auroc

MODEL = Path(negrefine.encoders.__path__[0]) / "builtin_photo" / "model"
NAMES = ["dress", "hat", "jacket", "long sleeve top", "pants", "shirt", "shoes", "shorts", "skirt"]
NAMES.append("t-shirt")
FOLDERS = {"long sleeve top": "longsleeve", "jacket": "outwear"}


@pytest.fixture(scope="module")
def encoder() -> CLIPEncoder:
    """The encoder."""
    return load_encoder("builtin-photo", device="cpu", cache=False)


@pytest.fixture(scope="module")
def drawings() -> list[Path]:
    """A few of the demo's drawings."""
    return [image.path for image in demo_images()][::70]


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the model directory, to be damaged."""
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


def test_files_are_few_and_plain() -> None:
    files = {path.name: path.read_bytes() for path in MODEL.iterdir()}
    assert set(files) == {
        *("config.json", "model.safetensors", "preprocessor_config.json"),
        *("tokenizer.json", "tokenizer_config.json"),
    }
    # In a wheel; the weights are rounded so that they compress.
    assert sum(len(zlib.compress(content, 1)) for content in files.values()) < 20e6
    assert {t.dtype for t in load_file(MODEL / "model.safetensors").values()} == {torch.float16}


def test_attributes(encoder: CLIPEncoder) -> None:
    assert isinstance(encoder, PhotoEncoder)
    assert (encoder.name, encoder.dim, encoder.n_patches) == ("builtin-photo", 384, 49)
    assert encoder.context_length == 32
    assert 1 < encoder.logit_scale < 100
    assert repr(encoder) == "PhotoEncoder('builtin-photo', dim=384, device='cpu')"


def test_two_loads_and_a_pickle_are_equal(encoder: CLIPEncoder, drawings: list[Path]) -> None:
    features = encoder.encode_images(drawings)
    texts = encoder.encode_texts(["cat", "a photo of a cat"])
    for other in (
        load_encoder("builtin-photo", device="cpu", cache=False),
        pickle.loads(pickle.dumps(encoder)),  # noqa: S301
    ):
        assert other.fingerprint == encoder.fingerprint
        assert np.array_equal(other.encode_images(drawings), features)
        assert np.array_equal(other.encode_texts(["cat", "a photo of a cat"]), texts)


def test_a_directory_gives_the_same_features(encoder: CLIPEncoder, drawings: list[Path]) -> None:
    other = load_encoder(MODEL, device="cpu", cache=False)
    assert other.fingerprint == encoder.fingerprint
    assert np.array_equal(other.encode_images(drawings), encoder.encode_images(drawings))


def test_batches_do_not_matter(encoder: CLIPEncoder, drawings: list[Path]) -> None:
    one = np.concatenate([encoder.encode_images([path]) for path in drawings])
    np.testing.assert_allclose(encoder.encode_images(drawings, batch_size=3), one, atol=2e-5)


def test_fused_convolutions_equal_the_plain_ones(encoder: CLIPEncoder) -> None:
    network = encoder._model.vision_model
    pixels = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    # Outside inference mode the operators that torch's compiler uses are not called.
    with torch.no_grad():
        plain = _plain_network(network, pixels)
        assert torch.equal(network(pixels), plain)
    with torch.inference_mode():
        features = encoder._model.project(network(pixels).mean(dim=(2, 3)))
        expected = encoder._model.project(plain.mean(dim=(2, 3)))
    np.testing.assert_allclose(features.numpy(), expected.numpy(), atol=1e-5)


def _plain_network(network: Any, x: torch.Tensor) -> torch.Tensor:
    """Return the feature map of EfficientNet-Lite as it is published: padding, filter, ReLU6."""

    def filtered(convolution: Any, x: torch.Tensor) -> torch.Tensor:
        stride, kernel = convolution.stride[0], convolution.kernel_size[0]
        before = (kernel - stride) // 2
        after = kernel - stride - before
        x = functional.pad(x, (before, after, before, after))
        weights = convolution.weight, convolution.bias
        return functional.relu6(
            functional.conv2d(x, *weights, stride=stride, groups=convolution.groups)
        )

    x = filtered(network.stem, x)
    for block in network.blocks:
        hidden = x if block.widen is None else filtered(block.widen, x)
        narrow = functional.conv2d(
            filtered(block.filter, hidden), block.narrow.weight, block.narrow.bias
        )
        x = x + narrow if block.adds_input else narrow
    return filtered(network.last, x)


def test_shared_prefixes_equal_the_plain_tower(encoder: CLIPEncoder) -> None:
    words = ["dog", "grand piano", "daisy", "rusty", "sea", "ambulance", "zebra", "teapot"] * 5
    texts = [f"a photo of the nice {word} and {i}." for i, word in enumerate(words)] + words[:3]
    config = json.loads((MODEL / "config.json").read_text())
    n = config["text_config"]["vocab_size"]
    plain = CLIPTextModelWithProjection(
        CLIPTextConfig(
            **config["text_config"],
            projection_dim=config["projection_dim"],
            bos_token_id=n - 2,
            eos_token_id=n - 1,
            pad_token_id=n - 1,
        )
    ).eval()
    tensors = {k: t.float() for k, t in load_file(MODEL / "model.safetensors").items()}
    plain.load_state_dict({k: t for k, t in tensors.items() if k.startswith("text_")})
    with torch.inference_mode():
        rows = [plain(torch.tensor(encoder._tokenizer([text]))).text_embeds for text in texts]
    np.testing.assert_allclose(encoder.encode_texts(texts), torch.cat(rows).numpy(), atol=2e-5)


def test_the_image_is_the_mean_of_its_positions(encoder: CLIPEncoder, drawings: list[Path]) -> None:
    """A picture of one colour looks the same in the middle as everywhere, so its patches do."""
    flat = Image.new("RGB", (224, 224), (90, 120, 150))
    features, patches = encoder.encode_images_and_patches([flat, *drawings])
    np.testing.assert_allclose(features, encoder.encode_images([flat, *drawings]), atol=2e-5)
    assert patches.shape == (1 + len(drawings), 49, 384)
    grid = normalise(patches[0]).reshape(7, 7, 384)
    assert (grid[3, 3] @ grid[3, 4]) > 0.95


def test_words_mean_something(encoder: CLIPEncoder) -> None:
    words = ["puppy", "kitten", "lorry", "aeroplane", "loaf", "daisy", "violin", "ocean"]
    nearest = ["dog", "cat", "truck", "airplane", "bread", "flower", "guitar", "sea"]
    left, right = (normalise(encoder.encode_texts(texts)) for texts in (words, nearest))
    assert (left @ right.T).argmax(1).tolist() == list(range(len(words)))


def test_a_name_in_a_prompt_is_near_the_name(encoder: CLIPEncoder) -> None:
    names = ["tabby cat", "fire truck", "daisy", "church", "golf ball"]
    bare = normalise(encoder.encode_texts(names))
    for template in ("a photo of a {}", "a close-up photo of the nice {}.", "This is a {} photo"):
        other = normalise(encoder.encode_texts([template.format(name) for name in names]))
        assert (bare * other).sum(1).min() > 0.9
    pair = normalise(encoder.encode_texts(["a photo of the nice daisy and church."]))[0]
    assert sorted(np.argsort(bare @ pair)[-2:].tolist()) == [2, 3]


def test_it_knows_clothes_on_photographs(encoder: CLIPEncoder, shared: Path) -> None:
    folder = shared / "photos" / "clothing"
    if not folder.is_dir():
        pytest.skip("no photographs beside the checkout")
    chosen = [(p, i) for i, n in enumerate(NAMES) for p in _some(folder / FOLDERS.get(n, n))]
    features = encoder.encode_images([path for path, _ in chosen])
    texts = normalise(encoder.encode_texts([f"a photo of a {name}" for name in NAMES]))
    labels = np.array([label for _, label in chosen])
    accuracy = ((features @ texts.T).argmax(1) == labels).mean()
    assert accuracy > 0.38
    detector = DETECTORS["mcm"](encoder).fit(NAMES)
    animals = encoder.encode_images([image.path for image in demo_images()][::12])
    assert auroc(detector.score_features(features), detector.score_features(animals)) > 0.6


def _some(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jpg"))[:12]


@pytest.mark.parametrize(
    "method", [m for m, cls in DETECTORS.items() if not (cls.uses_no_texts or cls.uses_logit_bias)]
)
def test_every_method_fits_and_scores(
    encoder: CLIPEncoder, method: str, lexicon_file: Path, drawings: list[Path]
) -> None:
    options: dict[str, Any] = {}
    if method in {"eoe", "neglabel", "csp", "negrefine"}:
        options = {"lexicon": Lexicon.from_tsv(lexicon_file), "lexicon_files": "full"}
    if method in {"neglabel", "csp", "negrefine"}:
        options["n_groups"] = 2
    scores = (
        DETECTORS[method](encoder, **options).fit(["dog", "cat", "church"]).score_samples(drawings)
    )
    assert scores.shape == (len(drawings),)
    assert np.isfinite(scores).all()
    assert len(set(scores.tolist())) == len(drawings)


def test_clipn_says_what_it_needs(encoder: CLIPEncoder) -> None:
    with pytest.raises(InputError, match="no 'no' text tower"):
        DETECTORS["clipn"](encoder).fit(["dog", "cat"])


def test_a_saved_detector_scores_the_same(
    encoder: CLIPEncoder, lexicon_file: Path, drawings: list[Path], tmp_path: Path
) -> None:
    lexicon = Lexicon.from_tsv(lexicon_file)
    detector = NegRefine(encoder, lexicon=lexicon, lexicon_files="full", n_groups=2)
    detector.fit(["dog", "church"])
    detector.save(tmp_path / "saved")
    loaded = load_detector(tmp_path / "saved", device="cpu")
    assert isinstance(loaded.encoder, PhotoEncoder)
    assert np.array_equal(loaded.score_samples(drawings), detector.score_samples(drawings))


def _change(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["vision_config"].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_change(stages=7), "needs projection_dim"),
        (_change(stages=[{"width": 16}]), "needs projection_dim"),
        (_change(head_size=0), "needs projection_dim"),
        (_change(image_size=230), "no multiple of 32"),
        (_change(head_size=191), "do not belong together"),
        (_change(image_size=256), "correct crop_size"),
        (lambda config: config.update(model_type="negrefine-video"), "negrefine-video"),
        (lambda config: config.update(text_config=None), "needs projection_dim"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(
    copied: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    config = json.loads((copied / "config.json").read_text())
    change(config)
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match=message) as caught:
        load_encoder(copied, device="cpu")
    assert "\n" not in str(caught.value)


def test_weights_of_another_model_are_refused(copied: Path) -> None:
    tensors = load_file(copied / "model.safetensors")
    del tensors["visual_mixture"]
    save_file(tensors, copied / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match="do not belong together"):
        load_encoder(copied, device="cpu")


def test_other_spellings_are_understood() -> None:
    for name in ("builtin_photo", "Builtin Photo", "builtinphoto"):
        with pytest.raises(EncoderError, match="did you mean 'builtin-photo'"):
            load_encoder(name)
