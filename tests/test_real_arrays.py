"""Numbers in any container: the right value, or one sentence."""

from __future__ import annotations

import warnings
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
import torch
from scipy import sparse

from negrefine import MCM
from negrefine.adapters.feature_detector import FeatureDetector
from negrefine.benchmarks.bundled import demo_class_names
from negrefine.errors import InputError
from negrefine.evaluation.sweep import sweep
from negrefine.metrics import (
    aupr_in,
    aupr_out,
    auroc,
    fpr95,
    fpr95_interpolated,
    fpr95_ood_positive,
    operating_point,
)

INSIDE, OUTSIDE = [0.75, 0.5, 0.25, 1.0], [0.25, 0.0, 0.5]
METRICS = [
    auroc, aupr_in, aupr_out, fpr95, fpr95_interpolated, fpr95_ood_positive, operating_point
]  # fmt: skip


def quantised(tensor: torch.Tensor, scale: float, kind: torch.dtype) -> torch.Tensor:
    with warnings.catch_warnings():
        # Deprecated, but such tensors are in the world.
        warnings.simplefilter("ignore")
        return torch.quantize_per_tensor(tensor, scale, 0, kind)


SAME: list[Any] = [
    tuple(INSIDE),
    np.array(INSIDE, np.float16),
    np.array(INSIDE, object),
    np.ma.MaskedArray(INSIDE),
    [Decimal("0.75"), Decimal("0.5"), 0.25, 1],
    torch.tensor(INSIDE, requires_grad=True),
    torch.tensor(INSIDE).bfloat16(),
    torch.tensor(INSIDE).to(torch.float8_e4m3fn),
    torch.tensor(INSIDE, dtype=torch.float64).to_sparse(),
    quantised(torch.tensor(INSIDE), 0.25, torch.quint8),
    [torch.tensor(x, requires_grad=True) for x in INSIDE],
    torch.tensor([complex(0, x) for x in INSIDE]).conj().imag.neg(),
]


@pytest.mark.parametrize("scores", SAME, ids=lambda scores: str(type(scores)))
@pytest.mark.parametrize("metric", METRICS)
def test_metrics_of_any_container(metric: Any, scores: Any) -> None:
    assert metric(scores, OUTSIDE) == metric(INSIDE, OUTSIDE)
    assert metric(OUTSIDE, scores) == metric(OUTSIDE, INSIDE)


def test_tensors_keep_their_precision() -> None:
    close = torch.tensor([1.0, 1.0 + 1e-12], dtype=torch.float64)
    assert auroc(close[1:], close[:1]) == 1.0


REFUSED: list[Any] = [
    (np.array(INSIDE, complex), "must be real numbers, not complex"),
    (torch.tensor(INSIDE).to(torch.complex64), "must be real numbers, not complex"),
    ([1 + 2j, 3.0], "must be real numbers, not complex"),
    (np.array([1 + 2j], object), "not an array of numbers"),
    (np.ma.MaskedArray(INSIDE, [0, 1, 0, 0]), "masked in places"),
    ([np.ma.masked, 1.0], "masked in places"),
    (["0.5", "0.25"], "must be real numbers"),
    (np.array(["0.5", "0.25"], object), "not an array of numbers .one is of type str"),
    ([None, 0.5], "not an array of numbers .one is of type NoneType"),
    ([True, False], "must be real numbers, not bool"),
    ([[0.5], [0.5, 1.0]], "not an array of numbers"),
    ([10**400, 1], "not an array of numbers"),
    ((x for x in INSIDE), "not an array of numbers"),
    ({0.5, 1.0}, "not an array of numbers"),
    (torch.zeros(3, device="meta"), "device 'meta'"),
    ([torch.zeros(3), torch.zeros(2)], "not an array of numbers"),
    ([0.5, float("nan")], "holds NaN or infinity"),
    (torch.tensor([0.5, torch.inf]), "holds NaN or infinity"),
    ([], "non-empty"),
    ([[0.5]], "one-dimensional"),
    (0.5, "one-dimensional"),
]


@pytest.mark.parametrize(("scores", "sentence"), REFUSED)
@pytest.mark.parametrize("metric", METRICS)
def test_metrics_refuse_what_is_no_score(metric: Any, scores: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=f"^ood_scores .*{sentence}"):
        metric(INSIDE, scores)


@pytest.fixture
def detector(own_encoder: Any) -> MCM:
    return MCM(own_encoder).fit(demo_class_names())


def test_features_of_any_container(detector: MCM) -> None:
    features = np.random.default_rng(0).integers(-3, 4, (20, 8)).astype(np.float32) + 0.5
    features[features < 0] = 0
    expected = detector.score_features(features)
    tensor = torch.from_numpy(features)
    with warnings.catch_warnings():
        # "Sparse CSR tensor support is in beta state."
        warnings.simplefilter("ignore")
        in_rows = tensor.to_sparse_csr()
    for same in (
        in_rows,
        in_rows.to_sparse_csc(),
        sparse.csr_matrix(features),
        quantised(tensor, 0.5, torch.qint32),
        list(tensor.clone().requires_grad_()),
        [list(row) for row in tensor],
        list(np.ma.MaskedArray(features)),
        tensor.double(),
    ):
        np.testing.assert_array_equal(detector.score_features(same), expected)
        FeatureDetector(detector, fpr=0.1).fit(same)
    masked = np.ma.MaskedArray(features, np.eye(20, 8))
    for bad, sentence in (
        (tensor.to("meta"), "device 'meta'"),
        (list(masked), "masked in places"),
        (list(tensor.to(torch.complex64)), "not complex"),
        (features.astype(np.float64) * 1e300, "NaN or infinity"),
    ):
        with pytest.raises(InputError, match=f"Image features .*{sentence}"):
            detector.score_features(bad)


@pytest.mark.parametrize("value", [0.0, 1e-44, -0.0])
def test_a_row_of_zeros_has_no_score(detector: MCM, value: float) -> None:
    features = np.ones((5, 8))
    features[[2, 4]] = value
    for use in (
        detector.score_features,
        detector.nearest_classes,
        detector.calibrate_features,
        FeatureDetector(detector).fit,
    ):
        with pytest.raises(InputError, match="2 rows of nothing but zeros, the first at index 2"):
            use(features)


def test_a_sweep_takes_tensors_and_refuses_zeros(own_encoder: Any, small_lexicon: Any) -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(size=(2, 6, 8)).astype(np.float32)
    options = {
        "grid": {"n_groups": [3], "top_fraction": [0.8], "k": [2], "n_candidates": [2]},
        "judge": "none",
        "lexicon": small_lexicon,
        "lexicon_files": "full",
        "official": False,
    }

    def run(features: Any, other: Any) -> Any:
        return sweep(own_encoder, ["cat", "dog"], features, {"x": other}, **options)

    tensors = torch.from_numpy(inside).requires_grad_(), list(torch.from_numpy(outside))
    assert run(*tensors) == run(inside, outside)
    with pytest.raises(InputError, match="6 rows of nothing but zeros"):
        run(inside, 0 * outside)


def test_calibrates_with_a_generator(detector: MCM, demo_pictures: Any) -> None:
    whole = detector.with_params().calibrate(demo_pictures, 0.2)
    lazy = detector.with_params().calibrate((path for path in demo_pictures), 0.2)
    assert lazy.offset_ == whole.offset_
    with pytest.raises(InputError, match="images must be a list of images"):
        detector.calibrate(5, 0.2)  # type: ignore[arg-type]
