"""Model directories and names as people have them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from negrefine import MCM, NegRefine, load_encoder
from negrefine.encoders import CLIPEncoder
from negrefine.errors import EncoderError, InputError

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def edited(builtin_dir: Path, tmp_path: Path) -> Callable[[Edit], Path]:
    def edited(edit: Edit) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(builtin_dir, folder)
        config = json.loads((folder / "config.json").read_text())
        edit(config)
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return edited


@pytest.mark.parametrize(
    "edit",
    [
        lambda c: c.update(return_dict=False),
        lambda c: c["vision_config"].update(return_dict=False, output_hidden_states=True),
        lambda c: c["text_config"].update(return_dict=False, output_attentions=True),
        lambda c: c.update(_attn_implementation="flash_attention_2"),
        lambda c: c["vision_config"].update(attn_implementation="flash_attention_2"),
    ],
)
def test_how_a_model_is_run_changes_nothing(
    edited: Callable[[Edit], Path],
    edit: Edit,
    builtin_encoder: CLIPEncoder,
    demo_pictures: list[Path],
) -> None:
    encoder = load_encoder(edited(edit), cache=False, device="cpu")
    np.testing.assert_array_equal(
        encoder.encode_images(demo_pictures[:3]), builtin_encoder.encode_images(demo_pictures[:3])
    )
    features, patches = encoder.encode_images_and_patches(demo_pictures[:3])
    expected = builtin_encoder.encode_images_and_patches(demo_pictures[:3])
    np.testing.assert_array_equal(features, expected[0])
    np.testing.assert_array_equal(patches, expected[1])
    np.testing.assert_allclose(
        encoder.encode_texts(["cat"]), builtin_encoder.encode_texts(["cat"]), atol=1e-6
    )


@pytest.mark.parametrize("n_channels", [1, 4])
def test_other_channels_are_refused_at_once(
    edited: Callable[[Edit], Path], n_channels: int
) -> None:
    folder = edited(lambda c: c["vision_config"].update(num_channels=n_channels))
    with pytest.raises(EncoderError, match=f"takes images of {n_channels} channels"):
        load_encoder(folder, cache=False)


@pytest.mark.parametrize("inside", ["0_CLIPModel", "checkpoint-500", "snapshots/1a2b"])
def test_a_model_in_a_folder_inside_is_named(
    builtin_dir: Path, tmp_path: Path, inside: str
) -> None:
    shutil.copytree(builtin_dir, tmp_path / inside)
    with pytest.raises(EncoderError, match="a folder inside does: give") as caught:
        load_encoder(tmp_path, cache=False)
    assert str(tmp_path / inside) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("built-in", "builtin"),
        ("Builtin", "builtin"),
        ("buitin", "builtin"),
        ("builtin-foto", "builtin-photo"),
        ("ViT-B-16", "openai/clip-vit-base-patch16"),
        ("ViT-B/32", "openai/clip-vit-base-patch32"),
        ("ViT-L/14@336", "openai/clip-vit-large-patch14-336"),
        ("clip-vit-base-patch16", "openai/clip-vit-base-patch16"),
        ("openai/clip-vit-large-patch-14", "openai/clip-vit-large-patch14"),
        ("clip-ViT-B-32", "openai/clip-vit-base-patch32"),
        ("sentence-transformers/clip-ViT-L-14", "openai/clip-vit-large-patch14"),
        ("ViT-B-16-quickgelu", "openai/clip-vit-base-patch16"),
        ("ViT-L/14@336px", "openai/clip-vit-large-patch14-336"),
        ("ViT-H-14", "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"),
        ("hf://org/name", "org/name"),
        ("https://huggingface.co/org/name/tree/main", "org/name"),
        ("open_clip:ViT-B-32", "openai/clip-vit-base-patch32"),
    ],
)
def test_a_name_that_is_nearly_right(name: str, meant: str) -> None:
    with pytest.raises(EncoderError, match=f"There is no encoder {name!r}: did you mean {meant!r}"):
        load_encoder(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("clip", "that is a family: give a model, such as 'openai/clip-vit-base-patch16'"),
        ("RN50", "CLIP models with a ResNet cannot be loaded"),
        ("RN50x64", "CLIP models with a ResNet cannot be loaded"),
        ("rn101-quickgelu", "CLIP models with a ResNet cannot be loaded"),
        ("open_clip:ViT-B-32/never_heard_of", "models of open_clip are loaded by their hub id"),
        ("open_clip:coca_ViT-L-14", "models of open_clip are loaded by their hub id"),
    ],
)
def test_a_name_of_a_model_that_has_another_one_here(name: str, said: str) -> None:
    with pytest.raises(EncoderError, match=f"There is no encoder '{name}': {said}") as caught:
        load_encoder(name)
    assert "'laion/CLIP-ViT-B-32-laion2B-s34B-b79K'" in str(caught.value)


@pytest.mark.parametrize("name", ["org/name", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"])
def test_a_hub_id_gets_no_such_advice(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match="is not in its local cache") as caught:
        load_encoder(name)
    assert "Did you mean" not in str(caught.value)
    # Some repository could have this name, so the hub is asked first.
    with pytest.raises(EncoderError, match=r"local cache.* Did you mean 'openai/clip-vit-base"):
        load_encoder("openai/clip-vit-base-patch61")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:7", "gpu"])
def test_only_devices_that_are_there_are_recommended(device: str) -> None:
    with pytest.raises(EncoderError) as caught:
        load_encoder("builtin", device=device)
    advice = str(caught.value).partition("cannot be used here: use ")[2]
    assert "'cpu'" in advice
    assert "cuda" not in advice


def test_a_name_in_place_of_an_encoder() -> None:
    with pytest.raises(InputError, match=r"give load_encoder\('builtin'\)"):
        NegRefine("builtin").fit(["cat", "dog"])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="give load_encoder"):
        MCM(Path("some/model")).fit(["cat", "dog"])  # type: ignore[arg-type]


def test_features_as_tensors(builtin_encoder: CLIPEncoder, demo_pictures: list[Path]) -> None:
    detector = MCM(builtin_encoder).fit(["cat", "dog"])
    array = builtin_encoder.encode_images(demo_pictures[:20])
    scores = detector.score_features(array)
    tensor = torch.from_numpy(array)
    for same in (tensor, tensor.clone().requires_grad_(), tensor.T.contiguous().T, array.tolist()):
        np.testing.assert_array_equal(detector.score_features(same), scores)
    half = detector.score_features(tensor.bfloat16())
    np.testing.assert_array_equal(half, detector.score_features(tensor.bfloat16().float().numpy()))
    np.testing.assert_allclose(half, scores, atol=1e-2)
    detector.calibrate_scores(torch.from_numpy(scores).float().requires_grad_(), fpr=0.1)
    assert detector.offset_ == pytest.approx(np.sort(scores)[1], abs=1e-6)
    with pytest.raises(InputError, match="real numbers, not complex"):
        detector.score_features(tensor.to(torch.complex64))
    with pytest.raises(InputError, match="real numbers, not complex64"):
        detector.score_features(array.astype(np.complex64))
    with pytest.raises(InputError, match="masked in places"):
        detector.score_features(np.ma.masked_greater(array, 0))


def test_weights_that_are_no_numbers(builtin_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(builtin_dir, folder)
    file = folder / "model.safetensors"
    weights = load_file(file)
    weights["visual_projection.weight"][0, 0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(EncoderError, match="hold NaN or infinity"):
        load_encoder(folder, cache=False)
