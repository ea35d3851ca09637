"""Detectors as ONNX models: onnxruntime computes what the detector computes."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import ExifTags, Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from encoders import family_models
from negrefine import (
    CLIPN,
    CSP,
    EOE,
    GLMCM,
    MCM,
    VSNL,
    Detector,
    Energy,
    Lexicon,
    NegLabel,
    NegRefine,
    load_encoder,
)
from negrefine.adapters.onnx_compare import compare_onnx
from negrefine.adapters.onnx_description import exported_score, prepared_how
from negrefine.adapters.onnx_export import export_onnx
from negrefine.adapters.onnx_files import check_onnx, open_session
from negrefine.adapters.onnx_graph import ScoreHead, traced
from negrefine.benchmarks.bundled import demo_images
from negrefine.cli.app import app
from negrefine.encoders import CLIPEncoder
from negrefine.encoders.images import use_scored
from negrefine.errors import ImageError, InputError

NAMES = ["dog", "cat", "horse", "owl", "fish", "dog", "frog"]
Pixels = npt.NDArray[np.float32]


def noise(encoder: CLIPEncoder, n: int) -> Pixels:
    size = encoder.preprocessing.output_size
    assert size is not None
    return np.random.default_rng(n).normal(size=(n, 3, *size)).astype(np.float32)


@pytest.fixture(scope="module")
def clipn(tmp_path_factory: pytest.TempPathFactory) -> CLIPEncoder:
    """A tiny random CLIP with a second text tower."""
    folder = family_models.save("metaclip_2", tmp_path_factory.mktemp("clipn") / "model")
    tensors = load_file(folder / "model.safetensors")
    no_tower = {name: -each for name, each in tensors.items() if name.startswith("text_")}
    save_file(no_tower, folder / "no_text_model.safetensors")
    return load_encoder(folder, device="cpu", cache=False)


def random_detectors(encoder: CLIPEncoder, lexicon: Lexicon) -> dict[str, Detector]:
    """Detectors with parameters drawn at random, some with thresholds."""
    draw = np.random.default_rng(0)

    def negative_labels() -> dict[str, Any]:
        return {
            "lexicon": lexicon,
            "lexicon_files": "full",
            "top_fraction": float(draw.uniform(0.4, 0.9)),
            "n_groups": int(draw.integers(2, 9)),
            "seed": int(draw.integers(100)),
            "logit_scale": float(draw.uniform(5, 60)),
        }

    unfitted: dict[str, Detector] = {
        **{
            f"mcm {rule}": MCM(encoder, rule=rule, temperature=float(draw.uniform(0.1, 2)))
            for rule in ("mcm", "entropy", "variance")
        },
        "energy": Energy(encoder, temperature=0.3),
        "eoe": EOE(encoder, lexicon=lexicon, lexicon_files="full", top_fraction=0.5, beta=0.7),
        "clipn": CLIPN(encoder, logit_scale=7.0),
        "neglabel": NegLabel(encoder, **{**negative_labels(), "n_groups": 6}, group_fuse_num=4),
        "neglabel lost formula": NegLabel(encoder, **{**negative_labels(), "n_groups": 1}),
        "neglabel no label": NegLabel(encoder, **{**negative_labels(), "n_groups": 900}),
        "csp ragged": CSP(
            encoder,
            **{**negative_labels(), "n_groups": 9},
            official=False,
            group_seed=5,
        ),
        "negrefine proposed": NegRefine(
            encoder, **negative_labels(), judge="none", alpha=0, propose="wordnet", n_proposed=2
        ),
        "vsnl": VSNL(encoder, judge="none", group_length=9, logit_scale=20.0),
    }
    with warnings.catch_warnings():
        # Of a name that is there twice, and of groups that no label fills.
        warnings.simplefilter("ignore")
        return {name: each.fit(NAMES) for name, each in unfitted.items()}


class Together(nn.Module):
    """The scores of several detectors on one image tower, because exporting takes seconds."""

    def __init__(self, tower: nn.Module, heads: Iterable[ScoreHead]) -> None:
        super().__init__()
        self.tower, self.heads = tower, nn.ModuleList(heads)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        features = self.tower(pixels)
        return tuple(each for head in self.heads for each in head(features))


def test_every_formula_gives_the_scores_classes_and_verdicts_of_the_detector(
    clipn: CLIPEncoder, small_lexicon: Lexicon
) -> None:
    detectors = random_detectors(clipn, small_lexicon)
    many = clipn.encode_pixels(list(noise(clipn, 60)))[0]
    detectors["neglabel"].calibrate_features(many, fpr=0.2, by="class")
    assert len(set(detectors["neglabel"].class_offsets_.tolist())) > 1  # type: ignore[union-attr]
    for name in ("mcm mcm", "csp ragged"):
        detectors[name].calibrate_features(many, fpr=0.3)
    assert (detectors["csp ragged"].groups_ < 0).any()  # type: ignore[attr-defined]
    heads = {name: ScoreHead(each) for name, each in detectors.items()}
    names = [f"{name}: {output}" for name, head in heads.items() for output in head.output_names]
    together = Together(clipn.image_tower(), heads.values()).eval()
    program = traced(together, torch.from_numpy(noise(clipn, 2)), names)
    session = open_session(program.model_proto.SerializeToString())
    flagged = 0
    for n in (1, 7):
        pixels = noise(clipn, n)
        features = clipn.encode_pixels(list(pixels))[0]
        found = dict(zip(names, session.run(names, {"pixels": pixels}), strict=True))
        for name, detector in detectors.items():
            scores = found[f"{name}: scores"]
            assert scores.dtype == np.float64
            expected = detector.score_features(features)
            np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6, err_msg=name)
            nearest, cosines = detector.nearest_classes(features, top=1)
            np.testing.assert_array_equal(found[f"{name}: class_index"], nearest[:, 0])
            np.testing.assert_allclose(found[f"{name}: class_similarity"], cosines[:, 0], atol=1e-6)
            if detector.offset_ is None:
                assert f"{name}: is_in_distribution" not in names
                continue
            verdicts = detector.predict_features(features)
            np.testing.assert_array_equal(found[f"{name}: is_in_distribution"], verdicts > 0)
            flagged += int((verdicts < 0).sum())
    assert flagged > 0
    assert len(set(detectors["neglabel"].predicted_classes(many).tolist())) > 2


def test_builtin_photo_in_a_file_that_says_what_it_holds(tmp_path: Path) -> None:
    encoder = load_encoder("builtin-photo", device="cpu", cache=False)
    detector = MCM(encoder, temperature=0.02).fit(["tabby cat", "daisy", "fire truck"])
    pixels = noise(encoder, 7)
    features = encoder.encode_pixels(list(pixels))[0]
    with torch.inference_mode():
        at_once = encoder.image_tower()(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(at_once, features, atol=1e-5)
    detector.calibrate_features(features, fpr=0.3)
    stages: list[str] = []
    file = tmp_path / "new" / "photo.onnx"
    n_bytes = export_onnx(exported_score(detector), file, stage=stages.append)
    assert len(stages) == 2
    assert file.stat().st_size == n_bytes
    assert [each.name for each in (tmp_path / "new").iterdir()] == ["photo.onnx"]
    # No path of the machine that made it, which the exporter notes for each node.
    content = file.read_bytes()
    assert b".py" not in content
    session = open_session(file)
    for batch in (pixels[:1], pixels):
        scores, inside = session.run(["scores", "is_in_distribution"], {"pixels": batch})
        np.testing.assert_allclose(
            scores, detector.score_features(features[: len(batch)]), atol=1e-6
        )
        np.testing.assert_array_equal(inside, scores >= detector.offset_)
    about = json.loads(session.get_modelmeta().custom_metadata_map["negrefine"])
    assert about["method"] == "mcm"
    assert about["parameters"]["temperature"] == 0.02
    assert about["class_names"] == detector.class_names_
    assert about["threshold"] == detector.offset_
    assert about["calibration"] == {"fpr": 0.3, "delta": None, "by": None}
    assert about["detector"] == detector.identity()
    assert about["encoder"] == {"name": "builtin-photo", "fingerprint": encoder.fingerprint}
    assert about["left_out"] is None
    assert about["preprocessing"]["mean"] == list(encoder.preprocessing.mean)

    pictures = [image.path for image in demo_images()][::40]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    found = compare_onnx(file, detector, [*pictures, broken], batch_size=3)
    assert found.n == len(pictures)
    assert found.largest_difference < 1e-5
    assert found.n_different == 0
    assert found.n_flagged[0] == found.n_flagged[1] == (detector.predict(pictures) < 0).sum()
    assert found.rank_correlation == pytest.approx(1)
    assert len(found.errors) == 1
    assert found.errors[0].startswith(str(broken))
    with pytest.raises(ImageError, match="None of the 1 images could be read"):
        compare_onnx(file, detector, [broken])

    # Our own file may be replaced, and nobody else's.
    assert check_onnx(file) == file
    other = tmp_path / "other.onnx"
    shutil.copy(broken, other)
    with pytest.raises(InputError, match="exists and is not what negrefine writes"):
        export_onnx(exported_score(detector), other)
    assert other.read_bytes() == b"nothing"


def test_what_cannot_be_exported_is_refused_in_a_sentence(
    clipn: CLIPEncoder,
    small_lexicon: Lexicon,
    own_encoder: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InputError, match="GL-MCM cannot be exported"):
        exported_score(GLMCM(clipn, temperature=2.0).fit(["dog", "cat"]))
    with pytest.raises(InputError, match="object of its own"):
        exported_score(MCM(own_encoder).fit(["dog", "cat"]))
    half = load_encoder(clipn.name, device="cpu", dtype="bfloat16", cache=False)
    with pytest.raises(InputError, match="dtype='float32'"):
        exported_score(MCM(half, temperature=2.0).fit(["dog", "cat"]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*long texts are cut")
        whole = NegRefine(
            clipn, judge="none", lexicon=small_lexicon, lexicon_files="full", n_groups=2
        ).fit(["dog", "cat"])
    whole.offset_ = 1.5
    part = exported_score(whole)
    assert part.detector.offset_ is None
    assert part.detector.part_names_ == ["neglabel"]
    assert part.source == whole.identity() != part.detector.identity()
    assert str(part.left_out).startswith("S_MM is left out")
    with pytest.raises(InputError, match=r"end its name in \.onnx"):
        check_onnx(tmp_path / "model.bin")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"pip install 'negrefine\[onnx\]'"):
        export_onnx(part, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def example() -> str:
    """Return the program of the documentation."""
    text = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    program: str = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    return program


def odd_pictures(folder: Path) -> list[Path]:
    """Write a photograph that lies on its side, and a picture with transparent pixels."""
    colours = np.random.default_rng(3).integers(0, 256, (50, 83, 4), dtype=np.uint8)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.fromarray(colours[:, :, :3]).save(folder / "turned.jpg", exif=turned)
    Image.fromarray(colours).save(folder / "transparent.png")
    return [folder / "turned.jpg", folder / "transparent.png"]


@pytest.mark.parametrize(
    "changes",
    [
        {"resize": 40, "crop": (32, 37)},
        {"resize": 40, "crop": (60, 30), "whole": True, "fill": 90, "resample": "bilinear"},
        {"resize": (21, 35), "crop": None, "resample": "lanczos"},
        {"resize": None, "crop": (33, 61), "rescale_factor": 1 / 127.5},
    ],
)
def test_the_metadata_say_how_images_are_prepared(
    changes: dict[str, Any], clipn: CLIPEncoder, tmp_path: Path
) -> None:
    encoder = SimpleNamespace(
        preprocessing=replace(clipn.preprocessing, **changes),
        exif_orientation="fill" not in changes,
        background=(255, 200, 0),
    )
    how = json.loads(json.dumps(prepared_how(encoder)))  # type: ignore[arg-type]
    program: dict[str, Any] = {}
    exec(example().partition("model, *paths")[0], program)  # noqa: S102 - the documentation's
    for path in odd_pictures(tmp_path):
        expected = use_scored(encoder, path, encoder.preprocessing)
        np.testing.assert_allclose(program["prepare"](path, how), expected, atol=1e-5)


def test_a_siglip_goes_from_the_command_line_to_a_program_without_torch(
    small_lexicon: Lexicon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder = load_encoder(
        family_models.save("siglip", tmp_path / "siglip"), device="cpu", cache=False
    )
    known, pictures = tmp_path / "known", tmp_path / "pictures"
    known.mkdir()
    pictures.mkdir()
    paths = odd_pictures(pictures)
    for i, image in enumerate(demo_images()[::10]):
        target = shutil.copy(image.path, (known, pictures)[i % 2] / image.path.name)
        paths += [target] if i % 2 else []
    good = sorted(known.iterdir())
    detector = NegRefine(
        encoder, judge="none", lexicon=small_lexicon, lexicon_files="full", n_groups=3
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*long texts are cut")
        detector.fit(NAMES[:5]).calibrate(good, fpr=0.25).save(tmp_path / "detector")
        whole = detector.predict(paths)
        arguments = ("export", tmp_path / "detector", "--onnx", tmp_path / "out.onnx")
        folders = ("--calibrate", known, "--compare", pictures)
        assert not app([str(each) for each in (*arguments, *folders)], standalone_mode=False)
    shown = capsys.readouterr()
    part = detector.with_params(alpha=0.0).calibrate(good, fpr=0.25)
    flagged, n_different = (part.predict(paths) < 0).sum(), (part.predict(paths) != whole).sum()
    assert "\nS_MM is left out, because it needs the text tower" in shown.err
    assert "Calibrated the exported score: threshold" in shown.err
    assert "false-alarm rate <= 0.25" in shown.err
    wrote, ranks, verdicts = shown.out.splitlines()
    assert wrote.startswith(f"Wrote {tmp_path / 'out.onnx'}: NegRefine, 5 class names, with its")
    assert f"{len(paths)} images: rank correlation" in ranks
    assert verdicts.startswith(f"{n_different} of {len(paths)} images")
    assert verdicts.endswith(f"flags {(whole < 0).sum()}, the model {flagged}.")

    (tmp_path / "example.py").write_text(example(), encoding="utf-8")
    program = [sys.executable, str(tmp_path / "example.py"), str(tmp_path / "out.onnx")]
    done = subprocess.run([*program, *map(str, paths)], capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    assert [Path(row[0]) for row in rows] == paths
    np.testing.assert_allclose([float(r[1]) for r in rows], part.score_samples(paths), atol=1e-4)
    features = encoder.encode_images(paths)
    assert [row[2] for row in rows] == [NAMES[k] for k in part.predicted_classes(features)]
    assert [row[3] for row in rows] == [str(bool(each > 0)) for each in part.predict(paths)]
