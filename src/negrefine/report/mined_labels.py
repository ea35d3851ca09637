"""The mined labels of saved detectors, and why NegFilter removed part of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from negrefine.detectors.loading import load_labels
from negrefine.errors import BundleError
from negrefine.labels.negatives import NegativeLabel, removal_counts


@dataclass(frozen=True, slots=True)
class MinedLabels:
    """What became of a detector's mined labels.

    Attributes:
        n_mined: Number of labels that mining found.
        removed: Those that NegFilter removed, in mined order.
        problem: Why the detector's files cannot be read, "" if they can.
    """

    n_mined: int = 0
    removed: tuple[NegativeLabel, ...] = ()
    problem: str = ""

    def removal_counts(self) -> list[tuple[str, int]]:
        """Return kind of reason and number of labels removed for it, the most frequent first."""
        return list(removal_counts(self.removed).items())


def mined_labels(directory: Path) -> MinedLabels | None:
    """Read a saved detector's labels, without its encoder; None if its method has none."""
    try:
        labels = load_labels(directory)
    except BundleError as error:
        return MinedLabels(problem=str(error))
    if labels is None:
        return None
    return MinedLabels(len(labels), tuple(label for label in labels if not label.kept))
