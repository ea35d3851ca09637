"""What a monitor needs to know of a calibrated detector, without its encoder."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors.kept_calibration import KeptCalibration

if TYPE_CHECKING:
    from negrefine.detectors import Detector


@dataclass(frozen=True)
class MonitoredGroup:
    """Classes whose images are ranked among the same calibration scores.

    Attributes:
        kind: "all", "class" or "pooled", as `ThresholdGroup.kind`.
        classes: Indices of its class names.
        members: Positions in the sorted calibration scores of those that images are ranked among.
        rank: An image is flagged if its p-value is <= rank / (n + 1), n the number of members.
    """

    kind: str
    classes: tuple[int, ...]
    members: tuple[int, ...]
    rank: int


@dataclass(frozen=True)
class MonitoredCalibration:
    """Calibration scores as ranks, their predicted classes and the thresholds.

    Attributes:
        class_names: K class names.
        ranks: Dense ranks of the n sorted calibration scores: equal for scores that tie.
        classes: The predicted class of each, None if it is unknown.
        groups: Every class is in exactly one.
        fpr: The false-alarm rate that was asked for.
        delta: The chance that the threshold may exceed it, None if its mean is bounded.
    """

    class_names: tuple[str, ...]
    ranks: tuple[int, ...]
    classes: tuple[int, ...] | None
    groups: tuple[MonitoredGroup, ...]
    fpr: float
    delta: float | None

    @classmethod
    def of(cls, detector: Detector) -> MonitoredCalibration:
        """Describe a calibrated detector.

        Raises NotFittedError as `Detector.threshold_groups`.
        """
        return cls.from_kept(KeptCalibration.of(detector))

    @classmethod
    def from_kept(cls, kept: KeptCalibration) -> MonitoredCalibration:
        """Describe a calibration."""
        return cls(
            class_names=kept.class_names,
            ranks=dense_ranks(kept.scores),
            classes=None if kept.classes is None else tuple(kept.classes.tolist()),
            groups=tuple(
                MonitoredGroup(group.kind, group.classes, tuple(members.tolist()), group.rank)
                for group, members in kept.members_of_groups()
            ),
            fpr=kept.fpr,
            delta=kept.delta,
        )

    @cached_property
    def first_of_name(self) -> tuple[int, ...]:
        """The first class with the name of each class: names may occur twice."""
        first: dict[str, int] = {}
        return tuple(first.setdefault(name, i) for i, name in enumerate(self.class_names))

    @cached_property
    def index_of_name(self) -> dict[str, int]:
        """The first class with each name."""
        return dict(zip(self.class_names, self.first_of_name, strict=True))

    @cached_property
    def ambiguous_names(self) -> frozenset[str]:
        """Names that occur more than once, with different thresholds."""
        pairs = {
            (self.class_names[index], number)
            for number, group in enumerate(self.groups)
            for index in group.classes
        }
        counts = Counter(name for name, _ in pairs)
        return frozenset(name for name, count in counts.items() if count > 1)

    @cached_property
    def digest(self) -> str:
        """A SHA-256 (hex) of everything here."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    @cached_property
    def content(self) -> dict[str, Any]:
        """JSON data, from which `from_dict` makes the same again."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> MonitoredCalibration:
        """Return what `content` describes; ValueError, TypeError or KeyError if it is damaged."""
        groups = tuple(
            MonitoredGroup(
                str(each["kind"]),
                _whole(each["classes"]),
                _whole(each["members"]),
                *_whole([each["rank"]]),
            )
            for each in content["groups"]
        )
        classes = content["classes"]
        return cls(
            tuple(map(str, content["class_names"])),
            _whole(content["ranks"]),
            None if classes is None else _whole(classes),
            groups,
            content["fpr"],
            content["delta"],
        )


def dense_ranks(scores: NDArray[np.float64]) -> tuple[int, ...]:
    """Return 0, 1, 2, ... for sorted scores, the same for those that tie."""
    steps = np.diff(scores, prepend=scores[:1]) > 0
    return tuple(np.cumsum(steps).tolist())


def _whole(values: Any) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise ValueError("whole numbers are missing")
    return tuple(values)
