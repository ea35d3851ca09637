"""`negrefine convert-clipn`: from a released CLIPN checkpoint to an encoder directory."""

from __future__ import annotations

from pathlib import Path

import typer

from negrefine.cli.bundles import option
from negrefine.cli.output import say


def convert_clipn(
    checkpoint: Path = typer.Argument(
        metavar="CHECKPOINT", help="epoch_N.pt of the official CLIPN trainer."
    ),
    base: str = option(
        ...,
        "CLIP model of the same image size that gives tokenizer and preprocessing, such as "
        "'openai/clip-vit-base-patch16'.",
        "ID_OR_DIR",
    ),
    out: Path = option(..., "A new directory for 'fit --encoder'.", "ENCODER_DIR"),
    quick_gelu: bool = option(
        False,
        "The checkpoint was trained from OpenAI's weights; the released ones were not.",
        name="--quick-gelu",
    ),
) -> None:
    """Convert a CLIPN checkpoint into safetensors, so that 'fit --method clipn' can use it."""
    from negrefine.encoders.clipn_checkpoint import convert_clipn as convert

    learned = convert(checkpoint, base, out, quick_gelu=quick_gelu)
    prompts = "learned 'no' prompts" if learned else "no learned prompts (hand-crafted variant)"
    say(f"Wrote the encoder {out}: {prompts}.")
