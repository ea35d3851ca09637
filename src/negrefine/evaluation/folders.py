"""Features of whole folders of images, with the unreadable ones set aside."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from negrefine.encoders.base import FloatArray
from negrefine.encoders.clip import CLIPEncoder
from negrefine.errors import ImageError, InputError
from negrefine.progress import progress_bar


def encode_files(
    encoder: CLIPEncoder,
    paths: Sequence[Path],
    *,
    description: str = "Encoding images",
    batch_size: int = 64,
    progress: bool = False,
) -> tuple[FloatArray, list[ImageError]]:
    """Encode the readable ones of some image files.

    Args:
        encoder: From `load_encoder`.
        paths: Image files.
        description: Caption of the progress bar.
        batch_size: Images to encode at a time.
        progress: Draw a progress bar on a terminal.

    Returns:
        float32 (n_readable, d) in order, and the errors of the others.

    Raises:
        InputError: No images, or none that can be read.
    """
    parts: list[FloatArray] = []
    errors: list[ImageError] = []
    with progress_bar(description, len(paths), enabled=progress) as advance:
        for batch in encoder.iter_encoded_images(paths, batch_size):
            parts.append(batch.features)
            errors += [error for error in batch.errors if error is not None]
            advance(len(batch.errors))
    if not paths:
        raise InputError("There are no images to encode: give at least one.")
    features = np.concatenate(parts)
    if not len(features):
        raise InputError(f"None of the {len(paths)} images can be read; the first: {errors[0]}")
    return features, errors
