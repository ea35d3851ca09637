"""`negrefine explain`: what decided the score of an image."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from negrefine.cli.options import DetectorDir, Device, Dtype, EncoderName

if TYPE_CHECKING:
    from negrefine.detectors import Explanation, Match


def explain(
    detector_dir: DetectorDir,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE...", help="Files, folders or quoted globs.")
    ],
    top: Annotated[int, typer.Option(min=1, help="Names and labels to list.")] = 5,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object for each image and line.")
    ] = False,
    encoder: EncoderName = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Show the class names, negative labels and pair of names behind an image's score."""
    from negrefine.detectors import load_detector
    from negrefine.encoders import find_images

    paths = find_images(images)
    detector = load_detector(detector_dir, encoder, device=device, dtype=dtype)
    for path in paths:
        explanation = detector.explain(path, top=top)
        if as_json:
            typer.echo(json.dumps({"path": str(path), **explanation.as_dict()}, ensure_ascii=False))
        else:
            typer.echo(f"{path}\n{render(explanation)}\n")


def render(explanation: Explanation) -> str:
    """Return an explanation as plain text, a few lines long."""
    parts = ", ".join(f"{name} {value:.4f}" for name, value in explanation.parts.items())
    lines = [f"  score {explanation.score:.4f} ({parts})"]
    if explanation.verdict is not None:
        side = ">=" if explanation.verdict == "ID" else "<"
        lines.append(f"  verdict {explanation.verdict}: score {side} {explanation.threshold:.4f}")
    else:
        lines.append("  verdict none: the detector has no threshold (fit it with --calibrate)")
    lines.append("  class names      " + ", ".join(_matches(explanation.classes)))
    if explanation.negatives:
        lines.append("  negative labels  " + ", ".join(_matches(explanation.negatives)))
    pair = explanation.pair
    if pair is not None:
        lines.append(
            f"  winning pair     {pair.text!r} {pair.similarity:.3f} "
            f"against {pair.negative!r} alone {pair.negative_similarity:.3f}"
        )
    patch = explanation.patch
    if patch is not None:
        lines.append(
            f"  winning patch    row {patch.row}, column {patch.column}: "
            f"{patch.class_name} {patch.similarity:.3f}"
        )
    return "\n".join(lines)


def _matches(matches: list[Match]) -> list[str]:
    return [f"{match.text} {match.similarity:.3f}" for match in matches]
