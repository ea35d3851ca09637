"""`negrefine calibrate`: a threshold with a guaranteed false-alarm rate."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from negrefine.cli.alpha_images import (
    ALPHA_IMAGES,
    check_alpha_images,
    choose_alphas,
    find_alpha_images,
)
from negrefine.cli.bundles import option
from negrefine.cli.options import (
    AS_JSON,
    BATCH_SIZE,
    BY,
    DELTA,
    FPR,
    ID_IMAGES,
    IMAGE_COLUMN,
    SavedDetector,
)
from negrefine.cli.output import (
    calibration_as_dict,
    describe_calibration,
    describe_groups,
    print_json,
    say,
    say_vision,
    warn_builtin,
    warn_unreadable,
)

if TYPE_CHECKING:
    from negrefine.evaluation.image_scores import DetectionReport


def calibrate(
    saved: SavedDetector,
    id_images: list[str] = ID_IMAGES,
    fpr: float | None = FPR,
    delta: float | None = DELTA,
    by: str | None = BY,
    ood: list[str] = option(
        [],
        "Out-of-distribution images to measure the detection rate on; may be given several times.",
        "IMAGES",
    ),
    image_column: str | None = IMAGE_COLUMN,
    alpha_images: list[str] = ALPHA_IMAGES,
    as_json: bool = AS_JSON,
    batch_size: int = BATCH_SIZE,
) -> None:
    """Set the threshold of a saved detector from in-distribution images, with a guarantee.

    The detector is saved again with the threshold and the calibration scores, from which 'score'
    computes p-values. The images must serve no other purpose: those on which alphas or parameters
    were chosen are refused. Those that cannot be read are reported and left out. With --by class,
    the output says which classes have a threshold of their own, which share one, and why.
    """
    from negrefine.detectors.bundle import version_of
    from negrefine.detectors.thresholds import check_by
    from negrefine.evaluation.image_scores import calibrate_files, check_enough, detect_files
    from negrefine.evaluation.overlap import check_apart, check_contents_apart
    from negrefine.evaluation.source_scores import (
        calibrate_scored,
        detect_scored,
        read_scored_sources,
    )
    from negrefine.sources.files import local_paths
    from negrefine.sources.opening import check_stdin_once, open_sources

    check_by(by)
    saved.check_own()
    rate = 0.05 if fpr is None else fpr
    check_stdin_once(id_images, ood)
    shards = [open_sources(each, image_column=image_column) for each in (id_images, *ood)]
    sets = [local_paths(each) for each in shards]
    files = [paths for paths in sets if paths is not None]
    if len(files) == len(sets):
        check_enough(len(files[0]), rate, delta)
        check_apart(files[0], dict(zip(ood, files[1:], strict=True)))
    choosing = find_alpha_images(alpha_images)
    version = version_of(saved.detector_dir)
    detector = saved.load()
    check_alpha_images(detector, choosing)
    alphas = choose_alphas(detector, choosing, batch_size)
    warn_builtin(detector.encoder, list(itertools.chain(*files)))
    how: dict[str, Any] = {"batch_size": batch_size, "progress": True}
    detect: Callable[[Any], DetectionReport]
    if len(files) == len(sets):
        report = calibrate_files(detector, files[0], rate, delta=delta, by=by, **how)
        ood_sets: list[Any] = files[1:]
        detect = partial(detect_files, detector, **how)
    else:
        # What is read once only is scored before anything is decided.
        scored, *ood_sets = [read_scored_sources(detector, each, **how) for each in shards]
        check_contents_apart(
            scored.contents,
            {n: (each.names, each.contents) for n, each in zip(ood, ood_sets, strict=True)},
        )
        report = calibrate_scored(detector, scored, rate, delta=delta, by=by)
        detect = partial(detect_scored, detector)
    warn_unreadable(report.errors, report.n + len(report.errors))
    # Another process may have saved a detector there while the images were scored.
    detector.save(saved.detector_dir, replacing=version)
    say_vision(detector)
    detections = {}
    for name, images in zip(ood, ood_sets, strict=True):
        found = detections[name] = detect(images)
        warn_unreadable(found.errors, found.n + len(found.errors))
    if as_json:
        rates = {name: asdict(detection) for name, detection in detections.items()}
        calibration = calibration_as_dict(report, detector.class_names_)
        say(*alphas, err=True)
        print_json({"calibration": calibration, "ood": rates}, indent=None)
        return
    say(f"Saved {saved.detector_dir}: {describe_calibration(report)}.")
    say(*alphas, *describe_groups(report, detector.class_names_))
    for name, detection in detections.items():
        say(
            f"{name}: {detection.n_flagged} of {detection.n} flagged, {detection.rate:.1%} "
            f"(95 % interval {detection.low:.1%} to {detection.high:.1%})"
        )
