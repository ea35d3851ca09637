"""What every detector does: fit on class names, score images, decide, save."""

from __future__ import annotations

import hashlib
import json
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence, Sized
from copy import copy
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from torch import Tensor
from typing_extensions import Self

from negrefine.detectors.bundle import Arrays, Tables, write_bundle
from negrefine.detectors.conformal import conformal_threshold, p_values
from negrefine.detectors.explanation import Explanation, Match, Unfiltered, verdict_of
from negrefine.encoders.base import Encoder, FloatArray
from negrefine.encoders.batches import encode_batches, equal_blocks
from negrefine.encoders.images import ImageSource
from negrefine.errors import InputError, NotFittedError
from negrefine.labels.class_names import check_class_names
from negrefine.labels.prompts import Prompts, embed
from negrefine.progress import progress_bar

# Rows scored at a time: bounds the (rows x negatives) matrices.
_SCORE_ROWS = 256


class Detector(BaseEstimator, ABC):  # type: ignore[misc]
    """Zero-shot out-of-distribution detector in the manner of scikit-learn's outlier detectors.

    Scores are larger for in-distribution images. The stages are separate: `encoder.encode_images`
    makes features, which every detector on the same encoder can score.

    Attributes:
        uses_patches: The score needs patch features beside image features.
        class_names_: K class names.
        class_features_: float32 (K, d), their prompt ensembles, rows of length one.
        offset_: The threshold that `predict` compares scores with; None until `calibrate`.
        calibration_scores_: float64 (n,), sorted, of the images that set it; None until then.
    """

    method: ClassVar[str]
    title: ClassVar[str] = ""
    seed_parameter: ClassVar[str | None] = None
    uses_patches: ClassVar[bool] = False
    _default_prompts: ClassVar[Prompts]

    encoder: Encoder
    prompts: Prompts | None
    class_names_: list[str]
    class_features_: FloatArray
    offset_: float | None
    calibration_scores_: NDArray[np.float64] | None = None

    def fit(self, class_names: Iterable[str], y: object = None, *, progress: bool = False) -> Self:  # noqa: ARG002
        """Prepare the detector for a list of class names. No image is needed.

        Args:
            class_names: K names; duplicates are allowed with a warning.
            y: Ignored, for scikit-learn.
            progress: Draw progress bars on a terminal.

        Raises:
            InputError: The class list or a parameter cannot be used.
        """
        names = check_class_names(class_names)
        features = self._embed_class_names(names, progress=progress)
        self._fit_negatives(names, features, progress=progress)
        self.class_names_ = names
        self.class_features_ = features
        self.offset_ = self.calibration_scores_ = None
        return self

    @property
    def part_names_(self) -> list[str]:
        """Names of the components of the score, in order."""
        self._check_fitted()
        dim = self.class_features_.shape[1]
        patches = np.empty((0, 1, dim)) if self.uses_patches else None
        return list(self.score_feature_parts(np.empty((0, dim)), patches))

    @property
    def prompts_(self) -> Prompts:
        """The prompt templates in use."""
        return self._default_prompts if self.prompts is None else self.prompts

    def _embed_class_names(self, class_names: list[str], *, progress: bool) -> FloatArray:
        """Return `class_features_`."""
        return embed(
            self.encoder,
            class_names,
            self.prompts_.class_name,
            description="Encoding class names",
            progress=progress,
        )

    def _fit_negatives(
        self, class_names: list[str], class_features: FloatArray, *, progress: bool
    ) -> None:
        """Prepare what a method needs beside the classes."""

    @abstractmethod
    def _score_parts(self, features: Tensor) -> dict[str, Tensor]:
        """Return the components for normalised features, float64 (n, d)."""

    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the score of the components; methods with one component return it."""
        (score,) = parts.values()
        return score

    def with_params(self, **parameters: Any) -> Self:
        """Return a fitted copy with other parameters of the score and without a threshold."""
        other = copy(self)
        other.set_params(**parameters)
        other.offset_ = other.calibration_scores_ = None
        return other

    def score_feature_parts(
        self,
        features: ArrayLike,
        patches: ArrayLike | None = None,
        *,
        only: Sequence[str] | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Return the components of the score for image features.

        Args:
            features: (n, d) from `encoder.encode_images`; normalised or not.
            patches: (n, p, d) from `encoder.encode_images_and_patches`, for detectors with
                `uses_patches`.
            only: Names of the components to compute; None computes all.

        Returns:
            Component name to float64 (n,).

        Raises:
            NotFittedError: `fit` has not run.
            InputError: An array has the wrong shape, or patches are missing or not wanted.
        """
        if only is not None and "multi_match" not in only and getattr(self, "alpha", False):
            return self.with_params(alpha=0).score_feature_parts(features, patches)
        self._check_fitted()
        if patches is not None and not self.uses_patches:
            raise InputError(f"{type(self).__name__} does not use patch features: leave them out.")
        array = np.asarray(features, dtype=np.float32)
        dim = self.class_features_.shape[1]
        if array.ndim != 2 or array.shape[1] != dim:
            raise InputError(
                f"Image features must have shape (n, {dim}) for this encoder, not {array.shape}."
            )
        if not np.isfinite(array).all():
            raise InputError("Image features hold NaN or infinity: encode the images again.")
        blocks = [
            {name: part.numpy() for name, part in self._score_parts(unit_rows(rows)).items()}
            for rows in np.split(array, range(_SCORE_ROWS, max(len(array), 1), _SCORE_ROWS))
        ]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    def score_features(
        self, features: ArrayLike, patches: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return float64 (n,) scores of image features; larger is more in-distribution.

        Args and Raises as `score_feature_parts`.
        """
        return self.combine(self.score_feature_parts(features, patches))

    def score_parts(
        self, images: Sequence[ImageSource], *, batch_size: int = 64, progress: bool = False
    ) -> dict[str, NDArray[np.float64]]:
        """Return the components of the score for images, each float64 (n,).

        Features are dropped as soon as they are scored, so memory does not grow with the number of
        images.
        """
        self._check_fitted()
        blocks = [
            self.score_feature_parts(features, patches)
            for features, patches in self._encode_blocks(images, batch_size, progress=progress)
        ]
        return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}

    def score_samples(
        self, images: Sequence[ImageSource], *, batch_size: int = 64, progress: bool = False
    ) -> NDArray[np.float64]:
        """Score images; larger is more in-distribution.

        Args:
            images: n paths, Pillow images or uint8 arrays.
            batch_size: Images to encode at a time; it does not change the scores.
            progress: Draw a progress bar on a terminal.

        Returns:
            float64 (n,).

        Raises:
            ImageError: An image cannot be read.
            NotFittedError: `fit` has not run.
        """
        return self.combine(self.score_parts(images, batch_size=batch_size, progress=progress))

    def _encode_blocks(
        self, images: Sequence[ImageSource], batch_size: int, *, progress: bool
    ) -> Iterator[tuple[FloatArray, FloatArray | None]]:
        """Yield the features and patch features that `score_feature_parts` takes, at least once.

        Blocks have `_SCORE_ROWS` rows whatever the batch size, so that sums over labels are made
        in the same order.
        """
        total = len(images) if isinstance(images, Sized) else 0
        with progress_bar("Scoring images", total, enabled=progress) as advance:
            encoded = encode_batches(self.encoder, images, batch_size, patches=self.uses_patches)
            for features, patches in equal_blocks(encoded, _SCORE_ROWS):
                yield features, patches
                advance(len(features))

    def calibrate(
        self,
        images: Sequence[ImageSource],
        fpr: float = 0.05,
        *,
        delta: float | None = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Self:
        """Set the threshold so that at most a fraction `fpr` of in-distribution images is flagged.

        Split conformal prediction: P(flag | in-distribution) <= fpr for an image exchangeable with
        the n given ones, whatever the scores' distribution; without ties it is > fpr - 1 / (n + 1).
        See `negrefine.detectors.conformal`.

        Args:
            images: Images known to be in-distribution, not used for anything else.
            fpr: False-alarm rate, in (0, 1).
            delta: None bounds the rate over the draw of calibration and test images together. A
                number in (0, 1) asks for more: the rate of this one threshold is <= fpr with
                probability at least 1 - delta over the draw of independent calibration images.
            batch_size: Images to encode at a time.
            progress: Draw a progress bar on a terminal.

        Raises:
            InputError: Too few images for the guarantee (`images_needed` counts them), or a rate
                outside (0, 1).
        """
        self._check_fitted()
        # Says what is wrong before minutes of encoding.
        conformal_threshold(np.zeros(len(images)), fpr, delta)
        scores = self.score_samples(images, batch_size=batch_size, progress=progress)
        return self.calibrate_scores(scores, fpr, delta=delta)

    def calibrate_features(
        self,
        features: ArrayLike,
        fpr: float = 0.05,
        *,
        patches: ArrayLike | None = None,
        delta: float | None = None,
    ) -> Self:
        """Do what `calibrate` does, from image features (n, d) and patch features (n, p, d)."""
        return self.calibrate_scores(self.score_features(features, patches), fpr, delta=delta)

    def calibrate_scores(
        self, scores: ArrayLike, fpr: float = 0.05, *, delta: float | None = None
    ) -> Self:
        """Do what `calibrate` does, from this detector's scores (n,) of in-distribution images."""
        self._check_fitted()
        array = np.sort(np.asarray(scores, dtype=np.float64), axis=None)
        if np.ndim(scores) != 1 or not np.isfinite(array).all():
            raise InputError("Calibration scores must be finite numbers in one dimension.")
        self.offset_ = conformal_threshold(array, fpr, delta)
        self.calibration_scores_ = array
        return self

    def p_values(
        self, images: Sequence[ImageSource], *, batch_size: int = 64, progress: bool = False
    ) -> NDArray[np.float64]:
        """Return conformal p-values of images, float64 (n,): small means out-of-distribution.

        (1 + the number of calibration scores <= the score) / (1 + the number of calibration
        scores). Flagging p <= t gives at most a fraction t of false alarms.

        Raises:
            NotFittedError: `fit` or `calibrate` has not run.
        """
        self._calibration_scores()
        return self._p_values(self.score_samples(images, batch_size=batch_size, progress=progress))

    def p_values_features(
        self, features: ArrayLike, patches: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Do what `p_values` does, from image features (n, d) and patch features (n, p, d)."""
        self._calibration_scores()
        return self._p_values(self.score_features(features, patches))

    def _p_values(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        return p_values(self._calibration_scores(), scores)

    def _calibration_scores(self) -> NDArray[np.float64]:
        self._check_fitted()
        if self.calibration_scores_ is None:
            raise NotFittedError(
                "There are no calibration scores to compare with: call "
                "calibrate(id_images, fpr=0.05)."
            )
        return self.calibration_scores_

    def decision_function(self, images: Sequence[ImageSource]) -> NDArray[np.float64]:
        """Return score minus threshold, float64 (n,): negative means out-of-distribution."""
        self._check_fitted()
        if self.offset_ is None:
            raise NotFittedError(
                "No threshold is set: call calibrate(id_images, fpr=0.05), or set offset_."
            )
        return self.score_samples(images) - self.offset_

    def predict(self, images: Sequence[ImageSource]) -> NDArray[np.int64]:
        """Return +1 for in-distribution and -1 for out-of-distribution images, int64 (n,)."""
        return np.where(self.decision_function(images) >= 0, 1, -1)

    def explain(self, image: ImageSource, *, top: int = 5, unfiltered: bool = False) -> Explanation:
        """Return what decided the score of one image.

        Args:
            image: A path, Pillow image or uint8 array.
            top: How many class names and negative labels to list.
            unfiltered: Also score the image as if NegFilter had removed nothing, which costs a
                second score; methods without a filter ignore it.
        """
        self._check_fitted()
        ((features, patches),) = self._encode_blocks([image], 1, progress=False)
        return self.explain_features(features, patches=patches, top=top, unfiltered=unfiltered)[0]

    def explain_features(
        self,
        features: ArrayLike,
        *,
        patches: ArrayLike | None = None,
        top: int = 5,
        unfiltered: bool = False,
    ) -> list[Explanation]:
        """Explain image features (n, d), one explanation for each row."""
        if top < 1:
            raise InputError(f"top must be at least 1, not {top}.")
        parts = self.score_feature_parts(features, patches)
        scores = self.combine(parts)
        known = self.calibration_scores_
        ranks = None if known is None else p_values(known, scores)
        units = unit_rows(np.asarray(features, dtype=np.float32))
        without = self._explain_unfiltered(units, top) if unfiltered else [None] * len(units)
        explanations = []
        for row, x in enumerate(units):
            score = float(scores[row])
            explanations.append(
                Explanation(
                    score=score,
                    parts={name: float(values[row]) for name, values in parts.items()},
                    threshold=self.offset_,
                    verdict=verdict_of(score, self.offset_),
                    classes=best_matches(self.class_names_, self.class_features_, x, top),
                    p_value=None if ranks is None else float(ranks[row]),
                    decided_by=self._decided_by(
                        {name: float(values[row]) for name, values in parts.items()}
                    ),
                    unfiltered=without[row],
                    **self._explain_negatives(x, top),
                )
            )
        return explanations

    def _explain_negatives(self, x: Tensor, top: int) -> dict[str, Any]:  # noqa: ARG002
        """Return the fields `negatives` and `pair` for one normalised feature (d,)."""
        return {}

    def _explain_unfiltered(self, units: Tensor, top: int) -> Sequence[Unfiltered | None]:  # noqa: ARG002
        """Return `Explanation.unfiltered` for normalised features (n, d)."""
        return [None] * len(units)

    def _decided_by(self, parts: dict[str, float]) -> str | None:  # noqa: ARG002
        """Return `Explanation.decided_by` for the components of one score."""
        return None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the fitted detector to a directory of JSON and safetensors files, atomically.

        Raises:
            NotFittedError: `fit` has not run.
            BundleError: The path holds something that is not a saved detector.
        """
        self._check_fitted()
        write_bundle(path, self._facts(), self._saved_arrays(), self._saved_tables())

    def identity(self) -> str:
        """Return a SHA-256 (hex) over everything that decides scores and verdicts."""
        self._check_fitted()
        decisive = [self._facts(), self._saved_tables()]
        digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode())
        for name, array in sorted(self._saved_arrays().items()):
            digest.update(name.encode() + array.tobytes())
        return digest.hexdigest()

    def _facts(self) -> dict[str, Any]:
        return {
            "method": self.method,
            "parameters": {
                name: encode_parameter(value)
                for name, value in self.get_params(deep=False).items()
                if name != "encoder"
            },
            "prompts": self.prompts_.as_dict(),
            "encoder": {
                "name": self.encoder.name,
                "options": self.encoder.options,
                "fingerprint": self.encoder.fingerprint,
                "logit_scale": self.encoder.logit_scale,
            },
            "class_names": self.class_names_,
            "offset": None if self.offset_ is None else float(self.offset_),
        }

    def _check_fitted(self) -> None:
        if not hasattr(self, "class_names_"):
            raise NotFittedError(
                f"This {type(self).__name__} is not fitted: call fit(class_names) first."
            )

    def _saved_arrays(self) -> Arrays:
        arrays: Arrays = {"class_features": self.class_features_}
        if self.calibration_scores_ is not None:
            arrays["calibration_scores"] = self.calibration_scores_
        return arrays

    def _saved_tables(self) -> Tables:
        return {}

    def _restore(self, class_names: list[str], arrays: Arrays, tables: Tables) -> None:
        """Take up what `_saved_arrays` and `_saved_tables` gave; ValueError if it does not fit."""
        del tables
        self.class_names_ = class_names
        self.class_features_ = arrays["class_features"]
        if len(class_names) != len(self.class_features_):
            raise ValueError("class names and their features differ in number")
        # Absent from detectors that are not calibrated or were saved before there were any.
        scores = arrays.get("calibration_scores")
        if scores is not None and (scores.ndim != 1 or (np.diff(scores) < 0).any()):
            raise ValueError("the calibration scores are not sorted")
        self.calibration_scores_ = scores


def encode_parameter(value: Any) -> Any:
    """Return a constructor parameter as JSON data; a user's own object leaves only its name."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Prompts):
        return value.as_dict()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Iterable):
        return [encode_parameter(item) for item in value]
    name = str(getattr(value, "name", type(value).__name__))
    return {"unsaved": name}


def check_whole(name: str, value: object, minimum: int) -> None:
    """Raise InputError unless a parameter is a whole number of at least `minimum`."""
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < minimum:  # type: ignore[operator]
        raise InputError(f"{name} must be a whole number of at least {minimum}, not {value!r}.")


def resolve_logit_scale(logit_scale: float | None, encoder: Encoder) -> float:
    """Return the user's factor on cosines, or the encoder's own if it is None."""
    scale = encoder.logit_scale if logit_scale is None else float(logit_scale)
    if not (math.isfinite(scale) and scale > 0):
        raise InputError(f"logit_scale must be a positive number, not {scale}.")
    return scale


def as_double(features: FloatArray) -> Tensor:
    """Return a float64 tensor, so that sums over thousands of labels add no rounding noise."""
    return torch.from_numpy(features).double()


def unit_rows(features: FloatArray) -> Tensor:
    """Return features (..., d) as float64 with rows of length one; a zero row stays zero."""
    rows = as_double(np.ascontiguousarray(features))
    lengths: Tensor = rows.norm(dim=-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    return rows / lengths


def best_matches(names: Sequence[str], features: FloatArray, x: Tensor, top: int) -> list[Match]:
    similarity = (as_double(features) @ x).numpy()
    order = np.argsort(-similarity, kind="stable")[:top]
    return [Match(names[i], float(similarity[i])) for i in order]
