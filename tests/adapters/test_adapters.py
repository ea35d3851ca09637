"""Bridges to other libraries, with the real libraries where they are installed."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.utils import estimator_checks

from negrefine import GLMCM, MCM, Detector, NegRefine, metrics
from negrefine.adapters.feature_detector import FeatureDetector
from negrefine.adapters.frames import to_arrow, to_pandas, to_polars
from negrefine.adapters.images_from import images_from
from negrefine.benchmarks.bundled import demo_images
from negrefine.encoders import CLIPEncoder, ImageSource, read_image
from negrefine.encoders.base import FloatArray
from negrefine.errors import ImageError, InputError, NotFittedError
from negrefine.evaluation.image_scores import score_files


@pytest.fixture(scope="module")
def pictures() -> list[Path]:
    return [image.path for image in demo_images()][::6]


@pytest.fixture(scope="module")
def features(builtin_encoder: CLIPEncoder, pictures: list[Path]) -> npt.NDArray[np.float32]:
    return builtin_encoder.encode_images(pictures)


@pytest.fixture(scope="module")
def mcm(builtin_encoder: CLIPEncoder) -> MCM:
    return MCM(builtin_encoder).fit(["dog", "cat", "owl", "fish"])


# ------------------------------------------------------------------------------ scikit-learn


def test_outlier_api(mcm: MCM, features: npt.NDArray[np.float32]) -> None:
    outlier = FeatureDetector(mcm, fpr=0.2)
    with pytest.raises(NotFittedError, match="call fit"):
        outlier.predict(features)
    verdicts = outlier.fit_predict(features)
    scores = mcm.score_features(features)
    np.testing.assert_array_equal(outlier.score_samples(features), scores)
    # The calibration images below the floor(0.2 (n + 1))-th smallest.
    assert (verdicts == -1).sum() == (len(features) + 1) // 5 - 1
    np.testing.assert_array_equal(outlier.decision_function(features), scores - outlier.offset_)
    np.testing.assert_array_equal(verdicts == -1, outlier.p_values(features) <= 0.2)
    assert outlier.n_features_in_ == features.shape[1]
    assert mcm.offset_ is None
    with pytest.raises(InputError, match="needs at least 99"):
        FeatureDetector(mcm, fpr=0.01).fit(features)


def test_clones_keep_the_class_names_and_lose_the_threshold(
    mcm: MCM, features: npt.NDArray[np.float32]
) -> None:
    outlier = FeatureDetector(mcm, fpr=0.2).fit(features)
    copy = clone(outlier)
    assert copy.get_params(deep=False)["fpr"] == 0.2
    with pytest.raises(NotFittedError):
        copy.predict(features)
    np.testing.assert_array_equal(copy.fit(features).predict(features), outlier.predict(features))
    copy.set_params(detector__temperature=0.5, fpr=0.5)
    assert mcm.temperature != 0.5
    assert copy.fit(features).offset_ != outlier.offset_


def test_pipeline_and_grid_search(
    detectors: dict[str, Detector], features: npt.NDArray[np.float32]
) -> None:
    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)
    pipeline = make_pipeline(Normalizer(), FeatureDetector(detector, fpr=0.1))
    expected = detector.score_features(features)
    fitted = clone(pipeline).fit(features[:30])
    np.testing.assert_allclose(fitted.score_samples(features), expected, atol=1e-6)
    flagged = fitted.predict(features) == -1
    assert 0 < flagged.sum() < len(features)
    labels = np.where(np.arange(len(features)) % 2, 1, -1)
    search = GridSearchCV(
        FeatureDetector(detector, fpr=0.4),
        {"detector__alpha": [0.0, 2.0]},
        scoring="roc_auc",
        cv=2,
    ).fit(features, labels)
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] != scores[1]
    assert detector.alpha == 2.0


@pytest.mark.parametrize(
    "check",
    [
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_estimator_tags_renamed",
        "check_get_params_invariance",
        "check_mixin_order",
        "check_valid_tag_types",
    ],
)
def test_checks_of_scikit_learn(mcm: MCM, check: str) -> None:
    getattr(estimator_checks, check)("FeatureDetector", FeatureDetector(mcm))


def test_patches_are_refused(builtin_encoder: CLIPEncoder) -> None:
    glmcm = GLMCM(builtin_encoder).fit(["dog", "cat"])
    with pytest.raises(InputError, match="also scores patch features"):
        FeatureDetector(glmcm).fit(np.ones((30, 256)))


# ------------------------------------------------------------------------------- data sets


class Pairs(torch.utils.data.Dataset[Any]):
    """Counts what is read; pictures are tensors as torchvision's ToTensor makes them."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        self.reads.append(i)
        array = np.array(Image.open(self.paths[i]).convert("RGB"))
        return torch.from_numpy(array).permute(2, 0, 1).float() / 255, i


