"""The mined labels of saved detectors, and why NegFilter removed part of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from negrefine.detectors.bundle import read_bundle
from negrefine.errors import BundleError


@dataclass(frozen=True, slots=True)
class MinedLabels:
    """What became of a detector's mined labels.

    Attributes:
        n_mined: Number of labels that mining found.
        removed: Rows of those removed, with "text", "lexname" and "reason", in mined order.
        problem: Why the detector's files cannot be read, "" if they can.
    """

    n_mined: int = 0
    removed: tuple[dict[str, Any], ...] = ()
    problem: str = ""

    def removal_counts(self) -> list[tuple[str, int]]:
        """Return kind of reason and number of labels removed for it, the most frequent first."""
        return Counter(_kind(row["reason"]) for row in self.removed).most_common()


def mined_labels(directory: Path) -> MinedLabels | None:
    """Read a saved detector's labels, without its encoder; None if its method has none."""
    try:
        _, _, tables = read_bundle(directory)
    except BundleError as error:
        return MinedLabels(problem=str(error))
    if "negative_labels" not in tables:
        return None
    rows = tables["negative_labels"]
    return MinedLabels(len(rows), tuple(row for row in rows if not row["kept"]))


def _kind(reason: str) -> str:
    """Return the reason without its details: "subcategory of 'dog': ..." is a subcategory."""
    kind = reason.partition(":")[0].strip()
    if kind.startswith("subcategory of"):
        return "subcategory of a class"
    return kind or "no reason given"
