"""`negrefine card`: what a saved detector is and promises, as Markdown."""

from __future__ import annotations

from pathlib import Path

from negrefine.cli.bundles import option
from negrefine.cli.options import DETECTOR_DIR, pinned_place
from negrefine.cli.output import say
from negrefine.errors import InputError


def card(
    detector_dir: Path = DETECTOR_DIR,
    out: Path | None = option(
        None, "Write it here, in place of an unedited card; default: standard output.", "FILE"
    ),
    licence: str | None = option(
        None, "Licence of the detector for its card, such as 'cc-by-4.0'.", "ID"
    ),
) -> None:
    """Write the card of a saved detector: what it is, its threshold, and what it promises.

    It is what 'push' writes as README.md. The encoder is not loaded.
    """
    from negrefine.detectors.card import detector_card, is_unedited
    from negrefine.detectors.hub import card_address, check_licence, local_bundle
    from negrefine.files.reading import read_bytes
    from negrefine.files.writing import write_text

    check_licence(licence)
    detector_dir = Path(pinned_place(detector_dir))
    where = card_address(detector_dir)
    text = detector_card(local_bundle(detector_dir), address=where, licence=licence)
    if out is None:
        say(*text.splitlines())
        return
    try:
        before = read_bytes(out, 16 << 20).decode("utf-8", "replace")
    except FileNotFoundError:
        before = None
    except (OSError, ValueError) as error:
        raise InputError(f"{str(out)!r} is no card: choose another name.") from error
    if before is not None and not is_unedited(before):
        raise InputError(
            f"{str(out)!r} exists and is no card, or was edited by hand: choose another name, or "
            "remove it."
        )
    write_text(out, text)
    say(f"Wrote {out}.", err=True)
