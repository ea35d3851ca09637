"""`negrefine fit`: from class names to a saved detector."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from negrefine.cli.alpha_images import (
    ALPHA_IMAGES,
    check_alpha_images,
    choose_alphas,
    describe_alphas,
    find_alpha_images,
)
from negrefine.cli.bundles import option
from negrefine.cli.method_options import (
    MethodOptions,
    check_methods,
    method_options,
    parameters_for,
)
from negrefine.cli.options import (
    BY,
    DELTA,
    FPR,
    IMAGE_COLUMN,
    SOURCES_TEXT,
    ClassOptions,
    DefaultEncoderOptions,
    LabelOptions,
)
from negrefine.cli.output import (
    describe_calibration,
    describe_detector,
    describe_groups,
    describe_left_out,
    describe_proposals,
    print_filter_summary,
    say,
    warn_builtin,
    warn_unreadable,
)
from negrefine.cli.propose_options import ProposeOptions, check_proposed
from negrefine.detectors import DETECTORS, NegRefine
from negrefine.detectors.thresholds import check_by
from negrefine.errors import InputError

_ParameterOptions = method_options(reversed(DETECTORS.values()))


def _check_method(method: str) -> str:
    try:
        check_methods([method])
    except InputError as error:
        raise typer.BadParameter(str(error)) from error
    return method


def fit(
    *,
    classes: ClassOptions,
    out: Path = option(..., "Where to save the fitted detector.", "DETECTOR_DIR"),
    new: DefaultEncoderOptions,
    method: str = option(
        NegRefine.method,
        f"The published method: {', '.join(reversed(DETECTORS))}.",
        "METHOD",
        callback=_check_method,
        autocompletion=lambda: list(DETECTORS),
    ),
    calibrate: list[str] = option(
        [],
        f"In-distribution images that set the threshold: {SOURCES_TEXT}; may be given several "
        "times.",
        "IMAGES",
    ),
    image_column: str | None = IMAGE_COLUMN,
    alpha_images: list[str] = ALPHA_IMAGES,
    fpr: float | None = FPR,
    delta: float | None = DELTA,
    by: str | None = BY,
    judge: ProposeOptions,
    labels: LabelOptions,
    options: Annotated[MethodOptions, _ParameterOptions],
    batch_size: int | None = option(
        None, "Images of --calibrate to encode at a time; default: 64.", min=1
    ),
) -> None:
    """Fit a detector on class names, optionally set its threshold, and save it."""
    if fpr is not None and not 0 < fpr < 1:
        raise InputError(f"--fpr must lie strictly between 0 and 1, not {fpr}.")
    effects = {"--fpr": fpr, "--delta": delta, "--by": by, "--batch-size": batch_size}
    effects["--image-column"] = image_column
    for given_option, value in effects.items():
        if value is not None and not calibrate:
            raise InputError(
                f"{given_option} has no effect without --calibrate: leave it out, or give images."
            )
    check_by(by)
    fpr = 0.05 if fpr is None else fpr
    class_names = classes.read()

    from negrefine.detectors.bundle import check_target
    from negrefine.evaluation.image_scores import calibrate_files, check_enough
    from negrefine.evaluation.source_scores import calibrate_scored, read_scored_sources
    from negrefine.sources.files import local_paths
    from negrefine.sources.opening import open_sources

    check_target(out)
    shards = open_sources(calibrate, image_column=image_column) if calibrate else []
    images = local_paths(shards)
    choosing = find_alpha_images(alpha_images)
    if images:
        check_enough(len(images), fpr, delta)
    given = {**labels.given(), **judge.given(new.device), **options.given()}
    check_proposed(given, [method])
    parameters = parameters_for([method], given)[method]
    encoder = new.load()
    warn_builtin(encoder, images or [])
    detector = DETECTORS[method](encoder, **parameters)
    if shards or choosing:
        check_alpha_images(detector, choosing)
    detector.fit(class_names, progress=True)
    summary, groups = describe_detector(detector), choose_alphas(detector, choosing, 64)
    if shards:
        how: dict[str, Any] = {"batch_size": batch_size or 64, "progress": True}
        try:
            if images is not None:
                report = calibrate_files(detector, images, fpr, delta=delta, by=by, **how)
            else:
                scored = read_scored_sources(detector, shards, **how)
                report = calibrate_scored(detector, scored, fpr, delta=delta, by=by)
        except InputError as error:
            # Mining may have taken minutes.
            detector.save(out)
            raise InputError(
                f"{error} The detector was saved to {str(out)!r} without a threshold; "
                "'negrefine calibrate' sets it."
            ) from error
        warn_unreadable(report.errors, report.n + len(report.errors))
        summary += f", {describe_calibration(report)}"
        groups += describe_groups(report, detector.class_names_)
    detector.save(out)
    if isinstance(detector, NegRefine) and hasattr(detector.judge, "usage"):
        print_filter_summary(detector)
    said = [*describe_left_out(detector), *describe_proposals(detector), *groups]
    say(f"Saved {method} to {out}: {summary}.", *said, *describe_alphas(detector))
