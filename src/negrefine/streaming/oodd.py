"""OODD: a dictionary of the stream's least in-distribution images (CVPR 2025), for any detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negrefine.constraints import FINITE, Constraint, Whole, check_all
from negrefine.detectors.frozen import FrozenOODD, kth_largest
from negrefine.detectors.image_block import as_double, unit_rows
from negrefine.detectors.parameters import detector, parameter, redeclared
from negrefine.detectors.scoring import checked_features
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError
from negrefine.real_arrays import as_real
from negrefine.streaming.base import ROWS, StreamDetector, check_state
from negrefine.streaming.state import Arrays

_CONSTRAINTS: dict[str, Constraint] = {"size": Whole(1), "k": Whole(1), "weight": FINITE}


@dataclass(frozen=True, eq=False)
class _Entries:
    """Images in order of arrival: base scores float64 (q,), rows of length one float32 (q, d)."""

    scores: NDArray[np.float64]
    features: FloatArray

    def with_batch(self, scores: NDArray[np.float64], features: FloatArray, size: int) -> _Entries:
        """Return the `size` images with the lowest scores, of equal ones the first to arrive."""
        scores = np.concatenate([self.scores, scores])
        features = np.concatenate([self.features, features])
        kept = np.sort(np.argsort(scores, kind="stable")[:size])
        return _Entries(scores[kept], features[kept])


class OODDictionary:
    """Lowers a base score by the k-th largest cosine with images that scored low before.

    A batch is inserted before it is scored, so an image in the dictionary matches itself with
    cosine 1. The dictionary keeps the `size` lowest base scores since `reset`. Published with
    batches of 64; the first one must leave at least k images in the dictionary.

    The scale of the base score matters: with NegLabel's 0 to 1 a weight of 1 is the published
    method; with NegRefine's 0 to 1 + alpha, 3 by default, the same weight counts a third of that,
    and with MCM's, about 1 / K at temperature 1, the cosine decides alone.

    Args:
        size: Images in the dictionary, at least k.
        k: Which of the largest cosines counts.
        weight: Factor on the cosine.

    Example:
        >>> dictionary = negrefine.OODDictionary(size=4, k=1)
        >>> dictionary.update_and_score([[1, 0], [0, 1]], [0.9, 0.2])
        array([-0.1, -0.8])
    """

    def __init__(self, size: int = 2048, k: int = 5, weight: float = 1.0) -> None:
        self.size, self.k, self.weight = size, k, weight
        check_all(self, _CONSTRAINTS)
        _check_size(size, k)
        self.reset()

    def reset(self) -> None:
        """Empty the dictionary."""
        self.entries: _Entries | None = None

    def update_and_score(self, features: ArrayLike, base_scores: ArrayLike) -> NDArray[np.float64]:
        """Insert a batch, features (n, d) with base scores (n,), and return its scores, float64.

        Raises InputError, with nothing inserted, for arrays that are no features and finite scores
        of the same n images, of another width than before, or if fewer than k images would be in
        the dictionary.
        """
        given = as_real(features, "Image features")
        if given.ndim != 2 or not len(given):
            raise InputError(f"A batch must have shape (n, d), n at least 1, not {given.shape}.")
        width = given.shape[1] if self.entries is None else self.entries.features.shape[1]
        array = checked_features(given, width)
        scores = as_real(base_scores, "Base scores").astype(np.float64)
        if scores.shape != (len(array),) or not np.isfinite(scores).all():
            raise InputError(
                f"Base scores must be {len(array)} finite numbers, one for each image, not "
                f"{scores.shape if scores.shape != (len(array),) else 'NaN or infinity'}."
            )
        return scores - self.weight * self.update_and_match(array, scores)

    def update_and_match(
        self, features: FloatArray, scores: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Insert a batch and return the k-th largest cosine of each image, float64 (n,)."""
        blocks = [
            unit_rows(features[start : start + ROWS]) for start in range(0, len(features), ROWS)
        ]
        rows = np.concatenate([block.float().numpy() for block in blocks])
        before = self.entries or _Entries(np.empty(0), np.empty((0, rows.shape[1]), np.float32))
        entries = before.with_batch(scores, rows, self.size)
        if len(entries.scores) < self.k:
            raise InputError(
                f"The dictionary would hold {len(entries.scores)} images, and k is {self.k}: give "
                f"a first batch of at least {self.k}, or lower k."
            )
        dictionary = as_double(entries.features)
        found = [kth_largest(block @ dictionary.T, self.k).numpy() for block in blocks]
        self.entries = entries
        return np.concatenate(found)


def _check_size(size: int, k: int) -> None:
    if size < k:
        raise InputError(f"size is {size} and k is {k}: a dictionary must hold at least k images.")


@detector
class OODD(StreamDetector):
    """The base's score minus `weight` times the k-th largest cosine with images that scored low.

    It wraps any detector that needs no patches; see `OODDictionary`, also about the weight.

    Example:
        >>> stream = negrefine.OODD(refine, size=20, weight=0.3)
        >>> parts = stream.update_and_score_parts(encoder.encode_images(animals + food))
        >>> sorted(parts)
        ['base', 'similarity']
    """

    method = "oodd"
    title = "OODD"
    paper = "CVPR 2025, arXiv 2503.10468"
    parts = ("base", "similarity")

    size: int = parameter(2048, Whole(1), "Images in the dictionary.")
    k: int = redeclared(FrozenOODD, "k", 5)
    weight: float = redeclared(FrozenOODD, "weight", 1.0)

    def check_parameters(self, names: Any = None) -> None:
        """Check the parameters, and that the dictionary can hold k images."""
        super().check_parameters(names)
        _check_size(self.size, self.k)

    def _reset(self) -> None:
        self._dictionary = OODDictionary(self.size, self.k, self.weight)

    def _step(self, features: FloatArray) -> dict[str, NDArray[np.float64]]:
        base = self.base.score_features(features)
        return {"base": base, "similarity": self._dictionary.update_and_match(features, base)}

    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the base's score minus `weight` times the cosine."""
        combined: NDArray[np.float64] = parts["base"] - self.weight * parts["similarity"]
        return combined

    def freeze(self) -> FrozenOODD:
        """Return the base with the dictionary as it is; see `StreamDetector.freeze`.

        Raises InputError before the first batch. Images of the stream that are in the dictionary
        match themselves: calibrate with others.
        """
        entries = self._dictionary.entries
        if entries is None:
            raise InputError("The dictionary is empty: score a batch before freeze().")
        made = FrozenOODD.on_classes_of(self.base, k=self.k, weight=self.weight)
        return made.hold(self.base.with_params(), entries.features)

    def _state(self) -> Arrays:
        entries = self._dictionary.entries
        if entries is None:
            return {}
        return {"scores": entries.scores, "features": entries.features}

    def _load_state(self, arrays: Arrays) -> None:
        if not arrays:
            self._dictionary.reset()
            return
        n = len(arrays.get("scores", ()))
        width = self.base.class_features_.shape[1]
        check_state(arrays, {"scores": (np.float64, (n,)), "features": (np.float32, (n, width))})
        if not self.k <= n <= self.size:
            raise InputError(f"The state has {n} images, not {self.k} to {self.size}.")
        self._dictionary.entries = _Entries(arrays["scores"], arrays["features"])
