"""What a page of scored images says: the order of its images, counts, and facts about the run."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath

from negrefine.detectors.base import Detector
from negrefine.detectors.conformal import detection_interval
from negrefine.evaluation.scored_image import ScoredImage
from negrefine.shown_text import restored

FLAGGED, INSIDE, UNREADABLE, OPEN = "flagged", "in-distribution", "unreadable", "no verdict"
_STATES = (FLAGGED, UNREADABLE, INSIDE, OPEN)


@dataclass(frozen=True)
class Rate:
    """How many of n readable images are flagged, with the 95 % Clopper-Pearson interval."""

    n_flagged: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The flagged share."""
        return self.n_flagged / self.n


class ScoresContent:
    """Rows of `score_files`, and the first `n_images` of them in the order of the page.

    Attributes:
        rows: All rows.
        shown: The rows on the page: flagged ones, then unreadable ones, then the others, each by
            p-value and score, the lowest first; ties in the order given.
        detector: What scored them.
        name: What the page calls the detector.
        notes: Further sentences for the head of the page.
    """

    def __init__(
        self,
        rows: Sequence[ScoredImage],
        detector: Detector,
        name: str,
        n_images: int,
        notes: Iterable[str],
    ) -> None:
        self.rows, self.detector, self.name, self.notes = rows, detector, name, list(notes)
        self.shown = [rows[i] for i in sorted(range(len(rows)), key=lambda i: _rank(rows[i], i))]
        del self.shown[n_images:]

    @cached_property
    def counts(self) -> Counter[str]:
        """Number of rows by state."""
        return Counter(map(state_of, self.rows))

    @cached_property
    def shown_counts(self) -> Counter[str]:
        """Number of shown rows by state, in the order of the filters; empty ones left out."""
        counts = Counter(map(state_of, self.shown))
        return Counter({state: counts[state] for state in _STATES if counts[state]})

    @property
    def left_out(self) -> dict[str, int]:
        """Number of rows by state that are not shown; empty ones left out."""
        missing = self.counts - Counter(self.shown_counts)
        return {state: missing[state] for state in _STATES if missing[state]}

    @cached_property
    def classes(self) -> dict[str, int]:
        """Number of shown rows by nearest class, sorted by name."""
        counts = Counter(row.nearest_class for row in self.shown if row.nearest_class is not None)
        return dict(sorted(counts.items()))

    @cached_property
    def folder(self) -> str:
        """The folder that all shown images are in, "" if there is none."""
        folders = {str(PurePath(restored(row.path)).parent) for row in self.shown}
        try:
            return os.path.commonpath(folders)
        # None, or absolute and relative ones, or ones on several drives.
        except ValueError:
            return ""

    def place(self, row: ScoredImage) -> tuple[str, str]:
        """Return an image's folder below the common one, "" for itself, and its file name."""
        path = PurePath(restored(row.path))
        folder = path.parent
        if self.folder:
            folder = folder.relative_to(self.folder)
        return "" if folder == PurePath() else str(folder), path.name

    @cached_property
    def rate(self) -> Rate | None:
        """The flagged share of the readable images; None without a threshold, or without any."""
        n = self.counts[FLAGGED] + self.counts[INSIDE]
        if not n:
            return None
        flagged = self.counts[FLAGGED]
        return Rate(flagged, n, *detection_interval(flagged, n))

    @property
    def has_p_values(self) -> bool:
        """Whether rows have p-values."""
        return any(row.p_value is not None for row in self.shown)

    @cached_property
    def thresholds(self) -> list[float]:
        """The different thresholds of the detector, sorted; one unless they are by class."""
        detector = self.detector
        if detector.class_offsets_ is not None:
            return sorted(set(detector.class_offsets_.tolist()))
        return [] if detector.offset_ is None else [detector.offset_]

    @cached_property
    def kind_counts(self) -> Counter[str]:
        """Number of classes by the kind of their `ThresholdGroup`."""
        return Counter(
            kind for g in self.detector.threshold_groups() for kind in [g.kind] * len(g.classes)
        )

    @property
    def paths(self) -> list[Path | None]:
        """The files of the shown rows, None for those that could not be read."""
        return [Path(restored(row.path)) if row.error is None else None for row in self.shown]


def state_of(row: ScoredImage) -> str:
    """Return what the page calls the outcome for an image."""
    if row.error is not None:
        return UNREADABLE
    if row.verdict is None:
        return OPEN
    return FLAGGED if row.verdict == "OOD" else INSIDE


def _rank(row: ScoredImage, position: int) -> tuple[int, float, float, int]:
    state = state_of(row)
    group = 2 if state == OPEN else _STATES.index(state)
    p_value = 2.0 if row.p_value is None else row.p_value
    return group, p_value, 0.0 if row.score is None else row.score, position
