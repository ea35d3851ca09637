"""Detectors as ONNX models: onnxruntime computes what the detector computes."""

from __future__ import annotations

import json
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from encoders import family_models
from negrefine import (
    CLIPN,
    CSP,
    GLMCM,
    MCM,
    Detector,
    Energy,
    Lexicon,
    MaxLogit,
    NegLabel,
    NegRefine,
    load_encoder,
)
from negrefine.adapters.onnx_compare import compare_onnx
from negrefine.adapters.onnx_description import exported_score
from negrefine.adapters.onnx_export import check_onnx, export_onnx, open_session
from negrefine.adapters.onnx_graph import ScoreGraph, traced
from negrefine.benchmarks.bundled import demo_images
from negrefine.detectors.mcm import RULES
from negrefine.encoders import CLIPEncoder
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
    """Detectors of every method with parameters drawn at random, some with thresholds."""
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
            for rule in RULES
        },
        "energy": Energy(encoder, temperature=0.3),
        "maxlogit": MaxLogit(encoder),
        "clipn": CLIPN(encoder, logit_scale=7.0),
        "clipn ctw": CLIPN(encoder, rule="ctw", logit_scale=7.0),
        "neglabel": NegLabel(encoder, **negative_labels()),
        "neglabel lost formula": NegLabel(encoder, **{**negative_labels(), "n_groups": 1}),
        "neglabel no label": NegLabel(encoder, **{**negative_labels(), "n_groups": 900}),
        "neglabel fewer groups": NegLabel(
            encoder, **{**negative_labels(), "n_groups": 6}, group_fuse_num=3
        ),
        "csp ragged": CSP(
            encoder, **{**negative_labels(), "n_groups": 7}, official=False, group_seed=5
        ),
        "negrefine": NegRefine(encoder, judge="none", alpha=0.0, **negative_labels()),
    }
    with warnings.catch_warnings():
        # Of a name that is there twice, and of groups that no label fills.
        warnings.simplefilter("ignore")
        return {name: each.fit(NAMES) for name, each in unfitted.items()}


class Together(nn.Module):
    """Several graphs in one, because exporting takes seconds."""

    def __init__(self, graphs: list[ScoreGraph]) -> None:
        super().__init__()
        self.graphs = nn.ModuleList(graphs)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        return tuple(each for graph in self.graphs for each in graph(pixels))


def test_every_method_has_the_scores_classes_and_verdicts_of_the_detector(
    clipn: CLIPEncoder, small_lexicon: Lexicon
) -> None:
    detectors = random_detectors(clipn, small_lexicon)
    many = clipn.encode_pixels(list(noise(clipn, 60)))[0]
    detectors["neglabel"].calibrate_features(many, fpr=0.2, by="class")
    assert len(set(detectors["neglabel"].class_offsets_.tolist())) > 1  # type: ignore[union-attr]
    for name in ("mcm mcm", "csp ragged"):
        detectors[name].calibrate_features(many, fpr=0.3)
    assert (detectors["csp ragged"].groups_ < 0).any()  # type: ignore[attr-defined]
    graphs = {name: ScoreGraph(each).eval() for name, each in detectors.items()}
    names = [f"{name}: {output}" for name, graph in graphs.items() for output in graph.output_names]
    program = traced(Together(list(graphs.values())), torch.from_numpy(noise(clipn, 2)), names)
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
        exported_score(GLMCM(clipn).fit(["dog", "cat"]))
    with pytest.raises(InputError, match="object of its own"):
        exported_score(MCM(own_encoder).fit(["dog", "cat"]))
    half = load_encoder(clipn.name, device="cpu", dtype="bfloat16", cache=False)
    with pytest.raises(InputError, match="dtype='float32'"):
        exported_score(MCM(half).fit(["dog", "cat"]))
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
