"""Static detectors that hold what a stream has learnt: what `StreamDetector.freeze` returns.

Their score of an image depends on the image alone, so that calibration means what it says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from negrefine.constraints import FINITE, POSITIVE, SEED, Number, OneOf, Whole
from negrefine.detectors.base import Detector
from negrefine.detectors.image_block import ImageBlock, as_double
from negrefine.detectors.negative_labels import LabelDetector
from negrefine.detectors.parameters import (
    detector,
    fitted,
    parameter,
)
from negrefine.detectors.prototypes import adapted_cosines
from negrefine.detectors.saved_base import base_arrays, base_tables, restored_base
from negrefine.detectors.saved_form import UnitRows, checked
from negrefine.detectors.scores import group_negatives, neglabel_score, tanl_score
from negrefine.detectors.selected import Selected
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError
from negrefine.labels.negatives import Negatives

if TYPE_CHECKING:
    from torch import Tensor

    from negrefine.detectors.bundle import Arrays, Tables
    from negrefine.detectors.tuning import Tuning


class Frozen:
    """What the detectors of this module share: they come from a stream, never from `fit`."""

    encoder: Any
    class_names_: list[str]
    class_features_: FloatArray

    def fit(self, class_names: Iterable[str], y: object = None, *, progress: bool = False) -> Self:
        """Raise InputError: what was learnt comes from a stream."""
        del class_names, y, progress
        raise InputError(
            f"A frozen {type(self).__name__.removeprefix('Frozen')} is what a stream has learnt "
            "and cannot be fitted: call freeze() on the stream."
        )

    @classmethod
    def on_classes_of(cls, base: Detector, **parameters: Any) -> Self:
        """Return a detector with the encoder, prompts and classes of a fitted one."""
        made = cls(base.encoder, prompts=base.prompts_, **parameters)  # type: ignore[call-arg]
        made.class_names_, made.class_features_ = base.class_names_, base.class_features_
        return made


@detector
class FrozenAdaNeg(Frozen, LabelDetector):
    """AdaNeg's score with the memory of a stream: S' + weight S, S' on its prototypes.

    Attributes:
        owners_: int64 (R,), ascending, the label of each image in memory; classes come first.
        images_: float32 (R, d), these images, rows of length one.
    """

    method = "adaneg"
    title = "AdaNeg"
    paper = "NeurIPS 2024, arXiv 2410.20149"
    parts = ("adapted", "neglabel")

    n_groups: int = parameter(5, Whole(1), "Groups of negative labels.")
    group_seed: int = parameter(0, SEED, "Seed of the assignment to groups.")
    weight: float = parameter(0.1, FINITE, "Weight of the score without memory, lambda.")
    prototypes: str = parameter(
        "task",
        OneOf(("task", "sample")),
        "Prototypes: 'task', the mean of text and images, or 'sample', weighted for each image.",
    )
    beta: float = parameter(
        5,
        Number("be a finite number of at least 0", low=0, closed="low"),
        "Sharpness of the weights of 'sample'.",
    )
    logit_scale: float = parameter(100.0, POSITIVE, "Factor on cosines.")
    owners_: NDArray[np.int64] = fitted()
    images_: FloatArray = fitted()
    texts_: FloatArray = fitted()

    def hold(
        self, negatives: Negatives, owners: NDArray[np.int64], images: FloatArray, texts: FloatArray
    ) -> Self:
        """Take labels, memory, and the features of classes and kept labels one below the other."""
        self._hold(negatives, self.class_names_)
        self.owners_, self.images_, self.texts_ = owners, images, texts
        return self

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:
        """Return S' ("adapted") or NegLabel's S ("neglabel")."""
        if name == "neglabel":
            return self._score(images.classes, images.negatives)
        adapted = self.adapted(images)
        k = len(self.class_names_)
        return self._score(adapted[:, :k], adapted[:, k:])

    def adapted(self, images: ImageBlock) -> Tensor:
        """Return the cosines with the prototypes of classes and labels, float64 (n, K + M)."""
        import torch

        return adapted_cosines(
            images.features,
            torch.cat([images.classes, images.negatives], dim=1),
            self.texts_,
            self.owners_,
            self.images_,
            self.beta if self.prototypes == "sample" else None,
        )

    def _score(self, classes: Tensor, negatives: Tensor) -> Tensor:
        groups = group_negatives(negatives.shape[1], self.n_groups, seed=int(self.group_seed))
        return neglabel_score(classes, negatives, groups, self.logit_scale_)

    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return S' + weight S."""
        combined: NDArray[np.float64] = parts["adapted"] + self.weight * parts["neglabel"]
        return combined

    def _saved_arrays(self) -> Arrays:
        memory: Arrays = {"memory_labels": self.owners_, "memory_features": self.images_}
        return {**super()._saved_arrays(), **memory}

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        super()._restore(class_names, arrays, tables)
        texts = np.concatenate([self.class_features_, self.negative_features_])
        owners, images = checked_memory(arrays, texts)
        self.hold(self.negatives_, owners, images, texts)


