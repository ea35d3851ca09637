"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

DetectorDir: TypeAlias = Annotated[
    Path, typer.Argument(metavar="DETECTOR_DIR", help="Directory written by 'negrefine fit'.")
]
Device: TypeAlias = Annotated[
    str, typer.Option(help="'auto' (a GPU if there is one), 'cpu', 'cuda', 'cuda:1', ...")
]
Dtype: TypeAlias = Annotated[
    str, typer.Option(help="'auto' (float32), 'float32', 'float16' or 'bfloat16'.")
]
BatchSize: TypeAlias = Annotated[int, typer.Option(min=1, help="Images to encode at a time.")]
EncoderName: TypeAlias = Annotated[
    str | None,
    typer.Option(
        metavar="ID_OR_DIR",
        help="The encoder the detector was fitted with, if it moved; default: as saved.",
    ),
]
