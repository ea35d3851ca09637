"""Features of the images of shards, which are read once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from negrefine.encoders.base import Encoder, FloatArray
from negrefine.encoders.batches import iter_encoded_images
from negrefine.encoders.image_sources import ImageSource
from negrefine.errors import ImageError
from negrefine.progress import progress_bar
from negrefine.sources.ahead import read_images
from negrefine.sources.base import Shard, error_text
from negrefine.sources.bounded import content_digest


@dataclass(frozen=True)
class EncodedSource:
    """Features (n, d), names and SHA-256 sums of the n readable images, and the others' errors."""

    features: FloatArray
    names: list[str]
    contents: list[bytes]
    errors: list[ImageError]


def encode_shards(
    encoder: Encoder,
    shards: Sequence[Shard],
    *,
    description: str = "Encoding images",
    batch_size: int = 64,
    progress: bool = False,
) -> EncodedSource:
    """Encode the images that can be read, in order. Raises ImageError if there are none."""
    names: list[str] = []
    contents: list[bytes] = []
    errors: list[ImageError] = []

    def images() -> Iterator[ImageSource]:
        for named in (named for shard in shards for named in read_images(shard)):
            if isinstance(named.image, ImageError):
                errors.append(ImageError(error_text(named.name, named.image)))
                continue
            names.append(named.name)
            contents.append(content_digest(named.image))
            yield named.image

    features: list[FloatArray] = []
    readable: list[bool] = []
    with progress_bar(description, None, enabled=progress) as advance:
        for batch in iter_encoded_images(encoder, images(), batch_size):  # type: ignore[arg-type]
            features.append(batch.features)
            for error in batch.errors:
                readable.append(error is None)
                if error is not None:
                    errors.append(ImageError(error_text(names[len(readable) - 1], error)))
            advance(len(batch.errors))
    if not any(readable):
        first = f" The first: {errors[0]}" if errors else ""
        raise ImageError(f"None of the {len(errors)} images could be read.{first}")
    return EncodedSource(
        np.concatenate(features),
        [each for each, ok in zip(names, readable, strict=True) if ok],
        [each for each, ok in zip(contents, readable, strict=True) if ok],
        errors,
    )
