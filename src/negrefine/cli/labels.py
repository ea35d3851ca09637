"""`negrefine labels`: the negative labels of a detector and what the filter did to them."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from enum import Enum
from typing import Annotated

import typer

from negrefine.cli.options import DetectorDir
from negrefine.errors import InputError


class Which(str, Enum):
    """Which labels to list."""

    ALL = "all"
    KEPT = "kept"
    REMOVED = "removed"


def labels(
    detector_dir: DetectorDir,
    show: Annotated[Which, typer.Option(help="Which labels to list.")] = Which.ALL,
) -> None:
    """List the negative labels, kept and removed, each with its reason, as a tab-separated table.

    The table is on standard output, a summary on standard error.
    """
    from negrefine.detectors.bundle import read_bundle

    manifest, _, tables = read_bundle(detector_dir)
    rows = tables.get("negative_labels")
    if rows is None:
        raise InputError(f"The method {manifest['method']!r} has no negative labels.")
    columns = ["status", "text", "pos", "lexname", "similarity", "reason"]
    writer = csv.DictWriter(
        sys.stdout, columns, delimiter="\t", lineterminator="\n", extrasaction="ignore"
    )
    writer.writeheader()
    for row in rows:
        status = Which.KEPT if row["kept"] else Which.REMOVED
        if show in {Which.ALL, status}:
            similarity = f"{row['similarity']:.4f}"
            writer.writerow({**row, "status": status.value, "similarity": similarity})
    causes = Counter(_cause(row["reason"]) for row in rows if not row["kept"])
    removed = ", ".join(f"{count} {cause}" for cause, count in causes.most_common(5))
    kept = sum(row["kept"] for row in rows)
    tail = f" ({removed})" if removed else ""
    typer.echo(f"{kept} kept, {len(rows) - kept} removed{tail}.", err=True)


def _cause(reason: str) -> str:
    """Return the reason without the names in it: "subcategory of 'daisy': ..." -> "subcategory"."""
    return reason.partition(":")[0].partition("'")[0].strip().removesuffix(" of")
