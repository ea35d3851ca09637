"""Scores of images and of image features, part by part and block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negrefine.detectors.image_block import ImageBlock, unit_rows
from negrefine.encoders.base import Encoder, FloatArray
from negrefine.errors import InputError, NotFittedError
from negrefine.labels.negatives import Negatives
from negrefine.progress import progress_bar
from negrefine.real_arrays import as_real

if TYPE_CHECKING:
    from torch import Tensor

    from negrefine.encoders.images import ImageSource

# Rows scored at a time: bounds the (rows x negatives) matrices.
SCORE_ROWS = 256


class Scored(ABC):
    """The scoring half of a detector: what `compute_part` needs and what is made of its results."""

    parts: ClassVar[tuple[str, ...]] = ()
    further_parts: ClassVar[tuple[str, ...]] = ()
    uses_patches: ClassVar[bool] = False
    title: ClassVar[str] = ""

    encoder: Encoder
    class_names_: list[str]
    class_features_: FloatArray
    negatives_: Negatives | None

    @abstractmethod
    def compute_part(self, name: str, images: ImageBlock) -> Tensor:
        """Return one component of the score, float64 (n,), for a block of n images."""

    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the score of the components; methods with one component return it."""
        (score,) = parts.values()
        return score

    @property
    def part_names_(self) -> list[str]:
        """Names of the components of the score with these parameters, in order."""
        self._check_fitted()
        return self._part_names()

    def _part_names(self) -> list[str]:
        return list(self.parts)

    def score_feature_parts(
        self,
        features: ArrayLike,
        patches: ArrayLike | None = None,
        *,
        only: Iterable[str] | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Return the components of the score, or `only` some of them, each float64 (n,), by name.

        Takes image features (n, d), normalised or not, and for detectors with `uses_patches` patch
        features (n, p, d). Raises NotFittedError before `fit`, and InputError if an array has the
        wrong shape, patches are missing or not wanted, or a component does not exist or is NaN.
        """
        self._check_fitted()
        names = self.part_names_ if only is None else list(only)
        unknown = [name for name in names if name not in self.part_names_]
        if unknown:
            raise InputError(
                f"{type(self).__name__} has no component {unknown[0]!r}: it has "
                f"{', '.join(self.part_names_)}."
            )
        array = self._check_features(features)
        local = self._check_patches(patches, len(array))
        blocks = [
            self._score_block(names, array[rows], None if local is None else local[rows])
            for start in range(0, max(len(array), 1), SCORE_ROWS)
            for rows in [slice(start, start + SCORE_ROWS)]
        ]
        return {name: np.concatenate([block[name] for block in blocks]) for name in names}

    def _score_block(
        self, names: Sequence[str], features: FloatArray, patches: FloatArray | None
    ) -> dict[str, NDArray[np.float64]]:
        images = self._block(features, patches)
        parts = {name: self.compute_part(name, images).numpy() for name in names}
        for name, values in parts.items():
            if np.isnan(values).any():
                raise InputError(
                    f"The component {name!r} of {type(self).__name__} is NaN: check its parameters."
                )
        return parts

    def _block(self, features: FloatArray, patches: FloatArray | None = None) -> ImageBlock:
        return ImageBlock(unit_rows(features), patches, self.class_features_, self.negatives_)

    def score_features(
        self, features: ArrayLike, patches: ArrayLike | None = None
    ) -> NDArray[np.float64]:
        """Return float64 (n,) scores of image features; see `score_feature_parts`."""
        return self.combine(self.score_feature_parts(features, patches))

    def class_indices(self) -> dict[str, int]:
        """Return the index in `class_names_` of each name, of equal names the first."""
        self._check_fitted()
        return {name: i for i, name in reversed(list(enumerate(self.class_names_)))}

    def nearest_classes(
        self, features: ArrayLike, top: int = 2
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return the `top` class names most similar to image features (n, d), best first.

        Returns their indices in `class_names_`, intp (n, t), and their cosines, float64 (n, t),
        where t is `top` or the number of different names if that is smaller. Of equal names only
        the first counts, and of equal cosines the first name, as for an argmax over classes.
        """
        self._check_fitted()
        if top < 1:
            raise InputError(f"top must be at least 1, not {top}.")
        array = self._check_features(features)
        distinct = np.array(sorted(self.class_indices().values()), dtype=np.intp)
        found = [np.empty((0, min(top, len(distinct))), dtype=np.intp)]
        cosines = [np.empty((0, min(top, len(distinct))))]
        for start in range(0, len(array), SCORE_ROWS):
            similar = self._block(array[start : start + SCORE_ROWS]).classes.numpy()[:, distinct]
            order = _most_similar(similar, top)
            found.append(distinct[order])
            cosines.append(np.take_along_axis(similar, order, axis=1))
        return np.concatenate(found), np.concatenate(cosines)

    def nearest_negatives(
        self, features: ArrayLike, top: int = 1
    ) -> tuple[NDArray[np.intp], NDArray[np.float64]] | None:
        """Return the `top` kept negative labels most similar to image features (n, d), best first.

        Returns their indices in `negatives_.texts`, intp (n, t), and their cosines, float64 (n, t),
        where t is `top` or the number of labels if that is smaller, of equal cosines the first
        label first. None for a detector without negative labels.
        """
        self._check_fitted()
        if top < 1:
            raise InputError(f"top must be at least 1, not {top}.")
        array = self._check_features(features)
        if self.negatives_ is None or not self.negatives_.texts:
            return None
        top = min(top, len(self.negatives_.texts))
        found, cosines = [np.empty((0, top), dtype=np.intp)], [np.empty((0, top))]
        for start in range(0, len(array), SCORE_ROWS):
            similar = self._block(array[start : start + SCORE_ROWS]).negatives.numpy()
            order = _most_similar(similar, top)
            found.append(order)
            cosines.append(np.take_along_axis(similar, order, axis=1))
        return np.concatenate(found), np.concatenate(cosines)

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
        """Return float64 (n,) scores of n paths, Pillow images or arrays.

        Larger is more in-distribution. `batch_size` images are encoded at a time, which does not
        change the scores. Raises ImageError for an image that cannot be read, and NotFittedError
        before `fit`.
        """
        return self.combine(self.score_parts(images, batch_size=batch_size, progress=progress))

    def _encode_blocks(
        self, images: Sequence[ImageSource], batch_size: int, *, progress: bool
    ) -> Iterator[tuple[FloatArray, FloatArray | None]]:
        """Yield the features and patch features that `score_feature_parts` takes, at least once.

        Blocks have `SCORE_ROWS` rows whatever the batch size, so that sums over labels are made
        in the same order.
        """
        from negrefine.encoders.batches import encode_batches, equal_blocks
        from negrefine.encoders.images import check_is_list

        check_is_list(images)
        total = len(images) if isinstance(images, Sized) else 0
        with progress_bar("Scoring images", total, enabled=progress) as advance:
            encoded = encode_batches(self.encoder, images, batch_size, patches=self.uses_patches)
            for features, patches in equal_blocks(encoded, SCORE_ROWS):
                yield features, patches
                advance(len(features))

    def _check_fitted(self) -> None:
        if not hasattr(self, "class_names_"):
            raise NotFittedError(
                f"This {type(self).__name__} is not fitted: call fit(class_names) first."
            )

    def _check_features(self, features: ArrayLike) -> FloatArray:
        return checked_features(features, self.class_features_.shape[1])

    def _check_patches(self, patches: ArrayLike | None, n_images: int) -> FloatArray | None:
        name = self.title or type(self).__name__
        if not self.uses_patches:
            if patches is not None:
                raise InputError(f"{name} does not use patch features: leave them out.")
            return None
        if patches is None:
            raise InputError(
                f"{name} scores image features together with patch features: give both arrays of "
                "encoder.encode_images_and_patches."
            )
        dim = self.class_features_.shape[1]
        array = _as_floats(patches, "Patch features")
        if array.ndim != 3 or array.shape[::2] != (n_images, dim) or not array.shape[1]:
            raise InputError(
                f"Patch features must have shape ({n_images}, p, {dim}) for these image features, "
                f"not {array.shape}."
            )
        _check_directions(array, "Patch features")
        return array


def _most_similar(similar: NDArray[np.float64], top: int) -> NDArray[np.intp]:
    """Return the columns of the `top` largest of each row, best first, of equal ones the first."""
    if top == 1:
        # Sorting thousands of labels takes longer than their cosines.
        best: NDArray[np.intp] = similar.argmax(axis=1, keepdims=True)
        return best
    return np.argsort(-similar, axis=1, kind="stable")[:, :top]


def checked_features(features: ArrayLike, dim: int, what: str = "Image features") -> FloatArray:
    """Return features as float32 (n, dim), normalised or not.

    Raises:
        InputError: Another shape, NaN or infinity, or a row of nothing but zeros.
    """
    array = _as_floats(features, what)
    if array.ndim != 2 or array.shape[1] != dim:
        raise InputError(f"{what} must have shape (n, {dim}) for this encoder, not {array.shape}.")
    _check_directions(array, what)
    return array


def _as_floats(values: ArrayLike, what: str) -> FloatArray:
    with np.errstate(over="ignore"):
        array = as_real(values, what).astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise InputError(f"{what} hold NaN or infinity: encode the images again.")
    return array


def _check_directions(array: FloatArray, what: str) -> None:
    """Raise InputError for a row that has no direction, and so no cosine with anything."""
    longest = np.abs(array).max(axis=-1, initial=0)
    zeros = np.argwhere(longest < np.finfo(np.float32).tiny)
    if len(zeros):
        place = ", ".join(map(str, zeros[0]))
        raise InputError(
            f"{what} have {len(zeros)} rows of nothing but zeros, the first at index {place}: "
            "leave them out, or encode the images again."
        )
