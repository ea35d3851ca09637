"""`negrefine labels`: the negative labels of a detector and what the filter did to them."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.cli.bundles import option
from negrefine.cli.options import DETECTOR_DIR, pinned_place
from negrefine.cli.output import print_rows, say
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.detectors.proposed import Proposed

Which = Enum("Which", {"ALL": "all", "KEPT": "kept", "REMOVED": "removed"}, type=str)


def labels(
    detector_dir: Path = DETECTOR_DIR,
    show: Which = option(Which.ALL, "Which labels to list."),
) -> None:
    """List the negative labels, kept and removed, each with its reason, as a tab-separated table.

    Labels that were proposed say by whom and for which class; proposals that are no labels at all,
    because they are class names in other words, come last. The table is on standard output, a
    summary on standard error.
    """
    from negrefine.detectors.hub import local_bundle
    from negrefine.detectors.loading import load_labels, load_left_out, load_proposals
    from negrefine.labels.negatives import removal_counts

    detector_dir = local_bundle(pinned_place(detector_dir))
    found = load_labels(detector_dir)
    if found is None:
        raise InputError(f"The detector in {str(detector_dir)!r} has no negative labels.")
    shown = [
        (Which.KEPT if label.kept else Which.REMOVED, label)
        for label in found
        if show is Which.ALL or label.kept == (show is Which.KEPT)
    ]
    rows = [
        # No text: a negative number is no formula.
        [
            status.value,
            each.text,
            each.pos,
            each.lexname,
            Decimal(f"{each.similarity:.4f}"),
            "; ".join(filter(None, (str(each.proposal or ""), each.reason))),
        ]
        for status, each in shown
    ]
    proposals = load_proposals(detector_dir)
    names = {label.mined_text.lower() for label in found if label.proposal is not None}
    dropped = [each for each in proposals if not each.kept and each.text.lower() not in names]
    if show is not Which.KEPT:
        rows += [_dropped_row(each) for each in dropped]
    print_rows(["status", "text", "pos", "lexname", "similarity", "reason"], rows, "\t")
    counts = removal_counts(found)
    n_removed = sum(counts.values())
    reasons = ", ".join(f"{count} {kind}" for kind, count in list(counts.items())[:5])
    tail = f" ({reasons})" if reasons else ""
    say(f"{len(found) - n_removed} kept, {n_removed} removed{tail}.", err=True)
    if proposals:
        n_kept = sum(each.kept for each in proposals)
        n_judged = len(proposals) - len(dropped) - n_kept
        say(
            f"{len(proposals)} proposals by {proposals[0].by}: {n_kept} kept, {n_judged} removed "
            f"by the filter or proposed twice, {len(dropped)} by the overlap rules.",
            err=True,
        )
    left_out = load_left_out(detector_dir)
    if left_out is not None:
        say(str(left_out), err=True)


def _dropped_row(proposal: Proposed) -> list[Any]:
    """Return the row of a proposal that is no label."""
    from negrefine.labels.negatives import Proposal

    said = str(Proposal(proposal.by, proposal.class_name))
    return ["removed", proposal.text, "noun", "proposed", "", f"{said}; {proposal.reason}"]
