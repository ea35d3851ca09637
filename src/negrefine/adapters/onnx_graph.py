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

OUTPUTS: tuple[str, ...] = ("scores", "class_index", "class_similarity", "is_in_distribution")
"""Names of the results in order; the last one is there only if there is a threshold."""


class ScoreGraph(nn.Module):
    """Prepared pixels (n, 3, h, w) to what `ScoreHead` returns."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        assert isinstance(detector.encoder, CLIPEncoder)  # noqa: S101 - `exported_score`
        self.tower = detector.encoder.image_tower()
        self.head = ScoreHead(detector)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        result: tuple[Tensor, ...] = self.head(self.tower(pixels))
        return result


class ScoreHead(nn.Module):
    """Image features (n, d) to score and verdict: the detector's own formulas.

    Everything is float64, as in the detector, because NegLabel's scores of in-distribution images
    differ from 1 by less than float32 can tell.

    Attributes:
        output_names: The names of what `forward` returns.
    """

    class_features: Tensor
    negative_features: Tensor
    distinct: Tensor
    thresholds: Tensor

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self._detector = _with_drawn_groups(detector)
        self._hold("class_features", torch.from_numpy(detector.class_features_))
        if detector.negatives_ is not None:
            self._hold("negative_features", torch.from_numpy(detector.negatives_.kept_features))
        distinct = sorted(detector.class_indices().values())
        self._all_differ = len(distinct) == len(detector.class_names_)
        self._hold("distinct", torch.tensor(distinct))
        self.output_names = OUTPUTS[:-1]
        if detector.offset_ is not None:
            self.output_names = OUTPUTS
            by_class = detector.class_offsets_
            offsets = [detector.offset_] if by_class is None else by_class.tolist()
            self._hold("thresholds", torch.tensor(offsets, dtype=torch.float64))

    def _hold(self, name: str, values: Tensor) -> None:
        self.register_buffer(name, values.clone())

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """Return scores, nearest class, its cosine, and whether in-distribution, each (n,)."""
        unit = of_length_one(features.double())
        classes = unit @ self.class_features.double().T
        detector = self._detector
        block = ImageBlock(unit, None, detector.class_features_, detector.negatives_)
        block.with_cosines(classes=classes)
        if detector.negatives_ is not None:
            block.with_cosines(negatives=unit @ self.negative_features.double().T)
        # Tensors where the detector has arrays, which formulas treat alike.
        parts: Any = {name: detector.compute_part(name, block) for name in detector.part_names_}
        scores: Any = detector.combine(parts)
        index, similarity = self._nearest(classes)
        if "is_in_distribution" not in self.output_names:
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
