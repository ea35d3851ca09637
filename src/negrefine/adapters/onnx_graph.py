"""The score of a detector, from prepared pixels, as a module that `torch.export` can trace."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from negrefine.detectors.base import Detector
from negrefine.detectors.image_block import ImageBlock, of_length_one
from negrefine.encoders.clip import CLIPEncoder

# The oldest into which torch translates without converting again, for runtimes of any age.
_OPSET = 18

OUTPUTS = ("scores", "class_index", "class_similarity", "is_in_distribution")
"""Names of the results in order; the last one is there only if there is a threshold."""


class ScoreGraph(nn.Module):
    """Image tower, frozen label features, score and verdict: the detector's own formulas.

    Features have the dtype of the tower; everything after them is float64, as in the detector,
    because NegLabel's scores of in-distribution images differ from 1 by less than float32 can tell.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        assert isinstance(detector.encoder, CLIPEncoder)  # noqa: S101 - `check_exportable`
        self.tower = detector.encoder.image_tower()
        self._detector = _with_drawn_groups(detector)
        self._hold("class_features", torch.from_numpy(detector.class_features_))
        if detector.negatives_ is not None:
            self._hold("negative_features", torch.from_numpy(detector.negatives_.kept_features))
        distinct = sorted(detector.class_indices().values())
        self._all_differ = len(distinct) == len(detector.class_names_)
        self._hold("distinct", torch.tensor(distinct))
        by_class, threshold = detector.class_offsets_, detector.offset_
        self._decides = threshold is not None
        if threshold is not None:
            offsets = [threshold] if by_class is None else by_class.tolist()
            self._hold("thresholds", torch.tensor(offsets, dtype=torch.float64))

    def _hold(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values.clone())

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of what `forward` returns."""
        return OUTPUTS if self._decides else OUTPUTS[:-1]

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return scores, nearest class, its cosine, and whether in-distribution, each (n,)."""
        features = of_length_one(self.tower(pixels).double())
        classes = features @ self.class_features.double().T
        block = ImageBlock(
            features, None, self._detector.class_features_, self._detector.negatives_
        ).with_cosines(classes=classes)
        if self._detector.negatives_ is not None:
            block.with_cosines(negatives=features @ self.negative_features.double().T)
        parts: dict[str, Any] = {
            name: self._detector.compute_part(name, block) for name in self._detector.part_names_
        }
        scores: Any = self._detector.combine(parts)
        index, similarity = self._nearest(classes)
        if not self._decides:
            return scores, index, similarity
        # One threshold for all images, or one for each class.
        thresholds = self.thresholds if len(self.thresholds) == 1 else self.thresholds[index]
        return scores, index, similarity, scores >= thresholds

    def _nearest(self, classes: Tensor) -> tuple[Tensor, Tensor]:
        """Return what `Detector.nearest_classes` does: of equal names the first one counts."""
        if self._all_differ:
            return classes.argmax(dim=-1), classes.amax(dim=-1)
        different = classes[:, self.distinct]
        return self.distinct[different.argmax(dim=-1)], different.amax(dim=-1)


def _with_drawn_groups(detector: Detector) -> Detector:
    """Return a copy whose groups of negative labels, if it has any, are a constant.

    They are drawn with a generator, which no exported graph has.
    """
    if not hasattr(detector, "groups_"):
        return detector
    drawn, kind = copy(detector), type(detector)
    drawn.__class__ = type(kind.__name__, (kind,), {"groups_": detector.groups_})
    return drawn


def traced(graph: nn.Module, pixels: Tensor, names: Sequence[str]) -> Any:
    """Return the ONNX program of a module, for any number of images with the size of `pixels`."""
    with _quiet(), torch.no_grad():
        return torch.onnx.export(
            graph,
            (pixels,),
            dynamo=True,
            input_names=["pixels"],
            output_names=list(names),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=_OPSET,
            verbose=False,
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep warnings and log lines of the exporter, which concern its authors, from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
