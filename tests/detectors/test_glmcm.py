"""GL-MCM: the official implementation's numbers, and patch features through every stage."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from negrefine import CLIPN, GLMCM, MCM, load_detector, load_encoder
from negrefine.cli.app import app
from negrefine.detectors.scores import local_mcm_score
from negrefine.encoders import CLIPEncoder
from negrefine.errors import EncoderError, ImageError, InputError, NotFittedError
from negrefine.evaluation.image_scores import score_files

NAMES = ["tiger", "rocket", "bread", "rose", "umbrella"]


@pytest.fixture(scope="module", params=["bicubic", "bilinear"])
def resample(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def official(golden_dir: Path, golden: dict[str, Any], resample: str) -> dict[str, Any]:
    encoder = load_encoder(
        golden_dir / "model", resample=resample, exif_orientation=False, background=None
    )
    images = [golden_dir / "images" / image["file"] for image in golden["images"]]
    features, patches = encoder.encode_images_and_patches(images, batch_size=16)
    return {"encoder": encoder, "images": images, "features": features, "patches": patches}


@pytest.fixture(scope="module")
def detector(builtin_encoder: CLIPEncoder) -> GLMCM:
    return GLMCM(builtin_encoder, temperature=0.05, local_weight=0.5).fit(NAMES)


@pytest.fixture(scope="module")
def encoded(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path]
) -> tuple[np.ndarray, np.ndarray]:
    return builtin_encoder.encode_images_and_patches(demo_pictures)


def test_official_patch_features(golden_dir: Path, golden: dict[str, Any]) -> None:
    encoder = load_encoder(
        golden_dir / "model", resample="bilinear", exif_orientation=False, background=None
    )
    images = [golden_dir / "images" / image["file"] for image in golden["images"][:3]]
    expected = np.array(golden["glmcm"]["local_features_unnormalised_first3_images"])
    assert expected.shape == (3, 4, 4, 64)
    patches = encoder.encode_patches(images)
    assert patches.dtype == np.float32
    np.testing.assert_allclose(patches, expected.reshape(3, 16, 64), atol=1e-5, rtol=0)


@pytest.mark.parametrize("local_weight", [1.0, 0.5])
@pytest.mark.parametrize(("temperature", "tolerance"), [(1.0, 1e-7), (0.01, 2e-5)])
def test_official_scores(
    official: dict[str, Any],
    golden: dict[str, Any],
    resample: str,
    local_weight: float,
    temperature: float,
    tolerance: float,
) -> None:
    detector = GLMCM(official["encoder"], temperature=temperature, local_weight=local_weight)
    detector.fit(golden["classes"])
    arrays = official["features"], official["patches"]
    expected = golden["glmcm"]["scores"]
    suffix = f"T{temperature:g}_lambda"
    parts = detector.score_feature_parts(*arrays)
    for name, values in (
        (f"{resample}_MCM_{suffix}1.0", parts["global"]),
        (f"{resample}_L-MCM_{suffix}1.0", parts["local"]),
        (f"{resample}_GL-MCM_{suffix}{local_weight}", detector.score_features(*arrays)),
    ):
        # The official code returns the negative.
        np.testing.assert_allclose(-values, expected[name], atol=tolerance, rtol=0, err_msg=name)


def test_local_score_is_its_definition() -> None:
    generator = np.random.default_rng(0)
    similarities = generator.uniform(-1, 1, (4, 6, 5))
    exponents = np.exp(similarities / 0.07)
    expected = (exponents / exponents.sum(-1, keepdims=True)).max(axis=(1, 2))
    result = local_mcm_score(torch.from_numpy(similarities), 0.07)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-12)
    assert float(local_mcm_score(torch.ones(1, 3, 8))) == pytest.approx(1 / 8)


def test_one_pass_gives_the_same_image_features(
    builtin_encoder: CLIPEncoder,
    demo_pictures: list[Path],
    encoded: tuple[np.ndarray, np.ndarray],
) -> None:
    features, patches = encoded
    n = len(demo_pictures)
    assert patches.shape == (n, builtin_encoder.n_patches, builtin_encoder.dim) == (n, 36, 256)
    alone = builtin_encoder.encode_images(demo_pictures)
    np.testing.assert_allclose(features, alone, atol=1e-6, rtol=0)
    small = builtin_encoder.encode_patches(demo_pictures, batch_size=3)
    np.testing.assert_allclose(small, patches, atol=1e-5, rtol=0)
    nothing = builtin_encoder.encode_images_and_patches([])
    assert (nothing[0].shape, nothing[1].shape) == ((0, 256), (0, 36, 256))


def test_patches_follow_the_picture(builtin_encoder: CLIPEncoder) -> None:
    """A change in one corner moves the patch features there most."""
    grey = np.full((48, 48, 3), 128, dtype=np.uint8)
    dotted = grey.copy()
    dotted[32:, :16] = (255, 0, 0)
    before, after = builtin_encoder.encode_patches([grey, dotted])
    moved = np.linalg.norm(after - before, axis=1)
    moved = moved.reshape(6, 6)
    assert moved[3:, :3].min() > moved[:2, 4:].max()
    # Patches see their neighbours, so the most moved one may lie just beside the change.
    assert np.argwhere(moved == moved.max()).tolist() in [
        [[i, j]] for i in (3, 4, 5) for j in (0, 1, 2)
    ]


def test_global_part_is_mcm(
    detector: GLMCM, builtin_encoder: CLIPEncoder, encoded: tuple[np.ndarray, np.ndarray]
) -> None:
    mcm = MCM(builtin_encoder, temperature=0.05).fit(NAMES)
    parts = detector.score_feature_parts(*encoded)
    assert list(parts) == detector.part_names_ == ["global", "local"]
    np.testing.assert_array_equal(parts["global"], mcm.score_features(encoded[0]))
    np.testing.assert_array_equal(
        detector.score_features(*encoded), parts["global"] + 0.5 * parts["local"]
    )
    lengths = np.linspace(0.1, 50, builtin_encoder.n_patches)[:, None]
    scaled = detector.score_feature_parts(encoded[0] * 7, encoded[1] * lengths)
    np.testing.assert_allclose(scaled["local"], parts["local"], atol=1e-5)


def test_images_and_features_give_the_same_scores(
    detector: GLMCM,
    demo_pictures: list[Path],
    encoded: tuple[np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = detector.score_features(*encoded)
    np.testing.assert_array_equal(detector.score_samples(demo_pictures), expected)
    monkeypatch.setattr("negrefine.detectors.scoring.SCORE_ROWS", 7)
    monkeypatch.setattr("negrefine.detectors.glmcm._PATCH_ROWS", 48)
    in_chunks = detector.score_samples(demo_pictures, batch_size=4)
    np.testing.assert_allclose(in_chunks, expected, atol=1e-5, rtol=0)
    assert detector.score_samples([]).shape == (0,)


def test_calibration(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path], encoded: tuple[np.ndarray, np.ndarray]
) -> None:
    scores = GLMCM(builtin_encoder).fit(NAMES).score_features(*encoded)
    threshold = float(np.sort(scores)[(len(scores) + 1) // 5 - 1])
    by_images = GLMCM(builtin_encoder).fit(NAMES).calibrate(demo_pictures, 0.2)
    by_features = GLMCM(builtin_encoder).fit(NAMES)
    by_features.calibrate_features(encoded[0], 0.2, patches=encoded[1])
    assert by_images.offset_ == pytest.approx(threshold, abs=1e-7)
    assert by_features.offset_ == threshold
    flagged = by_images.predict(demo_pictures) == -1
    assert 0.2 * len(scores) - 2 <= flagged.sum() <= 0.2 * len(scores)


def test_explanation_names_the_winning_patch(
    detector: GLMCM, demo_pictures: list[Path], encoded: tuple[np.ndarray, np.ndarray]
) -> None:
    features, patches = encoded
    unit = patches / np.linalg.norm(patches, axis=-1, keepdims=True)
    cosines = unit.astype(np.float64) @ detector.class_features_.T.astype(np.float64)
    exponents = np.exp(cosines / 0.05)
    probabilities = exponents / exponents.sum(-1, keepdims=True)
    explanations = detector.explain_features(features, patches=patches)
    for image, explanation in enumerate(explanations):
        flat = int(probabilities[image].argmax())
        patch, name = divmod(flat, len(NAMES))
        found = explanation.patch
        assert found is not None
        assert (found.row, found.column) == divmod(patch, 6)
        assert found.class_name == NAMES[name]
        assert found.similarity == pytest.approx(cosines[image, patch, name], abs=1e-6)
        assert explanation.parts["local"] == pytest.approx(probabilities[image].max(), abs=1e-6)
    alone = detector.explain(demo_pictures[0])
    assert alone.patch is not None
    assert alone.as_dict()["patch"]["class_name"] == alone.patch.class_name
    assert f"row {alone.patch.row}, column {alone.patch.column}" in alone.summary()


def test_save_and_load(
    detector: GLMCM, encoded: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    detector.save(tmp_path / "detector")
    again = load_detector(tmp_path / "detector", device="cpu")
    assert isinstance(again, GLMCM)
    assert (again.temperature, again.local_weight) == (0.05, 0.5)
    np.testing.assert_array_equal(again.score_features(*encoded), detector.score_features(*encoded))
    assert again.identity() == detector.identity()


def test_files_with_a_broken_one_among_them(
    detector: GLMCM, demo_pictures: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    paths = [demo_pictures[0], broken, *demo_pictures[1:4]]
    rows = score_files(detector, paths, batch_size=2)
    assert [row.error is None for row in rows] == [True, False, True, True, True]
    expected = detector.score_parts(demo_pictures[:4])
    for name in ("global", "local"):
        scores = [row.parts[name] for row in rows if row.error is None]
        np.testing.assert_allclose(scores, expected[name], atol=1e-5, rtol=0)
    with pytest.raises(ImageError, match=r"broken\.png"):
        detector.score_samples(paths)


def test_command_line(demo_pictures: list[Path], tmp_path: Path) -> None:
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(NAMES))
    saved = str(tmp_path / "detector")
    run = CliRunner().invoke
    options = ["--method", "glmcm", "--encoder", "builtin", "--local-weight", "0.5"]
    fitted = run(app, ["fit", "--classes", str(classes), "--out", saved, *options])
    assert fitted.exit_code == 0, fitted.output
    images = tmp_path / "images"
    images.mkdir()
    for path in demo_pictures[:3]:
        shutil.copy(path, images)
    table = tmp_path / "scores.jsonl"
    scored = run(app, ["score", saved, str(images), "--out", str(table)])
    assert scored.exit_code == 0, scored.output
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert len(rows) == 3
    for row in rows:
        assert row["score"] == pytest.approx(row["global"] + 0.5 * row["local"], abs=1e-12)
    explained = run(app, ["explain", saved, str(demo_pictures[0])])
    assert "winning patch    row " in explained.output


def test_unusable_input(
    detector: GLMCM, builtin_encoder: CLIPEncoder, encoded: tuple[np.ndarray, np.ndarray]
) -> None:
    features, patches = encoded
    with pytest.raises(InputError, match="encode_images_and_patches"):
        detector.score_features(features)
    with pytest.raises(InputError, match="p, 256"):
        detector.score_features(features, patches[1:])
    with pytest.raises(InputError, match="p, 256"):
        detector.score_features(features, features)
    with pytest.raises(InputError, match="NaN"):
        detector.score_features(features, np.full_like(patches, np.nan))
    with pytest.raises(InputError, match="square grid"):
        detector.explain_features(features, patches=patches[:, 1:])
    with pytest.raises(InputError, match="list of images"):
        detector.score_samples("one.png")
    with pytest.raises(InputError, match="does not use patch"):
        MCM(builtin_encoder).fit(NAMES).score_features(features, patches)
    with pytest.raises(InputError, match="local_weight"):
        GLMCM(builtin_encoder, local_weight=float("nan")).fit(NAMES)
    with pytest.raises(InputError, match="temperature"):
        GLMCM(builtin_encoder, temperature=0).fit(NAMES)
    with pytest.raises(NotFittedError):
        GLMCM(builtin_encoder).score_samples(["a.png"])


def test_encoder_without_patches(builtin_encoder: CLIPEncoder) -> None:
    class Plain:
        name = "plain"
        options: dict[str, Any] = {}  # noqa: RUF012
        fingerprint = "0"
        logit_scale = 100.0
        encode_images = builtin_encoder.encode_images
        encode_texts = builtin_encoder.encode_texts

    with pytest.raises(EncoderError, match="'plain' gives no patch features"):
        GLMCM(Plain()).fit(NAMES)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="'plain' has no 'no' text tower"):
        CLIPN(Plain()).fit(NAMES)  # type: ignore[arg-type]
    assert MCM(Plain()).fit(NAMES).class_features_.shape == (5, 256)
