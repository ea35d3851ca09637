"""Models that are not CLIP's, against the forward pass and processors of `transformers`."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer
from transformers.models.auto.image_processing_auto import get_image_processor_class_from_name

from encoders import family_models
from encoders.family_models import CORPUS, SIDE
from negrefine import load_encoder
from negrefine.encoders import CLIPEncoder
from negrefine.encoders.dual import DualEncoder
from negrefine.encoders.preprocessing import Preprocessing
from negrefine.encoders.tokenizer_reading import canonical
from negrefine.errors import EncoderError, InputError

FAMILIES = [kind for kind in family_models.BUILDERS if kind != "naflex"]
MASKED = [kind for kind in FAMILIES if not kind.startswith("siglip")]
WITH_PATCHES = ("chinese_clip", "altclip", "metaclip_2", "clipseg")
TEXTS = [*CORPUS, "a", "", "cat " * 3, "  two   spaces ", "a-b_c, d!", "É naïve 犬"]
# What is cropped is even: an odd pixel is cut on the other side by torchvision, as here, than by
# the processors that work without it.
SIZES = [(32, 32), (56, 33), (33, 91), (7, 40), (200, 31)]


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(3)
    return [
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in SIZES
    ]


@torch.inference_mode()
def own_texts(folder: Path, kind: str, texts: list[str], length: int) -> np.ndarray:
    """Return the text features of the family's own model and tokenizer, one text at a time."""
    model = AutoModel.from_pretrained(folder).eval()
    lower = str.lower if kind == "siglip2" else str
    if kind == "siglip":
        # The class of its tokenizer reads sentencepiece.
        tokenizer: Any = family_models.fast_tokenizer(folder)
        tokenizer.pad_token, lower = "</s>", canonical
    else:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = []
    for text in texts:
        full = kind.startswith("siglip")
        given = tokenizer(
            lower(text),
            padding="max_length" if full else False,
            max_length=length,
            truncation=True,
            return_tensors="pt",
        )
        mask = {} if full else {"attention_mask": given["attention_mask"]}
        rows.append(model.get_text_features(given["input_ids"], **mask).pooler_output[0].numpy())
    return np.stack(rows)


