"""`negrefine explain`: what decided the score of an image."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from negrefine.cli.options import DetectorDir, Device, Dtype, EncoderName
from negrefine.errors import InputError

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
    card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="Also draw the explanation of one image as a picture."
        ),
    ] = None,
    encoder: EncoderName = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Show the class names, negative labels and pair of names behind an image's score."""
    from negrefine.detectors import load_detector
    from negrefine.encoders import find_images

    paths = find_images(images)
    if card is not None and card.suffix.lower() != ".png":
        raise InputError(f"The card {str(card)!r} must be a PNG file: end its name in .png.")
    if card is not None and len(paths) != 1:
        raise InputError(f"--card draws one image, not {len(paths)}: name one.")
    detector = load_detector(detector_dir, encoder, device=device, dtype=dtype)
    for path in paths:
        explanation = detector.explain(path, top=top, unfiltered=True)
        if as_json:
            typer.echo(json.dumps({"path": str(path), **explanation.as_dict()}, ensure_ascii=False))
        else:
            typer.echo(f"{path}\n{render(explanation)}\n")
        if card is not None:
            save_card(card, explanation, path)


def save_card(file: Path, explanation: Explanation, path: Path) -> None:
    """Draw one explanation to a PNG file, atomically."""
    from negrefine.encoders.images import read_image
    from negrefine.report.card import draw_card

    temporary = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        draw_card(explanation, read_image(path), path.name).save(temporary, format="PNG")
        temporary.replace(file)
    except OSError as error:
        raise InputError(
            f"The card cannot be written to {str(file)!r}: {error.strerror or error}."
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def render(explanation: Explanation) -> str:
    """Return an explanation as plain text, a few lines long."""
    from negrefine.detectors.explanation import verdict_sentences

    parts = ", ".join(f"{name} {value:.4f}" for name, value in explanation.parts.items())
    lines = [f"  score {explanation.score:.4f} ({parts})"]
    if explanation.verdict is not None:
        side = ">=" if explanation.verdict == "ID" else "<"
        lines.append(f"  verdict {explanation.verdict}: score {side} {explanation.threshold:.4f}")
    else:
        lines.append("  verdict none: the detector has no threshold: see 'negrefine calibrate'")
    lines += [f"  {sentence}" for sentence in verdict_sentences(explanation)[1:]]
    lines.append("  class names      " + ", ".join(_matches(explanation.classes)))
    if explanation.negatives:
        lines.append("  negative labels  " + ", ".join(_matches(explanation.negatives)))
        lines += [
            f"    {match.text} ({match.lexname}): {match.definition}"
            for match in explanation.negatives
            if match.definition
        ]
    other = explanation.unfiltered
    if other is not None:
        lines.append("  removed labels   " + ", ".join(_matches(other.removed)))
    pair = explanation.pair
    if pair is not None:
        lines.append(
            f"  winning pair     {pair.text!r} {pair.similarity:.3f} "
            f"against {pair.negative!r} alone {pair.negative_similarity:.3f}, "
            f"adds {pair.added:.4f}"
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
