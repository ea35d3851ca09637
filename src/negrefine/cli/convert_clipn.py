"""`negrefine convert-clipn`: from a released CLIPN checkpoint to an encoder directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert_clipn(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="epoch_N.pt of the official CLIPN trainer.")
    ],
    base: Annotated[
        str,
        typer.Option(
            metavar="ID_OR_DIR",
            help="CLIP model of the same image size that gives tokenizer and preprocessing, such "
            "as 'openai/clip-vit-base-patch16'.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="ENCODER_DIR", help="A new directory for 'fit --encoder'.")
    ],
    quick_gelu: Annotated[
        bool,
        typer.Option(
            "--quick-gelu",
            help="The checkpoint was trained from OpenAI's weights; the released ones were not.",
        ),
    ] = False,
) -> None:
    """Convert a CLIPN checkpoint into safetensors, so that 'fit --method clipn' can use it."""
    from negrefine.encoders.clipn_checkpoint import convert_clipn as convert

    learned = convert(checkpoint, base, out, quick_gelu=quick_gelu)
    prompts = "learned 'no' prompts" if learned else "no learned prompts (hand-crafted variant)"
    typer.echo(f"Wrote the encoder {out}: {prompts}.")
