"""What every stream detector does: learn from a batch and score it, stop and go on, freeze."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from negrefine.detectors import Detector
from negrefine.detectors.image_block import ImageBlock, unit_rows
from negrefine.detectors.parameters import Parametrised, detector, encode_parameter
from negrefine.detectors.scoring import checked_features
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError, NotFittedError
from negrefine.streaming.state import Arrays, read_state, write_state

# Rows scored at a time: bounds the (rows x labels) matrices of a large batch.
ROWS = 256


@detector
class StreamDetector(Parametrised, ABC):
    """Scores batches of a stream and learns from each: the score of an image depends on the order.

    Scores are larger for in-distribution images. The same batches in the same order give the same
    bytes; other batches or another order give other scores. Image features are those of the base's
    encoder, normalised or not. A batch that cannot be used raises InputError and changes nothing.

    The score moves, so calibration images and later ones are not exchangeable and no threshold on
    it carries a guarantee: `freeze` makes a static detector that can be calibrated.

    Attributes:
        method: Its name on the command line and in files.
        title: Its name in tables.
        paper: Where it was published.
        parts: Names of the components of the score.
        smallest_batch: Fewest images in a batch for which the method is defined; what is sensible
            is far more (docs/stream.md).
        base: The fitted detector whose classes, negative labels and factor on cosines are used. Its
            threshold plays no part.
        n_images: Images scored since `reset`.
        n_batches: Batches since `reset`.

    Example:
        >>> stream = negrefine.AdaNeg(refine)
        >>> scores = stream.update_and_score(encoder.encode_images(animals + food))
        >>> frozen = stream.freeze().calibrate(animals, fpr=0.1)
        >>> frozen.predict(["doughnut.png"])
        array([-1])
    """

    method: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    parts: ClassVar[tuple[str, ...]]
    smallest_batch: ClassVar[int] = 1

    base: Detector = field(kw_only=False)

    def __post_init__(self) -> None:
        if not isinstance(self.base, Detector):
            shown = type(self.base).__name__
            raise InputError(
                f"base must be a fitted detector such as NegLabel or NegRefine, not a {shown}."
            )
        if not hasattr(self.base, "class_names_"):
            raise NotFittedError("The base is not fitted: call fit(class_names) first.")
        self.class_names_: list[str] = self.base.class_names_
        if self.base.uses_patches:
            raise InputError(
                f"{self.base.title} also scores patch features, which a stream does not take: give "
                "NegLabel, CSP or NegRefine."
            )
        self.check_parameters()
        self._prepare()
        self.reset()

    def _prepare(self) -> None:
        """Make what stays the same over all streams."""

    def reset(self) -> None:
        """Forget everything that was learnt; the next batch is the first one."""
        self.n_images = self.n_batches = 0
        self._reset()

    def update_and_score(self, features: ArrayLike) -> NDArray[np.float64]:
        """Learn from a batch of image features (n, d) and return its scores, float64 (n,).

        Raises InputError, with nothing learnt, for an empty or too small batch, features of another
        width, NaN or infinity, and rows of zeros.
        """
        return self.combine(self.update_and_score_parts(features))

    def update_and_score_parts(self, features: ArrayLike) -> dict[str, NDArray[np.float64]]:
        """Do what `update_and_score` does and return the components, each float64 (n,), by name."""
        array = self._checked(features)
        if len(array) < max(self.smallest_batch, 1):
            what = "is empty" if not len(array) else f"has {len(array)} images"
            raise InputError(
                f"The batch {what}, and {self.title} needs at least {max(self.smallest_batch, 1)}: "
                "wait for more images."
            )
        parts = self._step(array)
        self.n_images += len(array)
        self.n_batches += 1
        return parts

    @abstractmethod
    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the score of the components."""

    def classify(self, features: ArrayLike) -> NDArray[np.int64]:
        """Return the index in `class_names_` of each image's class, int64 (n,); learns nothing.

        After `update_and_score` of a batch, this is the prediction of the official code for it.
        """
        array = self._checked(features)
        found = [self._classify(block) for block in self._blocks(array)]
        return np.concatenate([np.empty(0, dtype=np.int64), *found])

    def calibrate(self, *_: Any, **__: Any) -> NoReturn:
        """Raise InputError: a score that moves has no threshold with a guarantee."""
        raise InputError(
            f"The score of {self.title} moves with every batch, so calibration images and later "
            "ones are not exchangeable and a conformal threshold would promise nothing: call "
            "freeze() and calibrate the detector it returns, with images the stream has not seen."
        )

    @abstractmethod
    def freeze(self) -> Detector:
        """Return a static detector with what was learnt so far, without a threshold.

        Its score of an image depends on that image alone. It can be calibrated, saved and loaded,
        and does not change when the stream goes on.
        """

    def state(self) -> Arrays:
        """Return what was learnt, as arrays by name; labels and parameters are not part of it."""
        counts = np.array([self.n_images, self.n_batches], dtype=np.int64)
        return {"counts": counts, **self._state()}

    def load_state(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take up what `state` gave and go on as if there had been no stop.

        Raises InputError, with nothing changed, for what is not the state of such a stream.
        """
        arrays = dict(state)
        counts = arrays.pop("counts", np.empty(0))
        if counts.dtype != np.int64 or counts.shape != (2,) or (counts < 0).any():
            raise InputError("The state of a stream must have counts, int64 (2,), not negative.")
        self._load_state(arrays)
        self.n_images, self.n_batches = map(int, counts)

    def save_state(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a safetensors file, atomically.

        Raises InputError for a file that is not such a state, which is never replaced.
        """
        write_state(path, self.identity(), self.method, self.state())

    def read_state(self, path: str | os.PathLike[str]) -> None:
        """Take up what `save_state` wrote for a stream of the same labels and parameters.

        Raises InputError, with nothing changed, for a file that is missing, damaged, or of another
        stream.
        """
        self.load_state(read_state(path, self.identity(), self.method))

    def identity(self) -> str:
        """Return a SHA-256 (hex) over everything but the images that decides the scores."""
        parameters = {
            name: encode_parameter(value)
            for name, value in self.get_params(deep=False).items()
            if name != "base" and not isinstance(value, np.ndarray)
        }
        decisive = [self.method, parameters, self.base.with_params().identity()]
        digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode())
        for array in self._further_arrays():
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def _further_arrays(self) -> list[NDArray[Any]]:
        """Return the features beside those of the base that decide scores."""
        return []

    @abstractmethod
    def _reset(self) -> None:
        """Begin with nothing learnt."""

    @abstractmethod
    def _step(self, features: FloatArray) -> dict[str, NDArray[np.float64]]:
        """Learn from features (n, d) and return their parts; an error changes nothing."""

    @abstractmethod
    def _state(self) -> Arrays:
        """Return what was learnt."""

    @abstractmethod
    def _load_state(self, arrays: Arrays) -> None:
        """Take up what `_state` gave; InputError, with nothing changed, for anything else."""

    def _classify(self, images: ImageBlock) -> NDArray[np.int64]:
        nearest: NDArray[np.int64] = images.classes.argmax(dim=1).numpy()
        return nearest

    def _checked(self, features: ArrayLike) -> FloatArray:
        return checked_features(features, self.base.class_features_.shape[1])

    def _blocks(self, array: FloatArray) -> Iterator[ImageBlock]:
        """Yield the images in blocks of `ROWS`; cosines are computed when they are asked for."""
        for start in range(0, len(array), ROWS):
            rows = unit_rows(array[start : start + ROWS])
            yield ImageBlock(rows, None, self.base.class_features_, self.base.negatives_)


def check_state(
    arrays: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[type, tuple[int | None, ...]]]
) -> None:
    """Raise InputError unless the state has these arrays, of these types and shapes, finite.

    None in a shape stands for any number.
    """
    if set(arrays) != set(shapes):
        raise InputError(
            f"The state must have the arrays {', '.join(sorted(shapes))}, not "
            f"{', '.join(sorted(arrays)) or 'none'}."
        )
    for name, (kind, shape) in shapes.items():
        array = arrays[name]
        fits = array.dtype == kind and array.ndim == len(shape)
        if not fits or any(
            wanted is not None and n != wanted for n, wanted in zip(array.shape, shape, strict=True)
        ):
            shown = ", ".join("n" if n is None else str(n) for n in shape)
            raise InputError(
                f"{name} of the state must be {np.dtype(kind)} ({shown}), not {array.dtype} "
                f"{array.shape}."
            )
        if not np.isfinite(array).all():
            raise InputError(f"{name} of the state holds NaN or infinity.")
