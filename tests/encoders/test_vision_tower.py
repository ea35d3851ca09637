"""The vision tower and the plain model against transformers, bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPConfig, CLIPModel

from negrefine import load_encoder
from negrefine.encoders import CLIPEncoder
from negrefine.encoders.clip_config import plain_architecture
from negrefine.encoders.clip_model import PlainCLIPModel, read_plain_model
from negrefine.encoders.text_tower import encode_tokens
from negrefine.encoders.vision_tower import image_and_patch_features, image_features

TEXT = {
    "bos_token_id": 38,
    "eos_token_id": 39,
    "vocab_size": 40,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "max_position_embeddings": 12,
}
# Width, heads, blocks, side of images and of patches, activation.
SHAPES = [
    (32, 4, 3, 16, 8, "quick_gelu"),
    (48, 3, 2, 30, 10, "gelu"),
    (64, 1, 1, 21, 7, "quick_gelu"),
    (192, 6, 4, 48, 8, "gelu"),
    # The last pixels of a side belong to no patch.
    (40, 5, 2, 33, 16, "quick_gelu"),
]


def random_model(directory: Path, shape: tuple[Any, ...], **saving: Any) -> dict[str, Any]:
    """Save a CLIPModel with random weights, biases too; return its configuration."""
    width, heads, blocks, side, patch, activation = shape
    vision = {
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_attention_heads": heads,
        "num_hidden_layers": blocks,
        "image_size": side,
        "patch_size": patch,
        "hidden_act": activation,
    }
    text = {**TEXT, "hidden_act": activation}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    with torch.random.fork_rng():
        torch.manual_seed(width)
        model = CLIPModel(config)
        with torch.no_grad():
            for weights in model.parameters():
                weights.add_(0.1 * torch.randn_like(weights))
    model.save_pretrained(directory, **saving)
    content: dict[str, Any] = json.loads((directory / "config.json").read_text())
    return content


def plain(directory: Path, config: dict[str, Any], dtype: str = "float32") -> PlainCLIPModel:
    architecture = plain_architecture(config)
    assert architecture is not None
    model = read_plain_model(sorted(directory.glob("*.safetensors")), architecture, dtype)
    assert model is not None
    return model


def reference_patches(model: CLIPModel, pixels: Tensor) -> Tensor:
    """Features of patches from the parts of transformers, as GL-MCM defines them."""
    tower = model.vision_model
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    *earlier, last = tower.encoder.layers
    for layer in earlier:
        hidden = layer(hidden, None)
    attention, hidden = last.self_attn, hidden[:, 1:]
    values = attention.out_proj(attention.v_proj(last.layer_norm1(hidden))) + hidden
    return model.visual_projection(
        tower.post_layernorm(values + last.mlp(last.layer_norm2(values)))
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_features_are_those_of_transformers(tmp_path: Path, shape: tuple[Any, ...]) -> None:
    config = random_model(tmp_path, shape)
    side = shape[3]
    for dtype in ("float32", "bfloat16", "float16"):
        expected = CLIPModel.from_pretrained(tmp_path, dtype=dtype, attn_implementation="sdpa")
        expected.eval()
        own = plain(tmp_path, config, dtype)
        for n in (1, 2, 17):
            pixels = torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(n))
            pixels = pixels.to(getattr(torch, dtype))
            with torch.inference_mode():
                right = expected.get_image_features(pixels).pooler_output
                # The towers run either model.
                for model in (own, expected):
                    assert torch.equal(image_features(model, pixels), right)
                    image, patches = image_and_patch_features(model, pixels)
                    assert torch.equal(image, right)
                    assert torch.equal(patches, reference_patches(expected, pixels))
        assert patches.shape == (17, (side // shape[4]) ** 2, 24)
        assert patches.dtype == getattr(torch, dtype)


def test_texts_are_those_of_transformers(tmp_path: Path) -> None:
    config = random_model(tmp_path, SHAPES[0])
    ids = [[38, *range(1, 1 + n), 39] for n in range(9)]
    with torch.inference_mode():
        (batch,) = encode_tokens(plain(tmp_path, config), ids, 10, 1000)
        (expected,) = encode_tokens(CLIPModel.from_pretrained(tmp_path).eval(), ids, 10, 1000)
    np.testing.assert_array_equal(batch[0], expected[0])
    assert torch.equal(batch[1], expected[1])


def test_weights_in_several_files(tmp_path: Path) -> None:
    config = random_model(tmp_path, SHAPES[0], max_shard_size="50KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    pixels = torch.ones(1, 3, 16, 16)
    with torch.inference_mode():
        expected = CLIPModel.from_pretrained(tmp_path).eval().get_image_features(pixels)
        assert torch.equal(image_features(plain(tmp_path, config), pixels), expected.pooler_output)


def change_weights(directory: Path, change: Any) -> None:
    file = directory / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, metadata={"format": "pt"})


def test_counted_positions_of_older_files_are_read_past(tmp_path: Path) -> None:
    config = random_model(tmp_path, SHAPES[0])
    name = "vision_model.embeddings.position_ids"
    change_weights(tmp_path, lambda weights: weights.update({name: torch.zeros(1, 5).long()}))
    assert isinstance(plain(tmp_path, config), PlainCLIPModel)


@pytest.mark.parametrize(
    "change",
    [
        lambda weights: weights.pop("logit_scale"),
        lambda weights: weights.update(more=torch.zeros(3)),
        lambda weights: weights.update(logit_scale=torch.zeros(2)),
        lambda weights: weights.update(logit_scale=torch.tensor(1)),
    ],
)
def test_unusual_weights_are_left_to_transformers(tmp_path: Path, change: Any) -> None:
    architecture = plain_architecture(random_model(tmp_path, SHAPES[0]))
    assert architecture is not None
    change_weights(tmp_path, change)
    assert read_plain_model([tmp_path / "model.safetensors"], architecture, "float32") is None


def test_an_unusual_model_has_the_same_features(
    builtin_dir: Path,
    builtin_encoder: CLIPEncoder,
    demo_pictures: list[Path],
    tmp_path: Path,
) -> None:
    model = tmp_path / "model"
    shutil.copytree(builtin_dir, model)
    change_weights(model, lambda weights: weights.update(more=torch.zeros(3)))
    encoder = load_encoder(model, device="cpu", cache=False)
    assert isinstance(builtin_encoder._model, PlainCLIPModel)
    assert isinstance(encoder._model, CLIPModel)
    for own, expected in zip(
        encoder.encode_images_and_patches(demo_pictures[:5]),
        builtin_encoder.encode_images_and_patches(demo_pictures[:5]),
        strict=True,
    ):
        np.testing.assert_array_equal(own, expected)
    texts = ["cat", "a photo of a dog"]
    np.testing.assert_array_equal(encoder.encode_texts(texts), builtin_encoder.encode_texts(texts))


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"text_config": {"hidden_act": "gelu"}, "vision_config": {"patch_size": 16}},
        {"text_config": {"hidden_size": 64}, "text_config_dict": {"vocab_size": 99}},
        {"vision_config": {"image_size": 48}, "vision_config_dict": {}, "projection_dim": 640},
    ],
)
def test_defaults_and_older_layouts_are_read_as_transformers_reads_them(
    config: dict[str, Any],
) -> None:
    architecture = plain_architecture(config)
    expected = CLIPConfig.from_dict(json.loads(json.dumps(config)))
    assert architecture is not None
    assert architecture.projection_dim == expected.projection_dim
    for part in ("text_config", "vision_config"):
        for name, value in vars(getattr(architecture, part)).items():
            assert getattr(getattr(expected, part), name) == value


@pytest.mark.parametrize(
    "config",
    [
        {"quantization_config": {"bits": 4}},
        {"transformers_weights": "other.safetensors"},
        {"projection_dim": None},
        {"text_config": None},
        {"text_config": {"hidden_act": "gelu_new"}},
        {"text_config": {"hidden_size": "512"}},
        {"vision_config": {"num_attention_heads": 7}},
        {"vision_config": {"image_size": [224, 224]}},
        {"vision_config": {"layer_norm_eps": 0}},
        {"vision_config_dict": {"num_hidden_layers": True}},
    ],
)
def test_unusual_configurations_are_left_to_transformers(config: dict[str, Any]) -> None:
    assert plain_architecture(config) is None
