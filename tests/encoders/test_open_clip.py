"""Models in open_clip's layout, against its forward pass and transforms written down here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from torch.nn import functional

from encoders import family_models
from negrefine import GLMCM, load_detector, load_encoder
from negrefine.encoders import CLIPEncoder
from negrefine.encoders.names import resolved
from negrefine.errors import EncoderError

State = dict[str, torch.Tensor]
SIDE, PATCH, DIM = 40, 8, 20
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
# Heads of 12 and of 10, and neither tower as wide as the other.
VISION = {"layers": 2, "width": 48, "head_width": 12, "patch_size": PATCH, "image_size": SIDE}
TEXT = {"context_length": 24, "width": 30, "heads": 3, "layers": 3}
TEXTS = ["a", "", "a photo of a cat", "A photo of the NICE dog!", "猫 & cat", "cat " * 9]


def weights(config: dict[str, Any], prefix: str) -> State:
    """Return random tensors of a model under open_clip's names."""
    generator = torch.Generator().manual_seed(1)
    vision, text = config["vision_cfg"], config["text_cfg"]

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator) * (0.8 / shape[-1] ** 0.5)

    def norm(name: str, width: int) -> State:
        return {f"{name}.weight": 1 + 0.2 * random(width), f"{name}.bias": random(width)}

    def blocks(name: str, fields: dict[str, Any]) -> State:
        state: State = {}
        width = fields["width"]
        inner = int(width * fields.get("mlp_ratio", 4.0))
        for i in range(fields["layers"]):
            block = f"{name}.resblocks.{i}"
            state |= norm(f"{block}.ln_1", width) | norm(f"{block}.ln_2", width)
            state[f"{block}.attn.in_proj_weight"] = random(3 * width, width)
            state[f"{block}.attn.in_proj_bias"] = random(3 * width)
            for part, shape in (
                ("attn.out_proj", (width, width)),
                ("mlp.c_fc", (inner, width)),
                ("mlp.c_proj", (width, inner)),
            ):
                state[f"{block}.{part}.weight"] = random(*shape)
                state[f"{block}.{part}.bias"] = random(shape[0])
        return state

    n_patches = (SIDE // PATCH) ** 2
    state = {
        "visual.conv1.weight": random(vision["width"], 3, PATCH, PATCH) / 6,
        "visual.class_embedding": random(vision["width"]),
        "visual.positional_embedding": random(n_patches + 1, vision["width"]),
        "visual.proj": random(vision["width"], DIM),
        **norm("visual.ln_pre", vision["width"]),
        **norm("visual.ln_post", vision["width"]),
        **blocks("visual.transformer", vision),
        "logit_scale": torch.tensor(4.0),
    }
    tower = {
        "token_embedding.weight": random(text["vocab_size"], text["width"]) * 4,
        "positional_embedding": random(text["context_length"], text["width"]),
        "text_projection": random(text["width"], DIM),
        **norm("ln_final", text["width"]),
        **blocks("transformer", text),
    }
    return state | {prefix + name: tensor for name, tensor in tower.items()}


def save(folder: Path, prefix: str = "", preprocess: Any = None, **changes: Any) -> dict[str, Any]:
    """Write a model in open_clip's layout; return its model_cfg."""
    folder.mkdir()
    n_tokens = family_models.clip_tokenizer(folder)
    config = {
        "embed_dim": DIM,
        "vision_cfg": {**VISION, **changes.pop("vision", {})},
        "text_cfg": {**TEXT, "vocab_size": n_tokens, **changes.pop("text", {})},
        **changes,
    }
    content = {"model_cfg": config, "preprocess_cfg": preprocess or {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    save_file(weights(config, prefix), folder / "open_clip_model.safetensors")
    return config


def rendering(folder: Path, config: dict[str, Any]) -> tuple[Any, Any]:
    """Return open_clip's forward passes: of pixels, and of padded token ids."""
    state = load_file(folder / "open_clip_model.safetensors")
    state = {name.removeprefix("text."): tensor for name, tensor in state.items()}

    def gelu(x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x) if config.get("quick_gelu") else functional.gelu(x)

    def norm(x: torch.Tensor, name: str, eps: float = 1e-5) -> torch.Tensor:
        width = x.shape[-1:]
        return functional.layer_norm(x, width, state[f"{name}.weight"], state[f"{name}.bias"], eps)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def blocks(x: torch.Tensor, name: str, heads: int, mask: Any, eps: float) -> torch.Tensor:
        depth = (
            max(
                int(key.split(".")[-3 if "attn.in" in key else -4])
                for key in state
                if key.startswith(name) and "attn.in_proj_weight" in key
            )
            + 1
        )
        for i in range(depth):
            block = f"{name}.resblocks.{i}"
            y = norm(x, f"{block}.ln_1", eps).transpose(0, 1)
            mixed, _ = functional.multi_head_attention_forward(
                *(y, y, y, y.shape[-1], heads),
                *(state[f"{block}.attn.in_proj_weight"], state[f"{block}.attn.in_proj_bias"]),
                *(None, None, False, 0.0),
                state[f"{block}.attn.out_proj.weight"],
                state[f"{block}.attn.out_proj.bias"],
                training=False,
                need_weights=False,
                attn_mask=mask,
            )
            x = x + mixed.transpose(0, 1)
            hidden = gelu(linear(norm(x, f"{block}.ln_2", eps), f"{block}.mlp.c_fc"))
            x = x + linear(hidden, f"{block}.mlp.c_proj")
        return x

    vision, text = config["vision_cfg"], config["text_cfg"]

    def images(pixels: torch.Tensor) -> torch.Tensor:
        eps = vision.get("norm_kwargs", {}).get("eps", 1e-5)
        x = functional.conv2d(pixels, state["visual.conv1.weight"], stride=PATCH)
        x = x.flatten(2).transpose(1, 2)
        first = state["visual.class_embedding"].expand(len(x), 1, -1)
        x = torch.cat([first, x], dim=1) + state["visual.positional_embedding"]
        heads = vision["width"] // vision["head_width"]
        x = blocks(norm(x, "visual.ln_pre", eps), "visual.transformer", heads, None, eps)
        return norm(x[:, 0], "visual.ln_post", eps) @ state["visual.proj"]

    def texts(ids: torch.Tensor) -> torch.Tensor:
        eps = text.get("norm_kwargs", {}).get("eps", 1e-5)
        x = state["token_embedding.weight"][ids] + state["positional_embedding"]
        mask = torch.full((ids.shape[1],) * 2, float("-inf")).triu(1)
        x = norm(blocks(x, "transformer", text["heads"], mask, eps), "ln_final", eps)
        return x[torch.arange(len(x)), ids.argmax(dim=-1)] @ state["text_projection"]

    return images, texts


def pictures() -> list[Image.Image]:
    random = np.random.default_rng(3)
    return [
        Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        for width, height in [(40, 40), (57, 33), (33, 90), (7, 41), (200, 31)]
    ]


MODELS: dict[str, dict[str, Any]] = {
    "standard": {},
    "quickgelu": {"quick_gelu": True, "prefix": "text.", "custom_text": True},
    "custom": {
        "vision": {"mlp_ratio": 3.3334, "norm_kwargs": {"eps": 1e-6}, "patch_dropout": 0.5},
        "text": {"norm_kwargs": {"eps": 1e-3}, "context_length": 19, "mlp_ratio": 2.0},
        "init_logit_bias": -10,
    },
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, dict[str, Any]]]:
    root = tmp_path_factory.mktemp("open-clip")
    return {name: (root / name, save(root / name, **MODELS[name])) for name in MODELS}


def padded(encoder: CLIPEncoder) -> torch.Tensor:
    ids = encoder._tokenizer(TEXTS)
    return torch.tensor([row + [0] * (encoder.context_length - len(row)) for row in ids])


@pytest.mark.parametrize("name", MODELS)
def test_features_are_those_of_open_clips_forward_pass(
    name: str, saved: dict[str, tuple[Path, dict[str, Any]]]
) -> None:
    folder, config = saved[name]
    encoder = load_encoder(folder, device="cpu", cache=False, truncate=True)
    images, texts = rendering(folder, config)
    ids = padded(encoder)
    assert encoder.context_length == config["text_cfg"]["context_length"]
    with torch.inference_mode():
        # More texts with one prefix than prefixes are shared for.
        many = [f"a photo of a {end}" for end in "abcdefghijklmnopqrstuvwxyz0123456789"]
        rows = encoder._tokenizer(many)
        full = torch.tensor([row + [0] * (encoder.context_length - len(row)) for row in rows])
        expected, more = texts(ids).numpy(), texts(full).numpy()
        pixels = np.stack([encoder.preprocessing(picture) for picture in pictures()])
        expected_images = images(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected, atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(encoder.encode_texts(many), more, atol=1e-5, rtol=1e-5)
    found = encoder.encode_images(pictures())
    np.testing.assert_allclose(found, expected_images, atol=1e-5, rtol=1e-5)
    assert np.abs(found - found[0]).max() > 0.05
    assert np.abs(expected - expected[0]).max() > 0.05
    assert encoder.logit_scale == pytest.approx(np.exp(4))
    assert encoder.logit_bias is None


def square(picture: Image.Image, mode: str, fill: int) -> Image.Image:
    """Return what open_clip's transform shows of a picture."""
    width, height = picture.size
    if mode == "squash":
        return picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    ratio = (max if mode == "longest" else min)(width, height) / SIDE
    if mode == "longest":
        size = round(width / ratio), round(height / ratio)
    else:
        size = (
            (SIDE, int(SIDE * height / width))
            if width <= height
            else (int(SIDE * width / height), SIDE)
        )
    picture = picture.resize(size, Image.Resampling.BILINEAR)
    left, top = (max(0, SIDE - side) // 2 for side in picture.size)
    right, bottom = (max(0, SIDE - side + 1) // 2 for side in picture.size)
    picture = ImageOps.expand(picture, (left, top, right, bottom), (fill,) * 3)
    left, top = (round((side - SIDE) / 2.0) for side in picture.size)
    return picture.crop((left, top, left + SIDE, top + SIDE))


@pytest.mark.parametrize(
    ("mode", "fill"), [("shortest", 0), ("squash", 0), ("longest", 0), ("longest", 99)]
)
def test_pictures_are_prepared_as_by_open_clips_transform(
    mode: str, fill: int, tmp_path: Path
) -> None:
    preprocess = {
        "size": [SIDE, SIDE],
        "mode": "RGB",
        "mean": [0.5, 0.4, 0.3],
        "std": 0.25,
        "interpolation": "bilinear",
        "resize_mode": mode,
        "fill_color": fill,
    }
    save(tmp_path / "model", preprocess=preprocess)
    encoder = load_encoder(tmp_path / "model", device="cpu", cache=False)
    for picture in pictures():
        shown = np.asarray(square(picture, mode, fill), dtype=np.float32) / 255
        expected = (shown - np.array([0.5, 0.4, 0.3], np.float32)) / np.float32(0.25)
        np.testing.assert_allclose(
            encoder.preprocessing(picture), expected.transpose(2, 0, 1), atol=1e-6
        )
    assert ("fill" in encoder.preprocessing.as_dict()) == bool(fill)


def test_a_detector_with_patches_is_saved_and_loaded(
    saved: dict[str, tuple[Path, dict[str, Any]]], tmp_path: Path
) -> None:
    encoder = load_encoder(saved["standard"][0], device="cpu", cache=False)
    detector = GLMCM(encoder).fit(["cat", "dog", "fish"])
    scores = detector.score_samples(pictures())
    detector.save(tmp_path / "detector")
    np.testing.assert_allclose(
        load_detector(tmp_path / "detector").score_samples(pictures()), scores, atol=1e-9
    )
    assert len(set(scores.round(6))) == 5


def test_half_precision_a_bias_and_prefixes_of_training_are_read(
    saved: dict[str, tuple[Path, dict[str, Any]]], tmp_path: Path
) -> None:
    folder, _ = saved["standard"]
    shutil.copytree(folder, tmp_path / "model")
    state = load_file(folder / "open_clip_model.safetensors")
    state |= {"logit_bias": torch.tensor([-10.0]), "attn_mask": torch.zeros(24, 24)}
    state["logit_scale"] = state["logit_scale"].reshape(1)
    half = {f"module.{name}": tensor.half() for name, tensor in state.items()}
    save_file(half, tmp_path / "model" / "open_clip_model.safetensors")
    encoder = load_encoder(tmp_path / "model", device="cpu", cache=False)
    expected = load_encoder(folder, device="cpu", cache=False)
    assert encoder.logit_bias == -10
    assert encoder.fingerprint != expected.fingerprint
    np.testing.assert_allclose(
        encoder.encode_texts(["cat"]), expected.encode_texts(["cat"]), atol=0.02
    )


def test_the_layout_of_transformers_is_preferred_where_both_are_whole(
    saved: dict[str, tuple[Path, dict[str, Any]]], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(family_models.BUILTIN, folder)
    for part in ("open_clip_config.json", "open_clip_model.safetensors"):
        shutil.copy(saved["standard"][0] / part, folder)
    assert load_encoder(folder, device="cpu", cache=False).n_patches == 36
    (folder / "model.safetensors").unlink()
    assert load_encoder(folder, device="cpu", cache=False).n_patches == 25


def test_the_tokenizer_that_the_model_names_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    family_models.save("metaclip_2", tmp_path / "other")
    n_tokens = family_models.xlm_tokenizer(tmp_path)
    text = {
        "vocab_size": n_tokens,
        "hf_tokenizer_name": "some/model",
        "pool_type": "eos",
        "eos_id": 2,
        "tokenizer_kwargs": {"clean": "canonicalize"},
    }
    save(folder, text=text)
    for part in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tmp_path / "other" / part, folder)
    encoder = load_encoder(folder, device="cpu", cache=False)
    first, second = encoder.encode_texts(["A fire_truck!", "a fire truck"])
    np.testing.assert_allclose(first, second, atol=1e-6)
    ids = encoder._tokenizer(["猫"])[0]
    assert (ids[0], ids[-1]) == (0, 2)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vision": {"timm_model_name": "vit_base_patch16_siglip_224"}}, "google/siglip"),
        ({"vision": {"layers": [3, 4, 6, 3]}}, "has a ResNet as image tower"),
        ({"vision": {"no_ln_pre": True}}, "has no_ln_pre 'True' in vision_cfg"),
        ({"vision": {"head_width": 7}}, "a width of 48 makes no heads of 7"),
        ({"text": {"hf_model_name": "roberta-base"}}, "has hf_model_name 'roberta-base'"),
        ({"text": {"no_causal_mask": True}}, "has no_causal_mask"),
        ({"text": {"pool_type": "last"}}, "has pool_type 'last'"),
        ({"multimodal_cfg": {"width": 8}}, "has multimodal_cfg"),
        ({"text": {"eos_id": 7, "pool_type": "eos"}}, "pooled at 7"),
        ({"embed_dim": 24}, "do not belong together"),
        ({"text": {"tokenizer_kwargs": {"strip_sep_token": True}}}, "option 'strip_sep_token'"),
    ],
)
def test_what_is_not_clips_is_refused_in_a_sentence(
    changes: dict[str, Any],
    said: str,
    saved: dict[str, tuple[Path, dict[str, Any]]],
    tmp_path: Path,
) -> None:
    folder, config = tmp_path / "model", saved["standard"][1]
    shutil.copytree(saved["standard"][0], folder)
    parts = dict(changes)
    changed = {
        **config,
        "vision_cfg": {**config["vision_cfg"], **parts.pop("vision", {})},
        "text_cfg": {**config["text_cfg"], **parts.pop("text", {})},
        **parts,
    }
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": changed}))
    with pytest.raises(EncoderError, match=said):
        load_encoder(folder, device="cpu", cache=False)


def test_files_that_are_missing_or_pickled_are_named(
    saved: dict[str, tuple[Path, dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved["standard"][0], folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EncoderError, match=r"holds no tokenizer: put tokenizer\.json"):
        load_encoder(folder, device="cpu", cache=False)
    state = load_file(folder / "open_clip_model.safetensors")
    del state["visual.proj"]
    save_file(state, folder / "open_clip_model.safetensors")
    with pytest.raises(EncoderError, match=r"they lack 'visual.proj'"):
        load_encoder(folder, device="cpu", cache=False)
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(EncoderError, match=r"holds no open_clip_model\.safetensors"):
        load_encoder(folder, device="cpu", cache=False)
    torch.save(state, folder / "open_clip_pytorch_model.bin")
    with pytest.raises(EncoderError, match="convert them once with python -c") as caught:
        load_encoder(folder, device="cpu", cache=False)
    # The command of the sentence works.
    command = str(caught.value).split('python -c "')[1].split('"')[0]
    monkeypatch.chdir(folder)
    exec(command, {})  # noqa: S102 - it is our own
    assert load_file(folder / "open_clip_model.safetensors").keys() == state.keys()
    (folder / "open_clip_config.json").unlink()
    with pytest.raises(EncoderError, match=r"without open_clip_config\.json"):
        load_encoder(folder, device="cpu", cache=False)


@pytest.mark.parametrize(
    ("name", "hub_id"),
    [
        ("hf-hub:laion/CLIP-ViT-B-16-laion2B-s34B-b88K", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
        ("open_clip:ViT-B-16/laion2b_s34b_b88k", "laion/CLIP-ViT-B-16-laion2B-s34B-b88K"),
        ("open_clip:ViT-L-14/datacomp_xl_s13b_b90k", "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K"),
        ("open_clip:ViT-bigG-14/laion2b_s39b_b160k", "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k"),
        ("open_clip:ViT-B-16/dfn2b", "apple/DFN2B-CLIP-ViT-B-16"),
        ("open_clip:ViT-H-14-quickgelu/dfn5b", "apple/DFN5B-CLIP-ViT-H-14"),
        ("open_clip:ViT-B-32-quickgelu/openai", "openai/clip-vit-base-patch32"),
        ("open_clip:ViT-B-16-SigLIP/webli", "google/siglip-base-patch16-224"),
        ("open_clip:ViT-SO400M-14-SigLIP-384/webli", "google/siglip-so400m-patch14-384"),
        ("open_clip:ViT-L-16-SigLIP2-384/webli", "google/siglip2-large-patch16-384"),
        ("open_clip:ViT-B-16-SigLIP-i18n-256/webli", "google/siglip-base-patch16-256-multilingual"),
        ("open_clip:ViT-B-16/unknown", "open_clip:ViT-B-16/unknown"),
        ("openai/clip-vit-base-patch16", "openai/clip-vit-base-patch16"),
    ],
)
def test_names_of_open_clip_stand_for_hub_ids(name: str, hub_id: str) -> None:
    assert resolved(name) == hub_id


def test_a_model_of_the_hub_is_loaded_by_open_clips_name(
    saved: dict[str, tuple[Path, dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import huggingface_hub

    asked: list[str] = []

    def download(name: str, **_: object) -> str:
        asked.append(name)
        return str(saved["standard"][0])

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    monkeypatch.chdir(tmp_path)
    encoder = load_encoder("open_clip:ViT-B-16/laion2b_s34b_b88k", device="cpu", cache=False)
    assert asked == ["laion/CLIP-ViT-B-16-laion2B-s34B-b88K"]
    assert encoder.name == "open_clip:ViT-B-16/laion2b_s34b_b88k"
