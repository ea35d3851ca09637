"""`negrefine score --ray`: a source of images scored shard by shard on a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from negrefine.cli.options import pinned_place
from negrefine.cli.output import counted, describe_lookups, say, warn, warn_unreadable
from negrefine.cli.score_views import ScoreViews
from negrefine.errors import ImageError, InputError

if TYPE_CHECKING:
    from negrefine.cli.options import SavedDetector


def fleet_folder(out: Path | None, views: ScoreViews) -> Path:
    """Return the folder of the parts; InputError for options that have no meaning with --ray."""
    if out is None:
        raise InputError("--ray writes the results in parts: give a folder for them with --out.")
    if out.suffix.lower() in {".parquet", ".csv", ".jsonl"}:
        raise InputError(
            f"--ray writes a folder of Parquet files, and {str(out)!r} is the name of a file: give "
            "--out the name of a folder."
        )
    if views.report is not None or views.sort_into is not None:
        raise InputError("--report and --sort-into do not work with --ray: leave them out.")
    return out


def score_fleet(
    saved: SavedDetector,
    images: Sequence[str],
    image_column: str | None,
    out: Path,
    address: str,
    batch_size: int,
) -> None:
    """Score everything that is named, and say what was done."""
    from negrefine.adapters.ray import score_shards
    from negrefine.sources.opening import open_sources

    saved.check_order(images)
    shards = open_sources(images, image_column=image_column)
    done = score_shards(
        pinned_place(saved.place()),
        shards,
        out,
        address=address,
        encoder=saved.encoder,
        device=saved.device,
        dtype=saved.dtype,
        batch_size=batch_size,
        progress=True,
    )
    errors = [part.first_error for part in done.parts if part.first_error is not None]
    n_rows, n_errors = (
        sum(getattr(part, name) for part in done.parts) for name in ("rows", "errors")
    )
    if done.n_replaced:
        warn(
            f"{counted(done.n_replaced, 'part')} of an earlier run had another shard in this "
            "place, or one that has changed, and was scored again."
        )
    warn_unreadable(errors, n_rows, n_unreadable=n_errors, left_out=False)
    if n_errors == n_rows:
        raise ImageError("No image could be read; the error column says why for each.")
    kept = f", {done.n_kept} of them from earlier runs" if done.n_kept else ""
    say(
        f"Wrote {counted(n_rows, 'row')} to {counted(len(done.parts), 'part')} in {out}{kept}.",
        err=True,
    )
    if done.lookups.asked:
        say(describe_lookups(done.lookups), err=True)
