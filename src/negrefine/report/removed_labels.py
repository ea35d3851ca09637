"""The negative labels of saved detectors, and why NegFilter removed some."""

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
        n_mined: Labels that mining found.
        removed: Rows of those removed, with "text", "lexname" and "reason", in mined order.
        reasons: Kind of reason to number of labels, the most frequent first.
        problem: Why the detector's files cannot be read, "" if they can.
    """

    n_mined: int = 0
    removed: tuple[dict[str, Any], ...] = ()
    reasons: tuple[tuple[str, int], ...] = ()
    problem: str = ""


def mined_labels(directory: Path) -> MinedLabels | None:
    """Read a saved detector's labels, without its encoder; None if its method has none."""
    try:
        _, _, tables = read_bundle(directory)
    except BundleError as error:
        return MinedLabels(problem=str(error))
    if "negative_labels" not in tables:
        return None
    rows = tables["negative_labels"]
    removed = tuple(row for row in rows if not row["kept"])
    reasons = Counter(reason_kind(row["reason"]) for row in removed)
    return MinedLabels(len(rows), removed, tuple(reasons.most_common()))


def reason_kind(reason: str) -> str:
    """Return the reason without its particulars: "subcategory of 'dog': ..." is a subcategory."""
    kind = reason.partition(":")[0].strip()
    if kind.startswith("subcategory of"):
        return "subcategory of a class"
    return kind or "no reason given"