def test_torch_data_sets(mcm: MCM, pictures: list[Path]) -> None:
    dataset = Pairs(pictures)
    images = images_from(dataset)
    assert len(images) == len(pictures)
    assert dataset.reads == []
    expected = mcm.score_samples([Image.open(path).convert("RGB") for path in pictures])
    np.testing.assert_array_equal(mcm.score_samples(images), expected)
    assert dataset.reads == list(range(len(pictures)))
    np.testing.assert_allclose(mcm.score_samples(images[3:9:2]), expected[3:9:2], atol=1e-6)
    assert dataset.reads[len(pictures) :] == [3, 5, 7]
    np.testing.assert_allclose(mcm.score_samples(images[-2:]), expected[-2:], atol=1e-6)
    with pytest.raises(IndexError):
        images[len(pictures)]
    with pytest.raises(InputError, match="tuple of 2, which has no 5"):
        images_from(dataset, 5)[0]


def picture_of(side: int) -> bytes:
    """A bitmap whose header tells of many pixels."""
    content = io.BytesIO()
    Image.new("L", (1, 1)).save(content, "BMP")
    raw = content.getvalue()
    return raw[:18] + side.to_bytes(4, "little") * 2 + raw[26:]


def test_forms_of_images(mcm: MCM, pictures: list[Path]) -> None:
    path = pictures[0]
    picture = Image.open(path).convert("RGB")
    array = np.array(picture)
    forms = [
        *({"image": path}, {"img": picture, "label": 1}, {"image": path.read_bytes()}),
        *({"image": {"bytes": path.read_bytes(), "path": None}}, array, (picture, 3)),
        {"image": {"bytes": None, "path": str(path)}},
        torch.from_numpy(array).permute(2, 0, 1),
    ]
    scores = mcm.score_samples(images_from(forms))
    np.testing.assert_allclose(scores, mcm.score_samples([picture])[0], atol=1e-6)
    for item, error, said in (
        ({"picture": path}, InputError, "no 'image' or 'img', only 'picture'"),
        ({"image": None}, ImageError, "has no image"),
        ({"image": b"nothing"}, ImageError, "is not an image"),
        (
            {"image": picture_of(60_000)},
            ImageError,
            "Item 0 of the data set is not an image.*limit",
        ),
        (torch.full((3, 4, 4), 1.5), InputError, "go from 1.5 to 1.5 and are no whole numbers"),
        (torch.zeros(5, 4, 4), InputError, r"shape \(5, 4, 4\)"),
    ):
        with pytest.raises(error, match=said):
            images_from([item])[0]
    with pytest.raises(InputError, match="generator cannot be indexed"):
        images_from(item for item in forms)


def test_values_of_tensors() -> None:
    levels = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    for tensor in (
        *(levels, levels.long(), levels.float(), levels[None], levels[None].double() / 255),
        *((levels / 255).bfloat16(), levels.to(torch.int32) * 257),
    ):
        assert images_from([tensor])[0].tolist() == [[0, 51, 255]]
    coloured = torch.stack([levels, levels, levels, torch.tensor([[0, 255, 255]])]).float() / 255
    assert images_from([coloured])[0].tolist() == [[[0, 0, 0, 0], [51] * 3 + [255], [255] * 4]]
    with pytest.raises(ImageError, match="Item 0 of the data set: its values go from -1 to 2"):
        images_from([torch.tensor([[-1.0, 2.0]])])[0]


def test_hugging_face_data_sets(mcm: MCM, pictures: list[Path]) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"photo": [str(path) for path in pictures], "label": list(range(len(pictures)))}
    dataset = datasets.Dataset.from_dict(rows).cast_column("photo", datasets.Image())
    expected = mcm.score_samples(pictures)
    np.testing.assert_allclose(
        mcm.score_samples(images_from(dataset, "photo")), expected, atol=1e-6
    )
    undecoded = dataset.cast_column("photo", datasets.Image(decode=False))
    found = mcm.score_samples(images_from(undecoded, "photo"))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(InputError, match="no column 'image', only photo, label"):
        images_from(dataset, "image")
    with pytest.raises(InputError, match="cannot be indexed"):
        images_from(dataset.to_iterable_dataset())


# ----------------------------------------------------------------------------- pytorch-ood


