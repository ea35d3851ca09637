"""`negrefine refine`: another filter for a fitted detector, without mining again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from negrefine.cli.bundles import option
from negrefine.cli.judge_options import JudgeOptions
from negrefine.cli.method_options import FILTER_OPTIONS, MethodOptions
from negrefine.cli.options import SavedDetector, WordLists
from negrefine.cli.output import print_filter_summary, say
from negrefine.detectors import NegRefine
from negrefine.errors import InputError


def refine(
    *,
    saved: SavedDetector,
    out: Path | None = option(None, "Where to save it; default: in its place.", "DETECTOR_DIR"),
    judge: JudgeOptions,
    lists: WordLists,
    options: Annotated[MethodOptions, FILTER_OPTIONS],
) -> None:
    """Filter the mined labels of a NegRefine detector again, with another judge or other lists.

    A run that was stopped continues where it was: answers of language models are stored as they
    arrive. The threshold is removed, because scores change.
    """
    from negrefine.detectors.bundle import check_target, version_of

    given = {**judge.given(saved.device), **lists.given(), **options.given()}
    if out is None:
        saved.check_own(", or give --out")
    else:
        check_target(out)
    version = None if out is not None else version_of(saved.detector_dir)
    detector = saved.load()
    if not isinstance(detector, NegRefine):
        raise InputError(
            f"{str(saved.place())!r} holds a {detector.method!r} detector: only "
            f"{NegRefine.method!r} has a filter."
        )
    parameters = {name: each.value for name, each in given.items()}
    refined = detector.with_filter(**parameters, progress=True)
    target = out or saved.detector_dir
    # Another process may have saved a detector there while the judge was asked.
    refined.save(target, replacing=version)
    print_filter_summary(refined)
    had = "" if detector.offset_ is None else " It has no threshold now: calibrate it again."
    say(f"Saved {refined.method} to {target}.{had}")
