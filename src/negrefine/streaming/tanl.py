"""TANL: the labels that outliers in the stream activate, chosen for each batch (CVPR 2026)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from typing_extensions import Self

from negrefine.constraints import SEED, Number, OneOf, Whole
from negrefine.detectors.frozen import FrozenTANL
from negrefine.detectors.image_block import as_double, unit_rows
from negrefine.detectors.parameters import detector, parameter
from negrefine.detectors.proposed import refuse_proposed
from negrefine.detectors.scores import tanl_score
from negrefine.encoders.base import FloatArray
from negrefine.errors import InputError
from negrefine.labels.negatives import Negatives
from negrefine.streaming.base import ROWS, StreamDetector, check_state
from negrefine.streaming.given import detector_of_features, unit_features
from negrefine.streaming.label_queue import LabelQueue
from negrefine.streaming.noise import noise_images
from negrefine.streaming.otsu import otsu_threshold
from negrefine.streaming.state import Arrays

if TYPE_CHECKING:
    from torch import Tensor

PRESETS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "paper": MappingProxyType({"alpha": 0.95, "gap": 0.2, "stride": 1}),
        "official": MappingProxyType({"alpha": 0.0, "gap": 0.5, "stride": 1}),
    }
)
"""What the paper says, and what the released script runs with."""

# Scores that Otsu's threshold is taken from.
_SCORES = 20_000
# Rows and columns of logits over all candidates at a time: 64 x 70,000 x 8 bytes = 36 MB.
_ROWS, _COLUMNS = 64, 8192


def _check_further(name: str, value: Any) -> None:
    if value is not None and not isinstance(value, Negatives):
        raise InputError(f"{name} must be Negatives or None, not {type(value).__name__}.")


def _any_array(name: str, value: Any) -> None:
    """Accept what `_prepare` looks at."""


_SHARE = Number("lie in [0, 1] or be None", low=0, high=1, closed="both", optional=True)


@detector
class TANL(StreamDetector):
    """Mass on the classes against the labels that outliers activate more than classes do.

    The activation of a label by an image is its probability in a softmax over classes and all
    candidates. Two queues hold activations of confident images of each side, to begin with those of
    the class names and of noise; the `n_labels` labels with the largest difference of means are the
    negative labels. For each batch they are chosen again from the batch itself (weight 1 - alpha)
    and the queues (alpha) before it is scored.

    Published with batches of 256. With alpha = 0 (preset "official") a side with one confident
    image chooses its own labels, so small batches mean little: give 64 images or more.

    The candidates are the base's negative labels and `further` ones; the published run has all of
    WordNet (`negrefine.streaming.candidates.lexicon_candidates`).

    Example:
        >>> stream = negrefine.TANL(refine, n_labels=50)
        >>> scores = stream.update_and_score(encoder.encode_images(animals + food))
        >>> len(scores) == len(animals + food)
        True
    """

    method = "tanl"
    title = "TANL"
    paper = "CVPR 2026, arXiv 2603.25250"
    parts = ("tanl",)

    preset: str = parameter(
        "paper",
        OneOf(tuple(PRESETS)),
        "What None stands for below: 'paper' (alpha 0.95, gap 0.2) or 'official', the released "
        "script (alpha 0, gap 0.5); stride 1 in both.",
    )
    n_labels: int = parameter(1000, Whole(1), "Labels to choose, or all if there are fewer.")
    queue: int = parameter(300, Whole(1), "Activations in each queue.")
    gap: float | None = parameter(
        None, _SHARE, "How far from Otsu's threshold an image must be to be confident."
    )
    alpha: float | None = parameter(None, _SHARE, "Weight of a queue against the batch.")
    stride: int | None = parameter(
        None,
        Whole(0, optional=True),
        "Labels between two terms of the mean; 0 for one softmax over all.",
    )
    seed: int = parameter(0, SEED, "Seed of the orders at reset that are not given, and of noise.")
    further: Negatives | None = parameter(
        None, _check_further, "Candidates beside the base's labels.", on_command_line=False
    )
    noise_features: ArrayLike | None = parameter(
        None,
        _any_array,
        "Features (m, d) of noise images; None encodes 15 with the base's encoder.",
        on_command_line=False,
    )
    class_order: Sequence[int] | None = parameter(
        None,
        _any_array,
        "Order in which class names enter their queue; None draws it from the seed.",
        on_command_line=False,
    )
    noise_order: Sequence[int] | None = parameter(
        None,
        _any_array,
        "Order in which noise enters its queue; None draws it from the seed.",
        on_command_line=False,
    )

    @classmethod
    def from_features(
        cls,
        class_features: ArrayLike,
        candidate_features: ArrayLike,
        *,
        logit_scale: float,
        noise_features: ArrayLike,
        **parameters: Any,
    ) -> Self:
        """Return the stream on features of classes (C, d), candidates (N, d) and noise (m, d).

        `parameters` are those of the class.
        """
        base = detector_of_features(class_features, candidate_features, logit_scale)
        # As numbers, which the states that were saved of such streams have.
        preset = PRESETS.get(parameters.get("preset", "paper"), {})
        return cls(base, noise_features=noise_features, **{**preset, **parameters})

    def _prepare(self) -> None:
        refuse_proposed(self.base.negatives_, "TANL")
        parts = [each for each in (self.base.negatives_, self.further) if each is not None]
        self._labels = tuple(label for part in parts for label in part.kept)
        if not self._labels:
            raise InputError(
                f"TANL needs candidates, and {self.base.title} has no negative labels: give "
                "NegLabel, CSP or NegRefine, or further candidates."
            )
        features = [part.kept_features for part in parts if part.kept]
        width = self.base.class_features_.shape[1]
        if any(each.shape[1] != width for each in features):
            raise InputError(f"The further candidates must have features of width {width}.")
        self._candidates = features[0] if len(features) == 1 else np.concatenate(features)
        chosen = PRESETS[self.preset]
        self._alpha = chosen["alpha"] if self.alpha is None else float(self.alpha)
        self._gap = chosen["gap"] if self.gap is None else float(self.gap)
        self._stride = int(chosen["stride"]) if self.stride is None else int(self.stride)
        self._scale = self.base.logit_scale_
        self._classes = as_double(self.base.class_features_)
        noise = self.noise_features
        if noise is None:
            noise = self.base.encoder.encode_images(noise_images(int(self.seed)))
        self._noise = unit_features(noise, "Noise features", width)
        generator = np.random.default_rng(int(self.seed))
        self._class_order = _order("class_order", self.class_order, len(self._classes), generator)
        self._noise_order = _order("noise_order", self.noise_order, len(self._noise), generator)
        self._inside = LabelQueue(self.queue, len(self._candidates))
        self._outside = LabelQueue(self.queue, len(self._candidates))

    def _further_arrays(self) -> list[NDArray[Any]]:
        orders = (np.array(self._class_order), np.array(self._noise_order))
        return [self._candidates, self._noise, *orders]

    def _reset(self) -> None:
        noise = unit_rows(self._noise)
        for queue, rows, order in (
            (self._inside, self._classes, self._class_order),
            (self._outside, noise, self._noise_order),
        ):
            queue.clear()
            last = rows[order[-self.queue :]]
            for start in range(0, len(last), _ROWS):
                queue.append(self._activations(last[start : start + _ROWS]))
        chosen = self._chosen(self._inside.mean(), self._outside.mean())
        self._scores = np.concatenate(
            [self._score(rows, chosen) for rows in (self._classes, noise)]
        )

    def _step(self, features: FloatArray) -> dict[str, NDArray[np.float64]]:
        rows = unit_rows(features)
        inside, outside = self._inside.mean(), self._outside.mean()
        first = self._score(rows, self._chosen(inside, outside))
        scores = np.concatenate([self._scores, first])[-_SCORES:]
        threshold = otsu_threshold(scores)
        high = first > threshold + self._gap * (1 - threshold)
        low = first < threshold - self._gap * threshold
        inside, newest_inside = self._with_batch(rows[np.flatnonzero(high)], inside)
        outside, newest_outside = self._with_batch(rows[np.flatnonzero(low)], outside)
        result = self._score(rows, self._chosen(inside, outside))
        self._scores = scores
        self._inside.append(newest_inside)
        self._outside.append(newest_outside)
        return {"tanl": result}

    def _with_batch(
        self, rows: Tensor, mean: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], FloatArray]:
        """Return a queue's mean mixed with that of the batch, and the rows to append later."""
        if not len(rows):
            return mean, np.empty((0, len(self._candidates)), dtype=np.float32)
        total = np.zeros(len(self._candidates))
        newest = np.empty((min(len(rows), self.queue), len(self._candidates)), dtype=np.float32)
        for start in range(0, len(rows), _ROWS):
            block = self._activations(rows[start : start + _ROWS])
            total += block.sum(axis=0, dtype=np.float64)
            first = start - (len(rows) - len(newest))
            newest[max(first, 0) : first + len(block)] = block[max(-first, 0) :]
        return self._alpha * mean + (1 - self._alpha) * (total / len(rows)), newest

    def _activations(self, rows: Tensor) -> FloatArray:
        """Return the probabilities of all candidates, float32 (n, N), of rows of length one."""
        import torch

        n_candidates = len(self._candidates)
        result = np.empty((len(rows), n_candidates), dtype=np.float32)
        for start in range(0, len(rows), _ROWS):
            x = rows[start : start + _ROWS] * self._scale
            logits = torch.empty((len(x), n_candidates), dtype=torch.float64)
            for first in range(0, n_candidates, _COLUMNS):
                columns = slice(first, first + _COLUMNS)
                logits[:, columns] = x @ as_double(self._candidates[columns]).T
            total = logits.logsumexp(dim=1).logaddexp((x @ self._classes.T).logsumexp(dim=1))
            result[start : start + _ROWS] = logits.sub_(total[:, None]).exp_().numpy()
        return result

    def _chosen(
        self, inside: NDArray[np.float64], outside: NDArray[np.float64]
    ) -> NDArray[np.intp]:
        """Return the labels that outliers activate most, the most active first, ties in order."""
        order: NDArray[np.intp] = np.argsort(inside - outside, kind="stable")[: self.n_labels]
        return order

    def _score(self, rows: Tensor, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        labels = as_double(self._candidates[chosen])
        scored = []
        for start in range(0, len(rows), ROWS):
            x = rows[start : start + ROWS]
            score = tanl_score(x @ self._classes.T, x @ labels.T, self._stride, self._scale)
            scored.append(score.numpy())
        return np.concatenate(scored)

    def combine(self, parts: dict[str, NDArray[np.float64]]) -> NDArray[np.float64]:
        """Return the one part."""
        return parts["tanl"]

    def freeze(self) -> FrozenTANL:
        """Return the score on the labels that the queues choose; see `StreamDetector.freeze`."""
        chosen = self._chosen(self._inside.mean(), self._outside.mean())
        labels = tuple(self._labels[i] for i in chosen)
        made = FrozenTANL.on_classes_of(self.base, stride=self._stride, logit_scale=self._scale)
        return made.hold(Negatives(labels, self._candidates[chosen]))

    def _state(self) -> Arrays:
        return {
            "inside": self._inside.in_order,
            "outside": self._outside.in_order,
            "scores": self._scores,
        }

    def _load_state(self, arrays: Arrays) -> None:
        check_state(
            arrays,
            {
                "inside": (np.float32, (None, len(self._candidates))),
                "outside": (np.float32, (None, len(self._candidates))),
                "scores": (np.float64, (None,)),
            },
        )
        for name in ("inside", "outside"):
            if not 1 <= len(arrays[name]) <= self.queue:
                raise InputError(f"{name} of the state must have 1 to {self.queue} rows.")
        for name, queue in (("inside", self._inside), ("outside", self._outside)):
            queue.clear()
            queue.append(arrays[name])
        self._scores = arrays["scores"]


def _order(
    name: str, given: Sequence[int] | None, n: int, generator: np.random.Generator
) -> list[int]:
    """Return a permutation of n places, drawn if none was given."""
    drawn: list[int] = generator.permutation(n).tolist()
    if given is None:
        return drawn
    order = [int(place) for place in given]
    if sorted(order) != list(range(n)):
        raise InputError(f"{name} must hold each of 0 to {n - 1} once.")
    return order
