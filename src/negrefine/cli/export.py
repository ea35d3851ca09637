"""`negrefine export`: a detector as one ONNX model, for programs without Python and torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from negrefine.cli.bundles import option
from negrefine.cli.options import BATCH_SIZE, DETECTOR_DIR, SavedDetector
from negrefine.cli.output import counted, describe_calibration, say, warn, warn_unreadable
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.adapters.onnx_compare import Comparison
    from negrefine.adapters.onnx_description import ExportedScore
    from negrefine.detectors import Detector


def export(
    detector_dir: Path = DETECTOR_DIR,
    onnx: Path = option(..., "The model to write.", "OUT.onnx"),
    encoder: str | None = option(
        None,
        "The encoder the detector was fitted with, if it moved; default: as saved.",
        "ID_OR_DIR",
    ),
    calibrate: list[str] = option(
        [],
        "In-distribution images that set the threshold of an exported NegRefine, whose score is "
        "S_NegLabel alone; may be given several times.",
        "IMAGES",
    ),
    fpr: float | None = option(
        None,
        "Guaranteed false-alarm rate of the threshold of --calibrate; default: the rate of the "
        "detector's own threshold, or 0.05.",
    ),
    compare: list[str] = option(
        [],
        "Images on which to say how many verdicts of the exported model differ from those of the "
        "detector; may be given several times.",
        "IMAGES",
    ),
    batch_size: int = BATCH_SIZE,
) -> None:
    """Write a detector as an ONNX model, whose metadata say how to prepare its pixels.

    The model holds image tower, label features, score and threshold, and needs neither Python nor
    torch. NegRefine's S_MM needs the text tower and is left out; as the threshold is one of the
    whole score, it is left out too, unless --calibrate sets one of S_NegLabel alone. GL-MCM cannot
    be exported.
    """
    from negrefine.adapters.onnx_files import check_onnx
    from negrefine.encoders import find_images

    check_onnx(onnx)
    if fpr is not None and not calibrate:
        raise InputError(
            "--fpr is the false-alarm rate of --calibrate: give images, or leave it out."
        )
    known = find_images(calibrate) if calibrate else []
    compared = find_images(compare) if compare else []
    from negrefine.adapters.onnx_compare import compare_onnx
    from negrefine.adapters.onnx_description import exported_score
    from negrefine.adapters.onnx_export import export_onnx

    saved = SavedDetector(detector_dir=detector_dir, encoder=encoder, device="cpu", dtype="float32")
    detector = saved.load()
    exported = exported_score(detector)
    if exported.left_out is not None:
        say(exported.left_out, err=True)
    if calibrate:
        _calibrate(detector, exported, known, fpr, batch_size)
    elif exported.left_out is not None and detector.offset_ is not None:
        warn(
            "the detector's threshold is one of the whole score and is not exported, so the model "
            "gives no verdicts: set one with --calibrate."
        )
    n_bytes = export_onnx(exported, onnx, stage=lambda sentence: say(sentence, err=True))
    threshold = "no threshold" if exported.detector.offset_ is None else "with its threshold"
    classes = counted(len(detector.class_names_), "class name")
    say(f"Wrote {onnx}: {detector.title}, {classes}, {threshold}, {n_bytes / 1e6:,.1f} MB.")
    if compared:
        found = compare_onnx(onnx, detector, compared, batch_size=batch_size, progress=True)
        warn_unreadable(found.errors, len(compared))
        say(*_described(found, exported))


def _calibrate(
    detector: Detector,
    exported: ExportedScore,
    paths: list[Path],
    fpr: float | None,
    batch_size: int,
) -> None:
    """Set the threshold of the exported part with the rate, and by classes, as the detector's."""
    from negrefine.evaluation.image_scores import calibrate_files

    if exported.left_out is None:
        raise InputError(
            f"The whole score of {detector.title} is exported, whose threshold 'negrefine "
            "calibrate' sets: leave --calibrate out."
        )
    report = calibrate_files(
        exported.detector,
        paths,
        (detector.fpr_ or 0.05) if fpr is None else fpr,
        delta=detector.delta_,
        by=detector.by_,
        batch_size=batch_size,
        progress=True,
    )
    warn_unreadable(report.errors, len(paths))
    say(f"Calibrated the exported score: {describe_calibration(report)}.", err=True)


def _described(found: Comparison, exported: ExportedScore) -> list[str]:
    """Return what a comparison found as lines."""
    images, (whole, part) = counted(found.n, "image"), found.n_flagged
    if exported.left_out is None:
        lines = [f"{images}: scores differ by {found.largest_difference:.2g} at most."]
    elif found.rank_correlation is None:
        lines = [f"{images}: the scores of one of the two are all equal."]
    else:
        lines = [f"{images}: rank correlation of the scores {found.rank_correlation:.3f}."]
    if found.n_different is None:
        absent = "the exported model" if part is None else "the detector"
        return [*lines, f"Verdicts are not compared, because {absent} has no threshold."]
    share = found.n_different / found.n
    return [
        *lines,
        f"{found.n_different} of {images} ({share:.1%}) have another verdict: the detector flags "
        f"{whole}, the model {part}.",
    ]