@pytest.mark.parametrize("kind", FAMILIES)
def test_texts_of_all_lengths_have_the_features_of_the_familys_own_code(
    kind: str, model_dir: Callable[[str], Path], encoder_of: Callable[[str], CLIPEncoder]
) -> None:
    encoder = load_encoder(model_dir(kind), device="cpu", cache=False, truncate=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        features = encoder.encode_texts(TEXTS, batch_size=5)
        expected = own_texts(model_dir(kind), kind, TEXTS, encoder.context_length)
    assert len({len(row) for row in encoder._tokenizer(TEXTS)}) > 5
    np.testing.assert_allclose(features, expected, atol=1e-5, rtol=1e-5)
    assert np.abs(features - features[0]).max() > 0.05
    assert encoder_of(kind).dim == features.shape[1]


@pytest.mark.parametrize("kind", FAMILIES)
def test_images_of_odd_sizes_have_the_features_of_the_familys_own_code(
    kind: str, model_dir: Callable[[str], Path], encoder_of: Callable[[str], CLIPEncoder]
) -> None:
    config = json.loads((model_dir(kind) / "preprocessor_config.json").read_text())
    own: Any = get_image_processor_class_from_name(f"{config.pop('image_processor_type')}Pil")
    pixels = own(**config)(pictures(), return_tensors="pt")["pixel_values"]
    encoder = encoder_of(kind)
    ours = np.stack([encoder.preprocessing(picture) for picture in pictures()])
    np.testing.assert_allclose(ours, pixels.numpy(), atol=2e-6)
    with torch.inference_mode():
        model = AutoModel.from_pretrained(model_dir(kind)).eval()
        expected = model.get_image_features(pixel_values=pixels).pooler_output.numpy()
    features = encoder.encode_images(pictures(), batch_size=2)
    np.testing.assert_allclose(features, expected, atol=1e-5, rtol=1e-5)
    assert np.abs(features - features[0]).max() > 0.05
    served, _ = encoder.encode_pixels(list(ours))
    np.testing.assert_allclose(served, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["ViT", "DeiT", "Bit", "Blip", "EfficientNet", "Siglip"])
def test_defaults_of_processors_are_those_of_transformers(kind: str) -> None:
    own: Any = get_image_processor_class_from_name(f"{kind}ImageProcessorPil")
    picture = pictures()[1]
    expected = own()(picture, return_tensors="np")["pixel_values"][0]
    ours = Preprocessing.from_config({"image_processor_type": f"{kind}ImageProcessor"})(picture)
    np.testing.assert_allclose(ours, expected, atol=3e-6)


def test_the_offset_of_efficientnet_is_part_of_the_normalisation() -> None:
    settings = {"rescale_offset": True, "rescale_factor": 1 / 127.5, "size": 40}
    own: Any = get_image_processor_class_from_name("EfficientNetImageProcessorPil")
    expected = own(**settings)(pictures()[0], return_tensors="np")["pixel_values"][0]
    ours = Preprocessing.from_config(
        {"image_processor_type": "EfficientNetImageProcessor"} | settings
    )
    np.testing.assert_allclose(ours(pictures()[0]), expected, atol=3e-6)


def test_the_scale_of_cosines_is_the_models(
    encoder_of: Callable[[str], CLIPEncoder], model_dir: Callable[[str], Path]
) -> None:
    assert encoder_of("siglip").logit_scale == pytest.approx(np.exp(2.5))
    assert encoder_of("siglip").logit_bias == pytest.approx(-3)
    assert encoder_of("chinese_clip").logit_bias is None
    # ALIGN divides by a temperature.
    assert encoder_of("align").logit_scale == pytest.approx(20)
    model = AutoModel.from_pretrained(model_dir("siglip")).eval()
    encoder = encoder_of("siglip")
    with torch.inference_mode():
        ids = torch.tensor([[*row, *[1] * (40 - len(row))] for row in encoder._tokenizer(["cat"])])
        pixels = torch.from_numpy(encoder.preprocessing(pictures()[0]))[None]
        logit = float(model(input_ids=ids, pixel_values=pixels).logits_per_image)
    image, text = encoder.encode_images(pictures()[:1])[0], encoder.encode_texts(["cat"])[0]
    cosine = image @ text / np.linalg.norm(image) / np.linalg.norm(text)
    assert logit == pytest.approx(encoder.logit_scale * cosine + encoder.logit_bias, abs=1e-4)


@pytest.mark.parametrize("kind", ["siglip", "siglip2"])
def test_no_prefix_is_shared_where_a_later_token_changes_earlier_ones(
    kind: str, encoder_of: Callable[[str], CLIPEncoder], model_dir: Callable[[str], Path]
) -> None:
    encoder = encoder_of(kind)
    # More texts than prefixes are shared for, that begin alike.
    texts = [f"a photo {word}" for word in ("a", "cat", "dog", "of", "fish") for _ in range(1)]
    texts = [f"{text} {end}" for text in texts for end in "abcdefgh"]
    together = encoder.encode_texts(texts)
    alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    towers = AutoModel.from_pretrained(model_dir(kind)).eval().text_model
    (first, second) = encoder._tokenizer(["a photo cat", "a photo dog"])
    with torch.inference_mode():
        hidden = [towers(torch.tensor([row])).last_hidden_state[0, 0] for row in (first, second)]
    assert first[0] == second[0]
    assert float((hidden[0] - hidden[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("kind", MASKED)
def test_features_do_not_depend_on_the_batch(
    kind: str, encoder_of: Callable[[str], CLIPEncoder]
) -> None:
    encoder = encoder_of(kind)
    texts = ["a", "a photo of a cat", "red apple pie a photo", "a photo of the nice dog"]
    alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode_texts(texts[::-1])[::-1], alone, atol=1e-5)


def test_texts_are_in_lower_case_where_the_tokenizer_says_so(
    encoder_of: Callable[[str], CLIPEncoder], model_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    for kind in ("siglip", "siglip2"):
        upper, lower = encoder_of(kind).encode_texts(["German SHEPHERD", "german shepherd"])
        np.testing.assert_allclose(upper, lower, atol=1e-6)
    shutil.copytree(model_dir("siglip2"), tmp_path / "model")
    file = tmp_path / "model" / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    file.write_text(json.dumps({**settings, "do_lower_case": False}))
    encoder = load_encoder(tmp_path / "model", device="cpu", cache=False)
    upper, lower = encoder.encode_texts(["German SHEPHERD", "german shepherd"])
    assert np.abs(upper - lower).max() > 1e-3
    assert encoder.fingerprint != encoder_of("siglip2").fingerprint


def test_siglips_tokens_are_those_of_its_sentencepiece_tokenizer(tmp_path: Path) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    pytest.importorskip("google.protobuf")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import SiglipTokenizer

    from negrefine.encoders.tokenizer_reading import read_tokenizer

    (tmp_path / "corpus.txt").write_text("\n".join(map(canonical, CORPUS * 4)), encoding="utf-8")
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.txt"),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=98,
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    own = SiglipTokenizer(str(tmp_path / "spiece.model"))
    pieces = [(own.sp_model.IdToPiece(i), own.sp_model.GetScore(i)) for i in range(98)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    own.save_pretrained(tmp_path)
    found, clean, settings = read_tokenizer(tmp_path, {"model_type": "siglip"}, "name")
    assert (settings["model_max_length"], settings["pad_token_id"]) == (64, 1)
    for text in [text for text in TEXTS if canonical(text)]:
        assert found.encode(clean(text)).ids == own(text.strip())["input_ids"], text


@pytest.mark.parametrize("kind", FAMILIES)
def test_patches_are_there_where_the_image_tower_is_clips(
    kind: str, encoder_of: Callable[[str], CLIPEncoder]
) -> None:
    encoder = encoder_of(kind)
    if kind not in WITH_PATCHES:
        assert encoder.n_patches == 0
        with pytest.raises(EncoderError, match="gives no patch features: its image tower is not"):
            encoder.encode_images_and_patches(pictures())
        return
    features, patches = encoder.encode_images_and_patches(pictures())
    assert patches.shape == (5, 16, encoder.dim)
    np.testing.assert_array_equal(features, encoder.encode_images(pictures()))
    assert np.abs(patches - patches[:, :1]).max() > 0.05


@pytest.mark.parametrize("kind", ["siglip", "altclip", "metaclip_2"])
def test_shards_and_half_precision_are_read(
    kind: str,
    encoder_of: Callable[[str], CLIPEncoder],
    model_dir: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_dir(kind), folder)
    (folder / "model.safetensors").unlink()
    model = AutoModel.from_pretrained(model_dir(kind)).half()
    model.save_pretrained(folder, max_shard_size="30kB")
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    loaded = load_encoder(folder, device="cpu", cache=False)
    assert loaded.dtype == torch.float32
    expected = encoder_of(kind).encode_images(pictures())
    np.testing.assert_allclose(loaded.encode_images(pictures()), expected, atol=0.05)
    texts = encoder_of(kind).encode_texts(CORPUS[:2])
    np.testing.assert_allclose(loaded.encode_texts(CORPUS[:2]), texts, atol=0.05)
    small = load_encoder(folder, device="cpu", cache=False, dtype="bfloat16")
    assert small.dtype == torch.bfloat16
    np.testing.assert_allclose(small.encode_texts(CORPUS[:2]), texts, atol=0.5)


@pytest.mark.parametrize("kind", ["siglip", "chinese_clip", "metaclip_2"])
def test_counted_positions_of_older_checkpoints_are_passed_over(
    kind: str,
    encoder_of: Callable[[str], CLIPEncoder],
    model_dir: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_dir(kind), folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    for tower in ("text_model", "vision_model"):
        tensors[f"{tower}.embeddings.position_ids"] = torch.arange(17)[None]
    save_file(tensors, file, metadata={"format": "pt"})
    encoder = load_encoder(folder, device="cpu", cache=False)
    np.testing.assert_allclose(
        encoder.encode_texts(CORPUS[:2]), encoder_of(kind).encode_texts(CORPUS[:2]), atol=1e-5
    )


@pytest.mark.parametrize(
    ("kind", "missing", "said"),
    [
        ("siglip", "preprocessor_config.json", "holds no preprocessor_config.json"),
        ("siglip", "tokenizer.json", "holds no tokenizer.json"),
        ("altclip", "tokenizer.json", "holds no tokenizer.json"),
        ("chinese_clip", "vocab.txt", "holds no tokenizer.json"),
        ("dual", "model.safetensors", "holds no safetensors weights"),
    ],
)
def test_a_missing_file_is_named(
    kind: str, missing: str, said: str, model_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_dir(kind), folder)
    (folder / missing).unlink()
    with pytest.raises(EncoderError, match=said):
        load_encoder(folder, device="cpu", cache=False)


def test_what_cannot_be_loaded_is_refused_in_a_sentence(
    model_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(EncoderError, match="is a NaFlex model"):
        load_encoder(model_dir("naflex"), device="cpu")
    folder = tmp_path / "model"
    shutil.copytree(model_dir("siglip"), folder)
    (folder / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    (folder / "spiece.model").write_bytes(b"\n")
    with pytest.raises(EncoderError, match=r"sentencepiece file \(spiece.model\) alone"):
        load_encoder(folder, device="cpu")
    (tmp_path / "tokenizer.json").rename(folder / "tokenizer.json")
    family_models.processor(folder, "Siglip", size=40)
    with pytest.raises(EncoderError, match=r"come out as \(40, 40\) and the model does not take"):
        load_encoder(folder, device="cpu")
    family_models.processor(folder, "CLIP", size=SIDE, do_center_crop=False)
    with pytest.raises(EncoderError, match="come out in different sizes"):
        load_encoder(folder, device="cpu")
    config = json.loads((folder / "config.json").read_text())
    for change, said in (
        ({"model_type": "bert"}, "no features of images and texts in one space"),
        ({"model_type": "never-heard-of"}, "holds a 'never-heard-of' model"),
        ({"text_config": {**config["text_config"], "num_attention_heads": 3}}, "is unusable"),
        ({"text_config": {**config["text_config"], "vocab_size": 90}}, "do not belong together"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(EncoderError, match=said):
            load_encoder(folder, device="cpu")


def test_sizes_that_no_weights_back_are_refused_before_they_take_memory(
    model_dir: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(model_dir("dual"), folder)
    config = json.loads((folder / "config.json").read_text())
    # 256 GB of vectors, in a field that only BERT's kind has.
    config["text_config"]["type_vocab_size"] = 2 * 10**9
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(EncoderError, match="the configuration asks for 64,0"):
        load_encoder(folder, device="cpu", cache=False)


def test_a_long_text_is_cut_with_one_warning_or_refused(
    encoder_of: Callable[[str], CLIPEncoder], model_dir: Callable[[str], Path]
) -> None:
    encoder = load_encoder(model_dir("siglip2"), device="cpu", cache=False)
    long = "q x z j " * 20
    with pytest.warns(UserWarning, match="and the encoder reads at most 40: it and other") as seen:
        encoder.encode_texts([long, long + "a"])
    assert len(seen) == 1
    # The end token stays.
    assert encoder._tokenizer([long])[0][-1] == encoder._tokenizer(["a"])[0][-1]
    strict = load_encoder(model_dir("siglip2"), device="cpu", cache=False, truncate=False)
    with pytest.raises(InputError, match="reads at most 40: shorten it"):
        strict.encode_texts([long])
    assert isinstance(encoder_of("siglip2"), DualEncoder)
