"""CLIPN: the official implementation's numbers, and the way from its checkpoints to an encoder."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from clipn_models import open_clip_layout, save_checkpoint, small_towers
from full_disk import largest_file
from negrefine import CLIPN, MCM, Prompts, load_detector, load_encoder
from negrefine.cli.app import app
from negrefine.detectors.scores import (
    agreeing_to_differ_score,
    competing_to_win_score,
    yes_probability,
)
from negrefine.encoders import CLIPNEncoder
from negrefine.encoders.clipn_checkpoint import convert_clipn
from negrefine.errors import BundleError, EncoderError, InputError, NegrefineError
from negrefine.evaluation.experiment import evaluate
from negrefine.evaluation.images import ImageSet
from negrefine.labels.prompts import CLIPN_PROMPTS
from negrefine.metrics import auroc, fpr95_interpolated

SCORE = 2e-5
LOGIT = 2e-4
NO_TOWER = "no_text_model.safetensors"
NAMES = ["tiger", "rocket", "bread", "rose"]
FEW = Prompts(class_name=("'a photo of a {}.'", "'a photo with a {}.',"))

State = dict[str, torch.Tensor]


def no_tower_of(golden_dir: Path) -> State:
    folder = golden_dir / "model_no"
    return {
        **load_file(folder / "model.safetensors"),
        **load_file(folder / "prompt_no.safetensors"),
    }


@pytest.fixture(scope="module")
def official_dir(golden_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("clipn") / "official"
    shutil.copytree(golden_dir / "model", directory)
    directory.chmod(0o755)
    save_file(no_tower_of(golden_dir), directory / NO_TOWER)
    return directory


@pytest.fixture(scope="module")
def official_images(golden_dir: Path, golden: dict[str, Any]) -> list[Path]:
    return [golden_dir / "images" / image["file"] for image in golden["images"]]


@pytest.fixture(scope="module")
def small_dir(builtin_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clipn")
    checkpoint = save_checkpoint(folder / "epoch_10.pt", open_clip_layout(*small_towers()))
    assert convert_clipn(checkpoint, builtin_dir, folder / "encoder") is True
    return folder / "encoder"


@pytest.fixture(scope="module")
def small_encoder(small_dir: Path) -> CLIPNEncoder:
    encoder = load_encoder(small_dir, device="cpu", background=None)
    assert isinstance(encoder, CLIPNEncoder)
    return encoder


def logits(detector: CLIPN, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    yes = 100 * unit @ detector.class_features_.T
    return yes, 100 * unit @ detector.no_class_features_.T


def assert_official(
    detector: CLIPN, features: np.ndarray, expected: dict[str, Any], names: dict[str, str]
) -> None:
    yes, no = logits(detector, features)
    np.testing.assert_allclose(yes, expected["logits_yes"], atol=LOGIT, rtol=0)
    np.testing.assert_allclose(no, expected["logits_no"], atol=LOGIT, rtol=0)
    parts = detector.score_feature_parts(features)
    for part, name in names.items():
        official = expected["scores"][name]
        np.testing.assert_allclose(parts[part], official["score"], atol=SCORE, rtol=0)
        first, last = parts[part][:20], parts[part][20:]
        assert auroc(first, last) == pytest.approx(official["auroc_first20_vs_last20"], abs=1e-7)
        assert fpr95_interpolated(first, last) == pytest.approx(official["fpr95_interp"], abs=1e-7)


def test_official_prompts(golden: dict[str, Any]) -> None:
    assert list(CLIPN_PROMPTS.class_name) == golden["clipn"]["learned"]["prompts_yes"]


def test_prompts_are_frames_with_of_and_with() -> None:
    prompts = CLIPN_PROMPTS.class_name
    assert len(set(prompts)) == 128
    assert prompts[0] == "'a bad photo of a {}.'"
    assert prompts[64] == "'a bad photo with a {}.'"
    assert [p for p in prompts if not p.endswith("'")] == [
        "'a photo of a {}.',",
        "'a photo with a {}.',",
    ]
    assert prompts[30] == "'a {} in a video game.'"
    assert prompts[94] == "'a {} appearing in a video game.'"


def test_learned_variant(
    official_dir: Path, official_images: list[Path], golden: dict[str, Any]
) -> None:
    expected = golden["clipn"]["learned"]
    encoder = load_encoder(official_dir, exif_orientation=False, background=None)
    detector = CLIPN(encoder).fit(golden["classes"])
    features = encoder.encode_images(official_images)
    assert_official(detector, features, expected, {"atd": "ATD", "ctw": "CTW", "msp": "MSP"})
    baselines = detector.score_feature_parts(features)
    for part, name in (("max_logit", "MaxLogit"), ("energy", "Energy")):
        official = expected["scores"][name]["score"]
        np.testing.assert_allclose(baselines[part], official, atol=LOGIT, rtol=0)
    for ours, theirs in (
        (detector.class_features_, expected["class_weights_yes_first3"]),
        (detector.no_class_features_, expected["class_weights_no_first3"]),
    ):
        np.testing.assert_allclose(ours[:3], theirs, atol=2e-6, rtol=0)
    parts = detector.score_feature_parts(features)
    np.testing.assert_array_equal(detector.score_features(features), parts["atd"])
    detector.set_params(rule="ctw")
    np.testing.assert_array_equal(detector.score_features(features), parts["ctw"])


def test_handcrafted_variant(
    official_dir: Path, official_images: list[Path], golden: dict[str, Any], tmp_path: Path
) -> None:
    expected = golden["clipn"]["handcrafted"]
    directory = tmp_path / "handcrafted"
    shutil.copytree(official_dir, directory)
    no_tower = load_file(directory / NO_TOWER)
    del no_tower["prompt_no"]
    save_file(no_tower, directory / NO_TOWER)
    encoder = load_encoder(directory, exif_orientation=False, background=None)
    prompts = Prompts(class_name=CLIPN_PROMPTS.class_name, no=tuple(expected["prompts_no"]))
    detector = CLIPN(encoder, prompts=prompts).fit(golden["classes"])
    features = encoder.encode_images(official_images)
    assert_official(detector, features, expected, {"atd": "C+1", "ctw": "YN"})


def test_converted_checkpoint(
    golden_dir: Path, official_images: list[Path], golden: dict[str, Any], tmp_path: Path
) -> None:
    model = load_file(golden_dir / "model" / "model.safetensors")
    state = open_clip_layout(model, no_tower_of(golden_dir))
    assert state["visual.transformer.resblocks.2.attn.in_proj_weight"].shape == (192, 64)
    checkpoint = save_checkpoint(tmp_path / "epoch_10.pt", state)
    convert_clipn(checkpoint, golden_dir / "model", tmp_path / "encoder", quick_gelu=True)
    encoder = load_encoder(tmp_path / "encoder", exif_orientation=False, background=None)
    detector = CLIPN(encoder).fit(golden["classes"])
    features = encoder.encode_images(official_images)
    assert_official(detector, features, golden["clipn"]["learned"], {"atd": "ATD", "ctw": "CTW"})


def test_scores_of_given_logits(golden: dict[str, Any]) -> None:
    case = golden["clipn"]["learned"]["synthetic"]
    yes, no = (torch.tensor(case[f"logits_{side}"], dtype=torch.float64) for side in ("yes", "no"))
    for score, name in ((agreeing_to_differ_score, "ATD"), (competing_to_win_score, "CTW")):
        result = score(yes / 100, no / 100)
        np.testing.assert_allclose(result.numpy(), case["scores"][name], atol=SCORE, rtol=0)


def test_scores_are_their_definitions() -> None:
    generator = np.random.default_rng(0)
    yes, no = generator.uniform(-1, 1, (2, 5, 7))
    q = np.exp(9 * yes) / (np.exp(9 * yes) + np.exp(9 * no))
    p = np.exp(9 * yes) / np.exp(9 * yes).sum(1, keepdims=True)
    tensors = torch.from_numpy(yes), torch.from_numpy(no)
    np.testing.assert_allclose(yes_probability(*tensors, 9.0).numpy(), q, rtol=1e-12)
    atd = agreeing_to_differ_score(*tensors, 9.0).numpy()
    np.testing.assert_allclose(atd, (p * q).sum(1), rtol=1e-12)
    ctw = competing_to_win_score(*tensors, 9.0).numpy()
    np.testing.assert_allclose(ctw, q[np.arange(5), yes.argmax(1)], rtol=1e-12)
    far = torch.full((1, 3), 1e6), torch.full((1, 3), -1e6)
    assert float(agreeing_to_differ_score(*far)) == 1.0
    assert float(competing_to_win_score(*far[::-1])) == 0.0


def test_class_features_are_sums_of_normalised_prompts(small_encoder: CLIPNEncoder) -> None:
    detector = CLIPN(small_encoder, prompts=FEW).fit(NAMES)
    for encode, features in (
        (small_encoder.encode_texts, detector.class_features_),
        (small_encoder.encode_texts_no, detector.no_class_features_),
    ):
        for name, feature in zip(NAMES, features, strict=True):
            prompts = encode([t.replace("{}", name) for t in FEW.class_name]).astype(np.float64)
            total = (prompts / np.linalg.norm(prompts, axis=1, keepdims=True)).sum(0)
            np.testing.assert_allclose(feature, total / np.linalg.norm(total), atol=1e-6)


def test_conversion_derives_the_configuration(small_dir: Path) -> None:
    config = json.loads((small_dir / "config.json").read_text())
    text, vision = config["text_config"], config["vision_config"]
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    assert [text[size] for size in sizes] == [64, 128, 1, 1]
    assert [vision[size] for size in sizes] == [128, 256, 2, 2]
    assert (vision["image_size"], vision["patch_size"]) == (48, 24)
    assert (text["vocab_size"], text["max_position_embeddings"]) == (8189, 32)
    assert (text["bos_token_id"], text["eos_token_id"]) == (8187, 8188)
    assert (config["projection_dim"], text["hidden_act"], vision["hidden_act"]) == (
        24,
        "gelu",
        "gelu",
    )
    assert sorted(path.suffix for path in small_dir.iterdir()) == [
        *[".json"] * 4,
        *[".safetensors"] * 2,
    ]


def test_conversion_keeps_every_tensor(small_dir: Path) -> None:
    model, no_tower = small_towers()
    for file, expected in (("model.safetensors", model), (NO_TOWER, no_tower)):
        converted = load_file(small_dir / file)
        assert set(converted) == set(expected)
        for name, tensor in expected.items():
            assert torch.equal(converted[name], tensor), name


def test_a_full_disk_names_the_directory(builtin_dir: Path, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "a.pt", open_clip_layout(*small_towers()))
    with (
        largest_file(8000),
        pytest.raises(EncoderError, match=r"cannot be written to .*encoder': .*large"),
    ):
        convert_clipn(checkpoint, builtin_dir, tmp_path / "encoder")
    assert [each.name for each in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize("prefix", ["module.", ""])
def test_prefix_of_distributed_training(
    prefix: str, small_dir: Path, builtin_dir: Path, tmp_path: Path
) -> None:
    state = open_clip_layout(*small_towers())
    checkpoint = save_checkpoint(tmp_path / "a.pt", state, prefix)
    convert_clipn(checkpoint, builtin_dir, tmp_path / "encoder")
    for file in ("model.safetensors", NO_TOWER, "config.json"):
        assert (tmp_path / "encoder" / file).read_bytes() == (small_dir / file).read_bytes()


def test_learned_embeddings_are_added_before_the_first_layer(
    small_dir: Path, small_encoder: CLIPNEncoder, tmp_path: Path
) -> None:
    """Adding the mean to the position embeddings by hand gives the same tower."""
    directory = tmp_path / "by-hand"
    shutil.copytree(small_dir, directory)
    tensors = load_file(directory / NO_TOWER)
    prompt = tensors.pop("prompt_no")
    plain = directory / NO_TOWER
    save_file(tensors, plain)
    texts = ["a tiger", "a piece of bread on a plate"]
    without = load_encoder(directory, device="cpu")
    assert isinstance(without, CLIPNEncoder)
    learned = small_encoder.encode_texts_no(texts)
    assert np.abs(without.encode_texts_no(texts) - learned).max() > 1e-2
    tensors["text_model.embeddings.position_embedding.weight"] += prompt.mean(0)
    save_file(tensors, plain)
    by_hand = load_encoder(directory, device="cpu")
    assert isinstance(by_hand, CLIPNEncoder)
    np.testing.assert_allclose(by_hand.encode_texts_no(texts), learned, atol=1e-5, rtol=0)
    np.testing.assert_array_equal(by_hand.encode_texts(texts), small_encoder.encode_texts(texts))
    fingerprints = {e.fingerprint for e in (small_encoder, by_hand)}
    assert len(fingerprints) == 2


def test_save_and_load(
    small_encoder: CLIPNEncoder, small_dir: Path, demo_pictures: list[Path], tmp_path: Path
) -> None:
    prompts = Prompts(class_name=FEW.class_name, no=("'a photo without a {}.'",))
    detector = CLIPN(small_encoder, rule="ctw", logit_scale=50.0, prompts=prompts).fit(NAMES)
    detector.calibrate(demo_pictures[:9], fpr=0.2)
    detector.save(tmp_path / "detector")
    again = load_detector(tmp_path / "detector", device="cpu")
    assert isinstance(again, CLIPN)
    assert (again.rule, again.logit_scale, again.prompts) == ("ctw", 50.0, prompts)
    assert again.offset_ == detector.offset_
    expected = detector.score_parts(demo_pictures)
    for name, scores in again.score_parts(demo_pictures).items():
        np.testing.assert_array_equal(scores, expected[name])
    other = tmp_path / "other"
    shutil.copytree(small_dir, other)
    tensors = load_file(other / NO_TOWER)
    tensors["prompt_no"] += 1
    save_file(tensors, other / NO_TOWER)
    with pytest.raises(BundleError, match="fitted with the encoder"):
        load_detector(tmp_path / "detector", other)


def test_evaluation(small_encoder: CLIPNEncoder, demo_pictures: list[Path], tmp_path: Path) -> None:
    names = ["dog", "cat", "horse"]
    found = evaluate(
        {"mcm": MCM(small_encoder).fit(names), "clipn": CLIPN(small_encoder).fit(names)},
        ImageSet("ID", demo_pictures[:6]),
        [ImageSet("others", demo_pictures[6:11])],
        out=tmp_path / "out",
        n_bootstrap=0,
    )
    expected = CLIPN(small_encoder).fit(names).score_samples(demo_pictures[6:11])
    np.testing.assert_allclose(found.ood_sets[0].scores["clipn"][0], expected, atol=1e-6)


def test_command_line(builtin_dir: Path, demo_pictures: list[Path], tmp_path: Path) -> None:
    run = CliRunner().invoke
    checkpoint = save_checkpoint(tmp_path / "epoch_10.pt", open_clip_layout(*small_towers()))
    encoder, saved = str(tmp_path / "encoder"), str(tmp_path / "detector")
    paths = ["--base", str(builtin_dir), "--out", encoder]
    converted = run(app, ["convert-clipn", str(checkpoint), *paths])
    assert converted.exit_code == 0, converted.output
    assert "learned 'no' prompts" in converted.output
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(NAMES))
    options = ["--method", "clipn", "--encoder", encoder, "--rule", "ctw", "--device", "cpu"]
    fitted = run(app, ["fit", "--classes", str(classes), "--out", saved, *options])
    assert fitted.exit_code == 0, fitted.output
    table = tmp_path / "scores.jsonl"
    scored = run(app, ["score", saved, str(demo_pictures[0]), "--out", str(table)])
    assert scored.exit_code == 0, scored.output
    row = json.loads(table.read_text())
    assert row["score"] == row["ctw"] != row["atd"]


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_checkpoint_with_code_is_refused(builtin_dir: Path, tmp_path: Path) -> None:
    state: dict[str, Any] = dict(open_clip_layout(*small_towers()))
    state["visual.extra"] = Malicious(tmp_path / "ran")
    for number, protocol in enumerate((2, 4)):
        torch.save({"state_dict": state}, tmp_path / "bad.pt", pickle_protocol=protocol)
        with pytest.raises(EncoderError, match=r"bad\.pt.*could run code.*refused"):
            convert_clipn(tmp_path / "bad.pt", builtin_dir, tmp_path / f"out{number}")
    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Malicious(tmp_path / "ran")))
    with pytest.raises(EncoderError, match=r"raw\.pt"):
        convert_clipn(tmp_path / "raw.pt", builtin_dir, tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pt", "raw.pt"]


def test_damaged_checkpoints(builtin_dir: Path, tmp_path: Path) -> None:
    whole = save_checkpoint(tmp_path / "whole.pt", open_clip_layout(*small_towers()))
    data = whole.read_bytes()
    contents = {"half": data[: len(data) // 2], "head": data[:100], "empty": b"", "text": b"hello"}
    for name, content in contents.items():
        file = tmp_path / f"{name}.pt"
        file.write_bytes(content)
        with pytest.raises(EncoderError, match=rf"{name}\.pt' is .*(damaged|cut short)"):
            convert_clipn(file, builtin_dir, tmp_path / "out")
    with pytest.raises(EncoderError, match=r"nothing\.pt' does not exist: check the path"):
        convert_clipn(tmp_path / "nothing.pt", builtin_dir, tmp_path / "out")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(EncoderError, match="no state dict"):
        convert_clipn(tmp_path / "list.pt", builtin_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "name",
    [
        "visual.proj",
        "logit_scale",
        "ln_final_no.bias",
        "text_projection_no",
        "transformer_no.resblocks.0.attn.in_proj_weight",
        "visual.transformer.resblocks.1.mlp.c_fc.bias",
    ],
)
def test_missing_tensors_are_named(name: str, builtin_dir: Path, tmp_path: Path) -> None:
    state = open_clip_layout(*small_towers())
    del state[name]
    checkpoint = save_checkpoint(tmp_path / "a.pt", state)
    with pytest.raises(EncoderError, match=f"lacks '{name}': "):
        convert_clipn(checkpoint, builtin_dir, tmp_path / "out")


def test_checkpoints_of_something_else(builtin_dir: Path, tmp_path: Path) -> None:
    state = open_clip_layout(*small_towers())
    yes_only = {name: tensor for name, tensor in state.items() if "_no" not in name}
    with pytest.raises(EncoderError, match=r"lacks 'token_embedding_no\.weight', .* and \d+ more"):
        convert_clipn(save_checkpoint(tmp_path / "a.pt", yes_only), builtin_dir, tmp_path / "out")
    flat = {**state, "visual.conv1.weight": torch.zeros(3)}
    with pytest.raises(EncoderError, match="impossible shapes"):
        convert_clipn(save_checkpoint(tmp_path / "b.pt", flat), builtin_dir, tmp_path / "out")
    for wrong in (
        {"ln_final.bias": torch.zeros(9)},
        {"ln_final_no.bias": torch.zeros(9)},
        {"prompt_no": torch.zeros(16, 77, 64)},
    ):
        checkpoint = save_checkpoint(tmp_path / "c.pt", {**state, **wrong})
        with pytest.raises(EncoderError, match="do not fit together"):
            convert_clipn(checkpoint, builtin_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_base_with_another_vocabulary(golden_dir: Path, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "a.pt", open_clip_layout(*small_towers(patch=32)))
    with pytest.raises(EncoderError, match="49408 tokens and the checkpoint 8189"):
        convert_clipn(checkpoint, golden_dir / "model", tmp_path / "out")


def test_base_and_out_must_fit(builtin_dir: Path, small_dir: Path, tmp_path: Path) -> None:
    checkpoint = save_checkpoint(tmp_path / "a.pt", open_clip_layout(*small_towers()))
    base = tmp_path / "base"
    shutil.copytree(builtin_dir, base)
    file = base / "preprocessor_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "crop_size": {"height": 32, "width": 32}}))
    with pytest.raises(EncoderError, match="reads 48 x 48"):
        convert_clipn(checkpoint, base, tmp_path / "out")
    with pytest.raises(EncoderError, match="is not empty"):
        convert_clipn(checkpoint, builtin_dir, base)
    (tmp_path / "out").mkdir()
    convert_clipn(checkpoint, builtin_dir, tmp_path / "out")
    produced = (tmp_path / "out" / "config.json").read_bytes()
    assert produced == (small_dir / "config.json").read_bytes()


def test_damaged_no_tower(small_dir: Path, tmp_path: Path) -> None:
    directory = tmp_path / "encoder"
    shutil.copytree(small_dir, directory)
    data = (directory / NO_TOWER).read_bytes()
    (directory / NO_TOWER).write_bytes(data[: len(data) // 2])
    with pytest.raises(EncoderError, match=r"no_text_model\.safetensors of .* is damaged"):
        load_encoder(directory, device="cpu")


def test_unusable_parameters(builtin_encoder: Any, small_encoder: CLIPNEncoder) -> None:
    with pytest.raises(InputError, match="convert-clipn"):
        CLIPN(builtin_encoder).fit(NAMES)
    with pytest.raises(InputError, match="one of atd, ctw"):
        CLIPN(small_encoder, rule="softmax").fit(NAMES)
    with pytest.raises(InputError, match="logit_scale"):
        CLIPN(small_encoder, logit_scale=0).fit(NAMES)
    for error in (EncoderError, InputError):
        assert issubclass(error, NegrefineError)


def test_the_clipn_encoder_serves_other_detectors(small_encoder: CLIPNEncoder) -> None:
    scores = MCM(small_encoder).fit(NAMES).score_features(np.eye(3, 24))
    assert scores.shape == (3,)
    assert ((scores >= 0.25) & (scores <= 1)).all()
