"""`negrefine labels`: the negative labels of a detector and what the filter did to them."""

from __future__ import annotations

import csv
import sys
from enum import Enum
from pathlib import Path

import typer

from negrefine.cli.bundles import option
from negrefine.cli.options import DETECTOR_DIR
from negrefine.errors import InputError

Which = Enum("Which", {"ALL": "all", "KEPT": "kept", "REMOVED": "removed"}, type=str)


def labels(
    detector_dir: Path = DETECTOR_DIR,
    show: Which = option(Which.ALL, "Which labels to list."),
) -> None:
    """List the negative labels, kept and removed, each with its reason, as a tab-separated table.

    The table is on standard output, a summary on standard error.
    """
    from negrefine.detectors.loading import load_labels
    from negrefine.labels.negatives import removal_counts

    found = load_labels(detector_dir)
    if found is None:
        raise InputError(f"The detector in {str(detector_dir)!r} has no negative labels.")
    writer = csv.writer(sys.stdout, delimiter="\t", lineterminator="\n")
    writer.writerow(["status", "text", "pos", "lexname", "similarity", "reason"])
    for label in found:
        status = Which.KEPT if label.kept else Which.REMOVED
        if show in {Which.ALL, status}:
            similarity = f"{label.similarity:.4f}"
            writer.writerow(
                [status.value, label.text, label.pos, label.lexname, similarity, label.reason]
            )
    counts = removal_counts(found)
    n_removed = sum(counts.values())
    reasons = ", ".join(f"{count} {kind}" for kind, count in list(counts.items())[:5])
    tail = f" ({reasons})" if reasons else ""
    typer.echo(f"{len(found) - n_removed} kept, {n_removed} removed{tail}.", err=True)
