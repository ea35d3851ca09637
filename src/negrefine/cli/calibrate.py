"""`negrefine calibrate`: a threshold with a guaranteed false-alarm rate."""

from __future__ import annotations

import itertools
from dataclasses import asdict

from negrefine.cli.bundles import option
from negrefine.cli.options import AS_JSON, BATCH_SIZE, BY, DELTA, FPR, ID_IMAGES, SavedDetector
from negrefine.cli.output import (
    calibration_as_dict,
    describe_calibration,
    describe_groups,
    print_json,
    say,
    warn_builtin,
    warn_unreadable,
)


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
    as_json: bool = AS_JSON,
    batch_size: int = BATCH_SIZE,
) -> None:
    """Set the threshold of a saved detector from in-distribution images, with a guarantee.

    The detector is saved again with the threshold and the calibration scores, from which 'score'
    computes p-values. The images must serve no other purpose; those that cannot be read are
    reported and left out. With --by class, the output says which classes have a threshold of their
    own, which share one, and why.
    """
    from negrefine.detectors.bundle import version_of
    from negrefine.detectors.thresholds import check_by
    from negrefine.encoders import find_images
    from negrefine.evaluation.image_scores import calibrate_files, check_enough, detect_files
    from negrefine.evaluation.overlap import check_apart

    check_by(by)
    fpr = 0.05 if fpr is None else fpr
    paths = find_images(id_images)
    check_enough(len(paths), fpr, delta)
    others = {name: find_images([name]) for name in ood}
    check_apart(paths, others)
    version = version_of(saved.detector_dir)
    detector = saved.load()
    warn_builtin(detector.encoder, [*paths, *itertools.chain(*others.values())])
    report = calibrate_files(
        detector, paths, fpr, delta=delta, by=by, batch_size=batch_size, progress=True
    )
    warn_unreadable(report.errors, len(paths))
    # Another process may have saved a detector there while the images were scored.
    detector.save(saved.detector_dir, replacing=version)
    detections = {}
    for name, files in others.items():
        detections[name] = detect_files(detector, files, batch_size=batch_size, progress=True)
        warn_unreadable(detections[name].errors, len(files))
    if as_json:
        found = {name: asdict(detection) for name, detection in detections.items()}
        calibration = calibration_as_dict(report, detector.class_names_)
        print_json({"calibration": calibration, "ood": found}, indent=None)
        return
    say(f"Saved {saved.detector_dir}: {describe_calibration(report)}.")
    say(*describe_groups(report, detector.class_names_))
    for name, detection in detections.items():
        say(
            f"{name}: {detection.n_flagged} of {detection.n} flagged, {detection.rate:.1%} "
            f"(95 % interval {detection.low:.1%} to {detection.high:.1%})"
        )
