"""A pickled encoder holds the arguments of load_encoder, and loads the same model or refuses."""

from __future__ import annotations

import copy
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from sklearn.base import clone

from negrefine import MCM, load_encoder
from negrefine.adapters.feature_detector import FeatureDetector
from negrefine.encoders import CLIPEncoder, CLIPNEncoder
from negrefine.encoders.clip_config import NO_TOWER
from negrefine.errors import EncoderError, InputError

NAMES = ["dog", "cat", "fire truck"]


@pytest.fixture
def model(builtin_dir: Path, tmp_path: Path) -> Path:
    """A copy of the built-in model that can be changed."""
    directory = tmp_path / "model"
    directory.mkdir()
    for file in builtin_dir.iterdir():
        shutil.copyfile(file, directory / file.name)
    return directory


def test_a_pickle_is_a_recipe(builtin_encoder: CLIPEncoder, demo_pictures: list[Path]) -> None:
    data = pickle.dumps(builtin_encoder)
    assert len(data) < 1000
    loaded = pickle.loads(data)  # noqa: S301
    assert loaded is not builtin_encoder
    images = demo_pictures[:3]
    expected, expected_patches = builtin_encoder.encode_images_and_patches(images)
    features, patches = loaded.encode_images_and_patches(images)
    np.testing.assert_array_equal(features, expected)
    np.testing.assert_array_equal(patches, expected_patches)
    np.testing.assert_array_equal(builtin_encoder.encode_texts(NAMES), loaded.encode_texts(NAMES))
    assert loaded.fingerprint == builtin_encoder.fingerprint


def test_a_pickle_keeps_every_argument(builtin_dir: Path, tmp_path: Path) -> None:
    encoder = load_encoder(
        builtin_dir,
        device="cpu",
        dtype="bfloat16",
        resample="bilinear",
        exif_orientation=False,
        background=(1, 2, 3),
        truncate=False,
        cache=tmp_path / "e.sqlite",
    )
    loaded = pickle.loads(pickle.dumps(encoder))  # noqa: S301
    assert (loaded.name, loaded.dtype) == (encoder.name, encoder.dtype)
    assert loaded.options == encoder.options
    assert loaded.fingerprint == encoder.fingerprint
    MCM(loaded).fit(NAMES)
    assert (tmp_path / "e.sqlite").exists()


def test_detectors_with_their_encoder(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path], tmp_path: Path
) -> None:
    detector = MCM(builtin_encoder).fit(NAMES)
    loaded = pickle.loads(pickle.dumps(detector))  # noqa: S301
    expected = detector.score_samples(demo_pictures)
    np.testing.assert_array_equal(loaded.score_samples(demo_pictures), expected)
    features = builtin_encoder.encode_images(demo_pictures * 3)
    adapter = FeatureDetector(detector, fpr=0.2).fit(features)
    joblib.dump(adapter, tmp_path / "adapter.joblib")
    again = joblib.load(tmp_path / "adapter.joblib")
    np.testing.assert_array_equal(again.score_samples(features), adapter.score_samples(features))
    assert again.offset_ == adapter.offset_


def test_another_process_loads_it(builtin_encoder: CLIPEncoder, tmp_path: Path) -> None:
    (tmp_path / "encoder.pickle").write_bytes(pickle.dumps(builtin_encoder))
    script = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).fingerprint)"
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "encoder.pickle")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == builtin_encoder.fingerprint


def test_a_changed_model_is_refused(model: Path) -> None:
    unknown = pickle.dumps(load_encoder(model, device="cpu"))
    encoder = load_encoder(model, device="cpu")
    assert encoder.fingerprint
    known = pickle.dumps(encoder)
    config = model / "preprocessor_config.json"
    config.write_text(config.read_text().replace("0.48145466", "0.5"))
    assert pickle.loads(unknown).fingerprint != encoder.fingerprint  # noqa: S301
    with pytest.raises(EncoderError, match=r"has changed since this encoder was pickled") as caught:
        pickle.loads(known)  # noqa: S301
    assert "\n" not in str(caught.value)
    shutil.rmtree(model)
    with pytest.raises(EncoderError, match="is not a directory"):
        pickle.loads(known)  # noqa: S301


def test_clipn_and_encoders_put_together_by_hand(builtin_encoder: CLIPEncoder, model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    save_file({k: v * 2 for k, v in tensors.items() if k.startswith("text_")}, model / NO_TOWER)
    encoder = load_encoder(model, device="cpu", cache=False)
    assert isinstance(encoder, CLIPNEncoder)
    loaded = pickle.loads(pickle.dumps(encoder))  # noqa: S301
    np.testing.assert_array_equal(loaded.encode_texts_no(NAMES), encoder.encode_texts_no(NAMES))
    assert np.abs(encoder.encode_texts_no(NAMES) - encoder.encode_texts(NAMES)).max() > 1e-3

    by_hand = CLIPEncoder(
        builtin_encoder._model,
        builtin_encoder._tokenizer,
        builtin_encoder.preprocessing,
        name="by hand",
        settings=builtin_encoder._settings,
        fingerprint=lambda: "1",
    )
    with pytest.raises(InputError, match="load_encoder"):
        pickle.dumps(by_hand)
    for one in (builtin_encoder, encoder, by_hand):
        assert copy.copy(one) is copy.deepcopy(one) is clone(one) is one
