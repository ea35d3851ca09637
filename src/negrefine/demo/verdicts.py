"""The verdicts of the demo on pictures that did not set its threshold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from negrefine.benchmarks.bundled import ID_SET, DemoImage
from negrefine.detectors import Explanation

# Pictures shown large, with what decided: each a set, and whether it is to be flagged.
_CHOSEN = (
    *((ID_SET, False),) * 2,
    *((name, True) for name in ("food", "vehicles", "objects", "plants")),
    ("plants", False),
    (ID_SET, True),
)


@dataclass(frozen=True)
class Verdict:
    """A picture, and whether it was flagged: said to show none of the classes."""

    image: DemoImage
    flagged: bool

    @property
    def is_right(self) -> bool:
        """Whether it is flagged if and only if it shows none of the classes."""
        return self.flagged == (self.image.class_name is None)

    @property
    def truth(self) -> str:
        """What the picture shows: its class, or a set without classes."""
        name = self.image.class_name
        return f"no animal: {self.image.set_name}" if name is None else f"class {name!r}"


@dataclass(frozen=True)
class Verdicts:
    """All verdicts, and `examples` with what decided them.

    `n_calibration` other pictures of animals set the threshold.
    """

    rows: Sequence[Verdict]
    examples: Sequence[tuple[Verdict, Explanation]]
    n_classes: int
    n_calibration: int
    fpr: float

    @cached_property
    def by_set(self) -> dict[str, list[Verdict]]:
        """The verdicts on each set, animals first."""
        sets: dict[str, list[Verdict]] = {}
        for row in self.rows:
            sets.setdefault(row.image.set_name, []).append(row)
        return sets

    @property
    def animals(self) -> list[Verdict]:
        """Those on pictures of the classes."""
        return self.by_set[ID_SET]

    @property
    def others(self) -> list[Verdict]:
        """Those on pictures of something else."""
        return [row for name, rows in self.by_set.items() if name != ID_SET for row in rows]

    @property
    def headline(self) -> str:
        """Return the result in one sentence."""
        n, flagged = len(self.others), count_flagged(self.others)
        shown = f"pictures that show none of the {self.n_classes} animals"
        return f"{flagged} of {n} {shown} were flagged"

    @property
    def sentence(self) -> str:
        """Return what is behind the headline."""
        return (
            f"NegRefine was given {self.n_classes} names of animals, and {self.n_calibration} "
            f"pictures of animals for its threshold, nothing else. Of {len(self.animals)} other "
            f"pictures of these animals it flagged {count_flagged(self.animals)}; the threshold "
            f"promises at most {self.fpr:.0%} on average."
        )


def choose(rows: Sequence[Verdict]) -> list[Verdict]:
    """Return a few verdicts, right and wrong ones, at fixed places of their sets."""
    found: list[Verdict] = []
    for name, flagged in _CHOSEN:
        members = [row for row in rows if row.image.set_name == name and row.flagged == flagged]
        members = [row for row in members if row not in found]
        found += members[len(members) // 3 :][:1]
    return found


def count_flagged(rows: Sequence[Verdict]) -> int:
    """Return how many are flagged."""
    return sum(row.flagged for row in rows)
