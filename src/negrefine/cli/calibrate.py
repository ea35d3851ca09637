"""`negrefine calibrate`: a threshold with a guaranteed false-alarm rate."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from negrefine.cli.options import BatchSize, DetectorDir, Device, Dtype, EncoderName

if TYPE_CHECKING:
    from negrefine.evaluation.image_scores import CalibrationReport, DetectionReport


def calibrate(
    detector_dir: DetectorDir,
    id_images: Annotated[
        list[str],
        typer.Option(
            "--id",
            metavar="IMAGES",
            help="In-distribution images, used for nothing else: a file, folder or quoted glob; "
            "may be given several times.",
        ),
    ],
    fpr: Annotated[
        float, typer.Option(help="Guaranteed false-alarm rate on in-distribution images.")
    ] = 0.05,
    delta: Annotated[
        float | None,
        typer.Option(
            help="Guarantee the rate of this very threshold with probability 1 - DELTA instead of "
            "the mean rate over calibrations; needs more images."
        ),
    ] = None,
    ood: Annotated[
        list[str] | None,
        typer.Option(
            metavar="IMAGES",
            help="Out-of-distribution images to measure the detection rate on; may be given "
            "several times.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
    encoder: EncoderName = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = 64,
) -> None:
    """Set the threshold of a saved detector from in-distribution images, with a guarantee.

    The detector is saved again with the threshold and the calibration scores, from which 'score'
    computes p-values. Images that cannot be read are reported and left out.
    """
    from negrefine.detectors import load_detector
    from negrefine.encoders import find_images
    from negrefine.evaluation.image_scores import calibrate_files, check_enough, detect_files

    paths = find_images(id_images)
    check_enough(len(paths), fpr, delta)
    others = {name: find_images([name]) for name in ood or []}
    detector = load_detector(detector_dir, encoder, device=device, dtype=dtype)
    report = calibrate_files(
        detector, paths, fpr, delta=delta, batch_size=batch_size, progress=True
    )
    warn_unreadable(report.errors, len(paths))
    detector.save(detector_dir)
    found = {}
    for name, files in others.items():
        found[name] = detect_files(detector, files, batch_size=batch_size, progress=True)
        warn_unreadable(found[name].errors, len(files))
    if as_json:
        content = {
            "calibration": asdict(report),
            "ood": {name: asdict(detection) for name, detection in found.items()},
        }
        typer.echo(json.dumps(content, ensure_ascii=False))
        return
    typer.echo(f"Saved {detector_dir}: {describe(report)}.")
    for name, detection in found.items():
        typer.echo(describe_detection(name, detection))


def describe(report: CalibrationReport) -> str:
    """Return threshold, number of images and guarantee as a phrase."""
    if report.delta is None:
        bound = f"false-alarm rate <= {report.fpr:g} (mean over calibrations)"
    else:
        bound = f"false-alarm rate <= {report.fpr:g} with probability {1 - report.delta:g}"
    return f"threshold {report.threshold:.4f} from {report.n} images, {bound}"


def describe_detection(name: str, detection: DetectionReport) -> str:
    """Return the detection rate on one set of images as a line."""
    return (
        f"{name}: {detection.n_flagged} of {detection.n} flagged, {detection.rate:.1%} "
        f"(95 % interval {detection.low:.1%} to {detection.high:.1%})"
    )


def warn_unreadable(errors: tuple[str, ...], n: int) -> None:
    """Say on standard error how many images were left out."""
    if errors:
        typer.echo(
            f"negrefine: warning: {len(errors)} of {n} images could not be read and were left "
            f"out; the first: {errors[0]}",
            err=True,
        )
