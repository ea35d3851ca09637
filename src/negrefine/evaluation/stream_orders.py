"""In which order images come: the streams over which methods that learn are compared."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negrefine.constraints import OneOf, Whole
from negrefine.errors import InputError

ORDERS = ("shuffled", "mixed", "bursts")
NATURAL, NO_OOD = "natural", "none"
_RATIO = re.compile(r"([1-9]\d{0,5}):([1-9]\d{0,5})")


@dataclass(frozen=True, slots=True)
class StreamSetting:
    """A kind of stream.

    Attributes:
        order: "shuffled" mixes the ID images with one OOD set at random, as published; "mixed" with
            all OOD sets; in "bursts" the images of one OOD set come in runs at random places.
        ratio: "natural" takes all images; "a:b" as many as give a ID images for b OOD images, the
            others left out at random; "none" leaves out all OOD images.
        batch_size: Images in a batch: 256 in AdaNeg and TANL, 64 in OODD as published.
        burst: Images in a run of the order "bursts".
    """

    order: str = "shuffled"
    ratio: str = NATURAL
    batch_size: int = 256
    burst: int = 64

    def __post_init__(self) -> None:
        OneOf(ORDERS)("order", self.order)
        Whole(1)("batch_size", self.batch_size)
        Whole(1)("burst", self.burst)
        known = self.ratio in {NATURAL, NO_OOD} or _RATIO.fullmatch(str(self.ratio))
        if not known:
            raise InputError(
                f"ratio must be 'natural', 'none', or ID to OOD as in '100:1', not {self.ratio!r}."
            )

    def __str__(self) -> str:
        if self.ratio == NO_OOD:
            return f"no OOD images, batches of {self.batch_size}"
        shown = {"mixed": "all OOD sets mixed", "bursts": f"OOD in bursts of {self.burst}"}
        ratio = "all images" if self.ratio == NATURAL else f"ID to OOD {self.ratio}"
        return f"{shown.get(self.order, 'shuffled')}, {ratio}, batches of {self.batch_size}"

    def counts(self, n_id: int, n_ood: int) -> tuple[int, int]:
        """Return how many ID and OOD images a stream has, out of so many."""
        if self.ratio in {NATURAL, NO_OOD}:
            return n_id, 0 if self.ratio == NO_OOD else n_ood
        a, b = map(int, self.ratio.split(":"))
        wanted = max(1, round(n_id * b / a))
        if wanted <= n_ood:
            return n_id, wanted
        return min(n_id, max(1, round(n_ood * a / b))), n_ood


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """Images in order.

    Attributes:
        sets: int64 (n,), 0 for an ID image, i + 1 for one of the i-th OOD set.
        images: int64 (n,), its place in its set.
    """

    sets: NDArray[np.int64]
    images: NDArray[np.int64]


def make_stream(
    setting: StreamSetting,
    n_id: int,
    n_ood: Sequence[int],
    ood_sets: Sequence[int],
    seed: int,
    *,
    left_out: NDArray[np.int64] | None = None,
) -> Stream:
    """Draw a stream of a kind.

    Args:
        setting: The kind.
        n_id: ID images there are.
        n_ood: Images of each OOD set.
        ood_sets: Which of them take part.
        seed: Decides which images are left out, and the order.
        left_out: ID images that must not be in the stream.
    """
    rng = np.random.default_rng([seed, *(i + 1 for i in ood_sets)])
    id_images = np.arange(n_id, dtype=np.int64)
    if left_out is not None:
        id_images = np.setdiff1d(id_images, left_out)
    sources = np.concatenate([[], *(np.full(n_ood[i], i + 1) for i in ood_sets)]).astype(np.int64)
    places = np.concatenate([[], *(np.arange(n_ood[i]) for i in ood_sets)]).astype(np.int64)
    n_inside, n_outside = setting.counts(len(id_images), len(sources))
    inside = rng.permutation(id_images)[:n_inside]
    outside = rng.permutation(len(sources))[:n_outside]
    sets = np.concatenate([np.zeros(len(inside), np.int64), sources[outside]])
    images = np.concatenate([inside, places[outside]])
    if setting.order == "bursts":
        order = _in_bursts(len(inside), len(outside), setting.burst, rng)
    else:
        order = rng.permutation(len(sets))
    return Stream(sets[order], images[order])


def _in_bursts(n_id: int, n_ood: int, burst: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the order of n_id + n_ood images in which the last n_ood come in runs."""
    runs = np.split(np.arange(n_id, n_id + n_ood), range(burst, n_ood, burst))
    # A run comes before the ID image of this number.
    starts = np.sort(rng.integers(0, n_id + 1, len(runs)))
    pieces = np.split(np.arange(n_id), starts)
    ordered = [part for pair in zip(pieces, runs, strict=False) for part in pair]
    return np.concatenate([*ordered, pieces[-1]]).astype(np.int64)
