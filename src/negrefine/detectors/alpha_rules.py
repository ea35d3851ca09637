"""NegRefine's weight of S_MM by rule: one alpha for all images, or one for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from negrefine.detectors.adaptive_alpha import (
    BY_CLASS,
    CONSTANT,
    FACTORS,
    LARGEST_FACTOR,
    LEAST_IMAGES,
    SCALED,
    ClassFactors,
    factors_by_class,
    uncertain_factor,
)
from negrefine.detectors.image_block import ImageBlock
from negrefine.detectors.negative_labels import NegativeLabelDetector
from negrefine.detectors.saved_form import checked
from negrefine.detectors.scores import Part
from negrefine.detectors.selected import ALPHAS, Selected, union
from negrefine.detectors.selection import Marks, marks_of_features, marks_of_images
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError, NotFittedError

if TYPE_CHECKING:
    from torch import Tensor

    from negrefine.detectors.bundle import Arrays, Tables
    from negrefine.encoders.images import ImageSource

FACTOR = "alpha_factor"
"""The part of the score that says what alpha is multiplied with for an image."""


@dataclass(frozen=True, slots=True)
class _Factors:
    """float64 (n,), from 0 to `LARGEST_FACTOR`."""

    n: int

    def __call__(self, name: str, value: Any) -> None:
        if value.dtype != np.float64 or value.shape != (self.n,):
            raise InputError(f"{name} must be float64 with one number for each of {self.n} names.")
        if not ((value >= 0) & (value <= LARGEST_FACTOR)).all():
            raise InputError(f"{name} must be numbers from 0 to {LARGEST_FACTOR:g}.")


class AlphaRules(Selected, NegativeLabelDetector):
    """A detector with a weight alpha, and a rule by which images may have other ones.

    With another rule than "constant" the score has the part "alpha_factor" beside the others: the
    alpha of an image is alpha times it. See `negrefine.detectors.adaptive_alpha`.

    Attributes:
        alpha_factors_: The factor of each class, float64 (K,), from `choose_alphas`; else None.
            `fit` forgets them; copies by `with_params` and `with_filter` keep them, although their
            scores may differ from those that chose them.
    """

    alpha: float
    alpha_rule: str
    alpha_factors_: NDArray[np.float64] | None = None

    def choose_alphas(
        self,
        images: Sequence[ImageSource],
        *,
        factors: ArrayLike = FACTORS,
        least: int = LEAST_IMAGES,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Self:
        """Choose a factor of alpha for each class from in-distribution images, for rule "class".

        No OOD image is needed; see `adaptive_alpha.factors_by_class` for how, and for what
        `factors` and `least` are. The threshold is forgotten, because scores change. It must be
        set with other images: those are exchangeable with images to come given the alphas, while
        the ones here are not. `calibrate` refuses the ones here.

        Raises InputError with another rule or alpha = 0, or for images that cannot be used, and
        ImageError for one that cannot be read.

            detector = NegRefine(encoder, alpha_rule="class").fit(names)
            detector.choose_alphas(images[::2]).calibrate(images[1::2])
        """
        self._check_choice()
        given = list(images)
        blocks = list(self._encode_blocks(given, batch_size, progress=progress))
        features = np.concatenate([block for block, _ in blocks])
        marks = marks_of_images(given)
        return self._choose(features, union(marks, marks_of_features(features)), factors, least)

    def choose_alphas_features(
        self,
        features: ArrayLike,
        *,
        factors: ArrayLike = FACTORS,
        least: int = LEAST_IMAGES,
        marks: Marks | None = None,
    ) -> Self:
        """Do what `choose_alphas` does, from image features (n, d).

        `marks` are those of the images (`negrefine.detectors.selection`), by which `calibrate`
        knows them again; features are known again by themselves.
        """
        self._check_choice()
        array = self._check_features(features)
        own = marks_of_features(array)
        return self._choose(array, own if marks is None else union(own, marks), factors, least)

    def class_factors(
        self, features: ArrayLike, factors: ArrayLike = FACTORS, least: int = LEAST_IMAGES
    ) -> ClassFactors:
        """Return what `choose_alphas_features` would choose, and from how many images."""
        self._check_choice()
        parts = self.score_feature_parts(features, only=["neglabel", "multi_match"])
        return factors_by_class(
            parts["neglabel"],
            parts["multi_match"],
            self.predicted_classes(features),
            len(self.class_names_),
            float(self.alpha),
            factors=factors,
            least=least,
        )

    def _choose(self, features: FloatArray, marks: Marks, factors: ArrayLike, least: int) -> Self:
        self.alpha_factors_ = self.class_factors(features, factors, least).factors
        self._mark(ALPHAS, marks)
        self._forget_calibration()
        return self

    def _check_choice(self) -> None:
        self._check_fitted()
        if not self.chooses_alphas:
            raise InputError(
                f"Alphas are chosen for alpha_rule 'class' with an alpha other than 0, not for "
                f"alpha_rule {self.alpha_rule!r} with alpha {self.alpha:g}."
            )

    @property
    def chooses_alphas(self) -> bool:
        """Whether the score needs `choose_alphas`."""
        return self.alpha != 0 and self._is_by_class()

    def _is_by_class(self) -> bool:
        return self.alpha_rule.removesuffix(SCALED) == BY_CLASS

    def _factor_names(self) -> list[str]:
        """Return the name of the part of the rule, none for "constant"."""
        return [] if self.alpha_rule == CONSTANT or self.alpha == 0 else [FACTOR]

    def _factor(self, images: ImageBlock) -> Tensor:
        """Return what alpha is multiplied with for each of a block of images, float64 (n,)."""
        import torch

        if not self._is_by_class():
            return torch.from_numpy(uncertain_factor(self.compute_part("neglabel", images).numpy()))
        if self.alpha_factors_ is None:
            raise NotFittedError(
                "No alphas are chosen for alpha_rule 'class': call choose_alphas(id_images), with "
                "images that do not calibrate."
            )
        # Of equal names the first counts, as in `predicted_classes`, and of equal cosines, too.
        nearest = images.classes.numpy().argmax(axis=1)
        return torch.from_numpy(self.alpha_factors_[nearest])

    def score_terms(self, parts: Mapping[str, Part]) -> tuple[Part, Part | float]:
        """Return what is added up: S is the first plus the second times S_MM.

        Of one image or of n, float64 (n,), as the parts are. With the published rule they are
        S_NegLabel and alpha.
        """
        if FACTOR not in parts:
            return parts["neglabel"], self.alpha
        weight = self.alpha * parts[FACTOR]
        if not self.alpha_rule.endswith(SCALED):
            return parts["neglabel"], weight
        scale = (1.0 + abs(self.alpha)) / (1.0 + abs(weight))
        return scale * parts["neglabel"], scale * weight

    def _in_force(self) -> dict[str, Marks]:
        marks = super()._in_force()
        if not self._is_by_class():
            marks.pop(ALPHAS, None)
        return marks

    def _forget_choices(self) -> None:
        super()._forget_choices()
        self.alpha_factors_ = None

    def _facts(self) -> dict[str, Any]:
        facts = super()._facts()
        if self.alpha_rule == CONSTANT:
            # The published rule leaves saved detectors and their identity as they always were.
            del facts["parameters"]["alpha_rule"]
        return facts

    def _saved_arrays(self) -> Arrays:
        arrays = super()._saved_arrays()
        if self._is_by_class() and self.alpha_factors_ is not None:
            arrays["alpha_factors"] = self.alpha_factors_
        return arrays

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        super()._restore(class_names, arrays, tables)
        self.alpha_factors_ = None
        if "alpha_factors" in arrays:
            self.alpha_factors_ = checked(arrays, "alpha_factors", _Factors(len(class_names)))
