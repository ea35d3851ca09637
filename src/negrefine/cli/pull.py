"""`negrefine pull`: a detector from the hub into a directory of one's own."""

from __future__ import annotations

from pathlib import Path

import typer

from negrefine.cli.bundles import option
from negrefine.cli.output import say
from negrefine.errors import InputError

_ADDRESS = typer.Argument(metavar="ADDRESS", help="'hf://user/name' or 'hf://user/name@revision'.")


def pull(
    address: str = _ADDRESS,
    out: Path = option(..., "Where to save the detector.", "DETECTOR_DIR"),
) -> None:
    """Copy a detector from the hub into a directory, to calibrate it on your own images.

    Every file is checked as for 'score'. A saved detector that is in the directory is replaced.
    """
    from negrefine.detectors.bundle import copy_bundle
    from negrefine.detectors.hub import local_bundle, pinned
    from negrefine.pretrained.hub_address import is_hub_address

    if not is_hub_address(address):
        meant = f"hf://{address}" if address.count("/") == 1 else "hf://user/name"
        raise InputError(f"{address!r} is no address on the hub: give one such as {meant!r}.")
    commit = pinned(address)
    copy_bundle(local_bundle(commit), out)
    say(f"Saved {commit} in {out}.")
