"""A detector with the API of pytorch-ood, where larger scores mean out-of-distribution."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from negrefine.adapters.images_from import tensor_as_array
from negrefine.detectors.base import Detector
from negrefine.errors import InputError

try:
    _Base: Any = import_module("pytorch_ood.api").Detector
except ImportError as error:
    raise InputError(
        "The pytorch-ood adapter needs pytorch-ood, which needs torchvision: "
        "pip install 'negrefine[pytorch-ood]'."
    ) from error


class OutlierScores(_Base):  # type: ignore[misc]
    """The negated scores of a `negrefine` detector that was fitted on class names.

    `pytorch_ood.metrics.OODMetrics` then returns the AUROC of `negrefine.metrics.auroc`. Its
    FPR95TPR is `negrefine.metrics.fpr95_ood_positive`, not the `fpr95` of the papers.
    """

    requires_fit = False

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def fit(self, *_: Any, **__: Any) -> Self:
        """Do nothing: the detector has been fitted on class names."""
        return self

    fit_features = fit

    def predict(self, x: Tensor) -> Tensor:
        """Return outlier scores of images, float64 (B,), on the device of `x`.

        `x` is (B, 3, H, W), uint8 or floating point from 0 to 1 (torchvision's ToTensor), not
        normalised: the encoder resizes, crops and normalises. InputError for other shapes or
        numbers.
        """
        if x.ndim != 4:
            raise InputError(f"Images must have shape (B, 3, H, W), not {tuple(x.shape)}.")
        images = [tensor_as_array(image, f"Image {i} of the batch") for i, image in enumerate(x)]
        return -torch.from_numpy(self.detector.score_samples(images)).to(x.device)

    def predict_features(self, x: Tensor) -> Tensor:
        """Return outlier scores of image features (B, d), float64 (B,), on the device of `x`."""
        scores = self.detector.score_features(x)
        return -torch.from_numpy(scores).to(x.device)
