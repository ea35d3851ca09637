"""`negrefine score`: one row for each image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.cli.bundles import option
from negrefine.cli.options import BATCH_SIZE, IMAGE_COLUMN, SOURCES, SavedDetector
from negrefine.cli.output import (
    counted,
    describe_lookups,
    print_json_line,
    print_rows,
    say,
    say_vision,
    warn,
    warn_builtin,
    warn_unreadable,
)
from negrefine.cli.score_fleet import fleet_folder, score_fleet
from negrefine.cli.score_views import ScoreViews
from negrefine.errors import ImageError, InputError

if TYPE_CHECKING:
    from negrefine.detectors import Detector
    from negrefine.detectors.pair_embeddings import PairLookups
    from negrefine.evaluation.scored_image import ScoredImage

# Seconds without a further name on standard input after which the images named so far are scored.
_PATIENCE = 0.2
_NO_NAMES = "Standard input names no image: write a path or URL on each line."


def score(
    saved: SavedDetector,
    images: list[str] = SOURCES,
    out: Path | None = option(
        None,
        "Results as .parquet, .csv or .jsonl; default: CSV on standard output, and for '-' JSON "
        "lines as images are scored. An interrupted run continues where it stopped.",
        "FILE",
    ),
    *,
    image_column: str | None = IMAGE_COLUMN,
    ray: str | None = option(
        None,
        "Score on a Ray cluster (extra 'ray'): 'local' for the cores or GPUs of this machine, "
        "'auto' or 'host:port' for a cluster. --out is then a folder, with a Parquet file for each "
        "shard.",
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
    from negrefine.evaluation.image_scores import score_files
    from negrefine.evaluation.scored_image import columns_of_any_method, score_columns
    from negrefine.evaluation.source_scores import iter_scored
    from negrefine.files.writing import check_target, write_rows
    from negrefine.sources.files import local_paths
    from negrefine.sources.opening import open_sources

    if ray is not None:
        score_fleet(saved, images, image_column, fleet_folder(out, views), ray, batch_size)
        return
    views.check(images, out)
    if out is not None:
        check_target(out, *columns_of_any_method())
    saved.check_order(images)
    shards = open_sources(images, image_column=image_column)
    paths = local_paths(shards)
    views.check_found(paths)
    detector = saved.load()
    views.prepare(detector)
    warn_builtin(detector.encoder, paths or [])
    if detector.offset_ is None:
        warn(
            "the detector has no threshold, so the column verdict stays empty: 'negrefine "
            "calibrate' sets one."
        )
    parts = detector.part_names_
    shown = {
        "p_value": detector.calibration_scores_ is not None,
        "threshold": detector.by_ is not None,
    }
    journal = None if out is None else out.with_name(out.name + ".partial")
    how: dict[str, Any] = {"journal": journal, "batch_size": batch_size, "progress": True}
    if paths is not None:
        scored = score_files(detector, paths, **how)
    elif "-" not in images:
        scored = list(iter_scored(detector, shards, **how))
    elif out is not None:
        scored = list(iter_scored(detector, shards, **how, wait=_PATIENCE))
    else:
        _print_as_scored(iter_scored(detector, shards, **how, wait=_PATIENCE), parts, shown)
        say_vision(detector)
        return
    if not scored:
        raise InputError(_NO_NAMES)
    schema = score_columns(parts, **shown)
    rows = [row.as_row(parts, **shown) for row in scored]
    if out is None or journal is None:
        print_rows(list(schema), [list(row.values()) for row in rows], ",")
    else:
        write_rows(out, rows, schema)
    views.write(scored, detector, str(saved.place()))
    if journal is not None:
        journal.unlink(missing_ok=True)
    _report([row.error for row in scored if row.error is not None], len(scored))
    say_vision(detector)
    if out is not None:
        _say_written(scored, out, detector)


def _print_as_scored(
    scored: Iterable[ScoredImage], parts: Sequence[str], shown: Mapping[str, bool]
) -> None:
    """Print each row as JSON when it is there; their number may have no end."""
    errors: list[str] = []
    n = 0
    for n, row in enumerate(scored, 1):  # noqa: B007 - counts them
        print_json_line(row.as_row(parts, **shown))
        # The first is shown, and the others are counted.
        if row.error is not None:
            errors.append(row.error if not errors else "")
    if not n:
        raise InputError(_NO_NAMES)
    _report(errors, n)


def _say_written(scored: Sequence[ScoredImage], out: Path, detector: Detector) -> None:
    flagged = sum(row.verdict == "OOD" for row in scored)
    verdicts = f", {flagged} flagged OOD" if detector.offset_ is not None else ""
    say(f"Wrote {counted(len(scored), 'row')} to {out}{verdicts}.", err=True)
    lookups: PairLookups | None = getattr(detector, "pair_lookups", None)
    if lookups is not None and lookups.asked:
        say(describe_lookups(lookups), err=True)


def _report(errors: Sequence[str], n: int) -> None:
    warn_unreadable(errors, n, left_out=False)
    if len(errors) == n:
        raise ImageError("No image could be read; the error column says why for each.")
