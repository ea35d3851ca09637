"""`negrefine push`: a saved detector to the hub, with its card."""

from __future__ import annotations

from pathlib import Path

import typer

from negrefine.cli.bundles import option
from negrefine.cli.options import DETECTOR_DIR
from negrefine.cli.output import say

_REPOSITORY = typer.Argument(
    metavar="USER/NAME", help="The repository on the hub; it is made if it is not there."
)


def push(
    detector_dir: Path = DETECTOR_DIR,
    repository: str = _REPOSITORY,
    public: bool = option(
        False,
        "Who may see a repository that is made now; one that is there stays as it is.",
        name="--public/--private",
    ),
    revision: str | None = option(None, "A branch that is there; default: the main one.", "BRANCH"),
    licence: str | None = option(
        None, "Licence of the detector for its card, such as 'cc-by-4.0'.", "ID"
    ),
    replace_card: bool = option(
        False, "Replace a README.md that was edited by hand, too.", name="--replace-card"
    ),
    message: str | None = option(None, "Message of the commit.", "TEXT"),
) -> None:
    """Push a saved detector with a card to a repository of the Hugging Face hub.

    The token is that of 'hf auth login' or of $HF_TOKEN. All files go into one commit, whose
    address is printed: 'score' and every other command takes it in place of DETECTOR_DIR.
    """
    from negrefine.detectors.hub import push_detector

    address = push_detector(
        detector_dir,
        repository,
        revision=revision,
        private=not public,
        licence=licence,
        replace_card=replace_card,
        message=message,
    )
    say(f"Pushed to {address}")