def checked_memory(arrays: Arrays, texts: FloatArray) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the saved memory of K + M labels with features `texts`; InputError if it is none."""
    if "memory_labels" not in arrays:
        raise InputError("memory_labels is missing.")
    owners = arrays["memory_labels"]
    if owners.dtype != np.int64 or owners.ndim != 1:
        raise InputError("memory_labels must be int64 in one dimension.")
    if len(owners) and not (
        owners[0] >= 0 and owners[-1] < len(texts) and (np.diff(owners) >= 0).all()
    ):
        raise InputError(f"memory_labels must ascend from 0 to {len(texts) - 1}.")
    rows = UnitRows(len(owners), "images in memory", texts.shape[1])
    return owners, checked(arrays, "memory_features", rows)


@detector
class FrozenTANL(Frozen, LabelDetector):
    """TANL's score on the labels that were most active in a stream, the most active first.

    Attributes:
        negatives_: These labels in this order.
    """

    method = "tanl"
    title = "TANL"
    paper = "CVPR 2026, arXiv 2603.25250"
    parts = ("tanl",)

    stride: int = parameter(1, Whole(0), "Labels between two terms of the mean; 0 for one softmax.")
    logit_scale: float = parameter(100.0, POSITIVE, "Factor on cosines.")

    def hold(self, negatives: Negatives) -> Self:
        """Take the chosen labels in order."""
        self._hold(negatives, self.class_names_)
        return self

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:  # noqa: ARG002
        """Return TANL's score."""
        return tanl_score(images.classes, images.negatives, self.stride, self.logit_scale_)


@detector
class FrozenOODD(Frozen, Selected):
    """A detector's score minus the k-th largest cosine with the images of a dictionary.

    Attributes:
        base_: The detector.
        dictionary_: float32 (q, d), the images, rows of length one, q at least k.
    """

    method = "oodd"
    title = "OODD"
    paper = "CVPR 2025, arXiv 2503.10468"
    parts = ("base", "similarity")

    k: int = parameter(5, Whole(1), "Which of the largest cosines counts.")
    weight: float = parameter(1.0, FINITE, "Weight of the cosine.")
    base_: Detector = fitted()
    dictionary_: FloatArray = fitted()

    def hold(self, base: Detector, dictionary: FloatArray) -> Self:
        """Take the detector and the dictionary."""
        self.base_, self.dictionary_, self.negatives_ = base, dictionary, base.negatives_
        self._mark_base(base)
        return self

    @property
    def tunings_(self) -> list[Tuning]:
        """What `negrefine tune` has chosen about the base."""
        return self.base_.tunings_ if isinstance(self.base_, Selected) else []

    def _records(self) -> dict[str, Any]:
        return self.base_._records()

    def _restore_records(self, manifest: Mapping[str, Any]) -> None:
        self.base_._restore_records(manifest)

    def compute_part(self, name: str, images: ImageBlock) -> Tensor:
        """Return the detector's score ("base"), or the cosine ("similarity")."""
        import torch

        if name == "similarity":
            return kth_largest(images.features @ as_double(self.dictionary_).T, self.k)
        parts = {
            part: self.base_.compute_part(part, images).numpy() for part in self.base_.part_names_
        }
        return torch.from_numpy(self.base_.combine(parts))

    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the detector's score minus `weight` times the cosine."""
        combined: NDArray[np.float64] = parts["base"] - self.weight * parts["similarity"]
        return combined

    def _saved_arrays(self) -> Arrays:
        of_base = base_arrays(self._plain_base()._saved_arrays())
        return {**super()._saved_arrays(), **of_base, "dictionary": self.dictionary_}

    def _saved_tables(self) -> Tables:
        return {**super()._saved_tables(), **base_tables(self._plain_base())}

    def _plain_base(self) -> Detector:
        """Return the base without a threshold, which says nothing about this score."""
        return self.base_.with_params()

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        super()._restore(class_names, arrays, tables)
        base = restored_base(self.encoder, class_names, arrays, tables)
        n = len(arrays["dictionary"])
        Whole(self.k)("the size of the dictionary", n)
        rows = UnitRows(n, "images in the dictionary", self.class_features_.shape[1])
        self.hold(base, checked(arrays, "dictionary", rows))


def kth_largest(cosines: Tensor, k: int) -> Tensor:
    """Return the k-th largest cosine of each row, (n,), of (n, q) with q at least k."""
    return cosines.topk(k, dim=-1).values[:, -1]
