"""`negrefine score`: one row for each image."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from negrefine.cli.bundles import option
from negrefine.cli.options import BATCH_SIZE, IMAGES, SavedDetector
from negrefine.cli.output import (
    counted,
    describe_lookups,
    print_rows,
    say,
    warn,
    warn_builtin,
    warn_unreadable,
)
from negrefine.cli.score_fleet import check_fleet_options, score_fleet
from negrefine.cli.score_views import ScoreViews
from negrefine.errors import ImageError


def score(
    saved: SavedDetector,
    images: list[str] = IMAGES,
    out: Path | None = option(
        None,
        "Results as .parquet, .csv or .jsonl; default: CSV on standard output. An interrupted run "
        "continues where it stopped.",
        "FILE",
    ),
    *,
    ray: str | None = option(
        None,
        "Score on a Ray cluster (extra 'ray'): 'local' for the cores or GPUs of this machine, "
        "'auto' or 'host:port' for a cluster. Archives, tables and URLs are read too; --out is a "
        "folder, with a Parquet file for each shard.",
        "ADDRESS",
    ),
    views: ScoreViews,
    batch_size: int = BATCH_SIZE,
) -> None:
    """Score images; larger means more in-distribution.

    Columns: path, score, the components of the score, p_value (if the detector is calibrated),
    verdict (ID or OOD if it has a threshold), threshold (if it was calibrated with --by class),
    nearest_class and its cosine, similarity, runner_up and runner_up_similarity, nearest_negative
    and negative_similarity, error. An image that cannot be read has a row with the error; the exit
    code is 1 if no image could be read.
    """
    from negrefine.detectors import NegRefine
    from negrefine.encoders import find_images
    from negrefine.evaluation.image_scores import score_files
    from negrefine.evaluation.scored_image import columns_of_any_method, score_columns
    from negrefine.files.writing import check_target, write_rows

    if ray is not None:
        check_fleet_options(out, views)
        saved.check_order(images)
        score_fleet(saved, images, cast(Path, out), ray, batch_size)
        return
    views.check(images, out)
    if out is not None:
        check_target(out, *columns_of_any_method())
    saved.check_order(images)
    paths = find_images(images)
    views.check_found(paths)
    detector = saved.load()
    views.prepare(detector)
    warn_builtin(detector.encoder, paths)
    if detector.offset_ is None:
        warn(
            "the detector has no threshold, so the column verdict stays empty: 'negrefine "
            "calibrate' sets one."
        )
    journal = None if out is None else out.with_name(out.name + ".partial")
    scored = score_files(detector, paths, journal=journal, batch_size=batch_size, progress=True)
    parts = detector.part_names_
    calibrated = detector.calibration_scores_ is not None
    by_class = detector.by_ is not None
    schema = score_columns(parts, p_value=calibrated, threshold=by_class)
    rows = [row.as_row(parts, p_value=calibrated, threshold=by_class) for row in scored]
    if out is None or journal is None:
        print_rows(list(schema), [list(row.values()) for row in rows], ",")
    else:
        write_rows(out, rows, schema)
    views.write(scored, detector, str(saved.detector_dir))
    if journal is not None:
        journal.unlink(missing_ok=True)
    errors = [row.error for row in scored if row.error is not None]
    warn_unreadable(errors, len(scored), left_out=False)
    if len(errors) == len(scored):
        raise ImageError("No image could be read; the error column says why for each.")
    if out is not None:
        flagged = sum(row.verdict == "OOD" for row in scored)
        verdicts = f", {flagged} flagged OOD" if detector.offset_ is not None else ""
        say(f"Wrote {counted(len(scored), 'row')} to {out}{verdicts}.", err=True)
        if isinstance(detector, NegRefine) and detector.pair_lookups.asked:
            say(describe_lookups(detector.pair_lookups), err=True)