def test_pytorch_ood(mcm: MCM, pictures: list[Path], features: npt.NDArray[np.float32]) -> None:
    pytest.importorskip("pytorch_ood", exc_type=ImportError)
    from pytorch_ood.api import Detector as TheirDetector
    from pytorch_ood.metrics import OODMetrics

    from negrefine.adapters.pytorch_ood import OutlierScores

    adapter = OutlierScores(mcm)
    assert isinstance(adapter, TheirDetector)
    assert adapter.fit(None) is adapter
    scores = mcm.score_features(features)
    outlier = adapter.predict_features(torch.from_numpy(features))
    np.testing.assert_array_equal(outlier.numpy(), -scores)
    ood = np.arange(len(features)) % 3 == 0
    measured = OODMetrics()
    measured.update(outlier, torch.from_numpy(np.where(ood, -1, 0)))
    result = measured.compute()
    assert float(result["AUROC"]) == pytest.approx(metrics.auroc(scores[~ood], scores[ood]))
    theirs = metrics.fpr95_ood_positive(scores[~ood], scores[ood])
    assert float(result["FPR95TPR"]) == pytest.approx(theirs)
    batch = torch.stack(
        [
            torch.from_numpy(np.array(Image.open(p).convert("RGB").resize((80, 60))))
            for p in pictures[:4]
        ]
    ).permute(0, 3, 1, 2)
    arrays = [image.permute(1, 2, 0).numpy() for image in batch]
    expected = -mcm.score_samples(arrays)
    np.testing.assert_array_equal(adapter(batch).numpy(), expected)
    np.testing.assert_array_equal(adapter(batch.float() / 255).numpy(), expected)
    with pytest.raises(InputError, match="no whole numbers"):
        adapter(batch.float() / 128 + 0.001)
    np.testing.assert_array_equal(adapter(batch.float()).numpy(), expected)
    with pytest.raises(InputError, match=r"\(B, 3, H, W\)"):
        adapter(batch[0])


def test_pytorch_ood_is_an_extra() -> None:
    try:
        import pytorch_ood  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r"negrefine\[pytorch-ood\]"):
            import negrefine.adapters.pytorch_ood  # noqa: F401
    else:
        pytest.skip("pytorch-ood is installed")


# ---------------------------------------------------------------------------------- tables


def test_tables(
    detectors: dict[str, Detector],
    pictures: list[Path],
    features: npt.NDArray[np.float32],
    tmp_path: Path,
) -> None:
    original = detectors["negrefine"]
    assert isinstance(original, NegRefine)
    detector = original.with_filter("none")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    paths = [*pictures[:3], tmp_path / "broken.png"]
    bare = to_arrow(score_files(detector, paths))
    assert bare.column_names == [
        *("path", "score", "neglabel", "multi_match", "verdict", "nearest_class", "similarity"),
        *("runner_up", "runner_up_similarity", "nearest_negative", "negative_similarity", "error"),
    ]
    detector.calibrate_features(features, 0.2)
    table = to_arrow(score_files(detector, paths))
    assert table.column_names[4] == "p_value"
    assert table["p_value"].to_pylist() == [*detector.p_values(pictures[:3]).tolist(), None]
    assert str(table.schema.field("score").type) == "double"
    assert to_arrow([]).num_rows == 0
    buffer = io.BytesIO()
    pytest.importorskip("pandas")
    frame = to_pandas(score_files(detector, paths))
    frame.to_parquet(buffer)
    assert frame["score"].notna().tolist() == [True, True, True, False]
    assert frame["error"].iloc[3].startswith(str(paths[3]))
    pytest.importorskip("polars")
    assert to_polars(score_files(detector, paths))["score"].to_list() == table["score"].to_pylist()


# ----------------------------------------------------------------------- encoders of one's own


class MeanColour:
    """The least that an encoder needs: an image is its mean colour, a text the colours it names."""

    name = "mean-colour"
    options: dict[str, Any] = {}  # noqa: RUF012
    fingerprint = "0" * 64
    logit_scale = 10.0

    def encode_images(self, images: Sequence[ImageSource], batch_size: int = 64) -> FloatArray:  # noqa: ARG002
        return np.stack([np.asarray(read_image(i), np.float32).mean((0, 1)) for i in images])

    def encode_texts(self, texts: Sequence[str], batch_size: int = 64) -> FloatArray:  # noqa: ARG002
        return np.array([[c in text for c in ("red", "green", "blue")] for text in texts], "f4")


def test_adapters_take_any_encoder(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (30, 3))
    pictures = [np.full((8, 8, 3), colour, np.uint8) for colour in colours]
    detector = MCM(MeanColour()).fit(["red", "green"])
    similarity = colours[:, :2] / np.linalg.norm(colours, axis=1, keepdims=True)
    expected = np.exp(similarity).max(1) / np.exp(similarity).sum(1)
    scores = detector.score_samples(images_from(pictures))
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
    outlier = FeatureDetector(detector, fpr=0.2).fit(colours)
    np.testing.assert_allclose(outlier.score_samples(colours), expected, rtol=1e-6)
    Image.fromarray(pictures[0]).save(tmp_path / "a.png")
    (table,) = to_arrow(score_files(detector, [tmp_path / "a.png"])).to_pylist()
    assert table["score"] == pytest.approx(expected[0])
