"""Which classes drift: their shares of the stream, and their images' ranks among their own."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np

from negrefine.monitoring.calibration import MonitoredCalibration
from negrefine.monitoring.martingale import CLASS_BETS, Jumper
from negrefine.monitoring.two_sample import holm, hypergeometric_tails, spent, two_sided
from negrefine.monitoring.urn import Cells, Urn

LEAST_IMAGES = 20
"""A class with fewer calibration images is not tested for its p-values."""
_RATES = (1e-2, 1e-3)


class ClassRanks:
    """The urn of one class: images of it, flagged or not, among calibration images of it.

    Given the predicted classes of all images, those of one class are exchangeable, so the urn is
    exact whichever scores the p-values rank among: k - 1 of these are <= the score of an image in
    cell k, and which of them are of the class is known.

    Attributes:
        urn: The urn.
        jumper: The wager on its numbers; None for a class that is not tested.
    """

    def __init__(self, own_ranks: list[int], positions: list[int], *, tested: bool) -> None:
        """Take the dense ranks of the class's scores, and their positions, from 1, in the group."""
        self.urn = Urn(Cells.between(np.array(own_ranks, dtype=np.float64)))
        self.jumper = Jumper(len(CLASS_BETS.slopes), _RATES) if tested else None
        self._positions = positions

    def place(self, k: int, uniform: float) -> float:
        """Return the uniform number of an image in cell k of the group, and bet on it."""
        u = self.urn.place(1 + bisect_right(self._positions, k - 1), uniform)
        if self.jumper is not None:
            self.jumper.bet(CLASS_BETS(u))
        return u


def class_ranks(calibration: MonitoredCalibration) -> dict[int, ClassRanks]:
    """Return the urns of the classes that have calibration images and need one."""
    if calibration.classes is None:
        return {}
    first = calibration.first_of_name
    urns = {}
    for group in calibration.groups:
        # Members of a group by class, as positions from 1; two classes of one name are one.
        own: dict[int, list[int]] = {}
        for position, member in enumerate(group.members, 1):
            own.setdefault(first[calibration.classes[member]], []).append(position)
        exact = is_exact(group.kind, len(group.classes), len(calibration.class_names))
        for index in dict.fromkeys(first[each] for each in group.classes):
            positions = own.get(index, [])
            tested = len(positions) >= LEAST_IMAGES
            if tested or (positions and not exact):
                ranks = [calibration.ranks[group.members[p - 1]] for p in positions]
                urns[index] = ClassRanks(ranks, positions, tested=tested)
    return urns


def is_exact(kind: str, n_classes: int, n_all: int) -> bool:
    """Whether the images of a group are exchangeable with the calibration images they rank among.

    Pools and the fallback to all calibration images rank images of few classes among those of
    more.
    """
    return kind == "class" or n_classes == n_all


class ClassShares:
    """Fisher's exact test of each class's share, in windows of W images, flagged or not.

    Over calibration images and a window, which are exchangeable, the number of a class in the
    window is hypergeometric given the number in both. Window j has the share `spent(alpha, j)`
    of alpha, within which Holm's procedure allows for the number of classes.

    Attributes:
        window: W.
        counts: int64 (K,), images of each class in the unfinished window.
        n_done: Finished windows.
    """

    def __init__(self, calibration: MonitoredCalibration, window: int, alpha: float) -> None:
        self.window, self.alpha = window, alpha
        first = calibration.first_of_name
        self.known = np.zeros(len(first), dtype=np.int64)
        for each in calibration.classes or ():
            self.known[first[each]] += 1
        self.n_known = int(self.known.sum())
        self.n_hypotheses = len(set(first))
        self.counts = np.zeros(len(first), dtype=np.int64)
        self.n_done = 0
        self._filled = 0

    def add(self, index: int) -> list[tuple[int, str]]:
        """Count an image; at the end of a window return the classes that drift, and how."""
        self.counts[index] += 1
        self._filled += 1
        if self._filled < self.window:
            return []
        self.n_done += 1
        candidates = np.flatnonzero(self.counts + self.known)
        counts, known = self.counts[candidates].tolist(), self.known[candidates].tolist()
        # Classes with the same counts have the same p-value.
        tails = {
            pair: hypergeometric_tails(pair[0], sum(pair), self.window, self.n_known + self.window)
            for pair in sorted(set(zip(counts, known, strict=True)))
        }
        p = np.array([two_sided(tails[pair]) for pair in zip(counts, known, strict=True)])
        drifting = []
        for i in holm(p, spent(self.alpha, self.n_done), self.n_hypotheses):
            at_most, at_least = tails[counts[i], known[i]]
            how = "more" if at_least < at_most else "fewer"
            drifting.append((int(candidates[i]), f"{how} images than in calibration"))
        self.counts[:] = 0
        self._filled = 0
        return drifting

    def as_dict(self) -> dict[str, Any]:
        """Return the state as JSON data."""
        return {"counts": self.counts.tolist(), "n_done": self.n_done}

    def restore(self, content: dict[str, Any]) -> None:
        """Take up what `as_dict` returned; ValueError if it does not fit."""
        counts = np.array(content["counts"], dtype=np.int64)
        if counts.shape != self.counts.shape or (counts < 0).any() or counts.sum() >= self.window:
            raise ValueError("the counts of classes do not fit")
        self.counts, self.n_done = counts, int(content["n_done"])
        self._filled = int(counts.sum())
