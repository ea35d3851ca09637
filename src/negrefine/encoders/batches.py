"""Image features batch by batch, from any encoder, in blocks of equal size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import TypeAlias

import numpy as np

from negrefine.encoders.base import Encoder, FloatArray
from negrefine.encoders.clip import CLIPEncoder
from negrefine.encoders.images import ImageSource
from negrefine.errors import InputError

Batch: TypeAlias = tuple[FloatArray, FloatArray | None]

# Images that a user's own encoder is given at a time: 100 MB of patch features for ViT-B/16.
_IMAGES = 256


def encode_batches(
    encoder: Encoder, images: Sequence[ImageSource], batch_size: int, *, patches: bool
) -> Iterator[Batch]:
    """Yield features (b, d), and patch features (b, p, d) or None, of all images in order.

    An encoder from `load_encoder` reads the next images while a batch is worked on. At least one
    batch is yielded; without images it has no rows.

    Raises:
        ImageError: An image cannot be read.
        InputError: One image was given instead of a list.
    """
    if not isinstance(encoder, CLIPEncoder):
        yield from _slice_by_slice(encoder, images, batch_size, patches)
        return
    if isinstance(images, Sized) and not len(images):
        yield _encode(encoder, images, batch_size, patches)
    for batch in encoder.iter_encoded_images(images, batch_size, patches=patches):
        for error in batch.errors:
            if error is not None:
                raise error
        yield batch.features, batch.patches


def equal_blocks(batches: Iterable[Batch], rows: int) -> Iterator[Batch]:
    """Yield the same rows in blocks of `rows`, the last one shorter; one block if there are none.

    Args:
        batches: One or more.
        rows: At least 1.
    """
    held: list[Batch] = []
    n_held = n_yielded = 0
    for features, patches in batches:
        held.append((features, patches))
        n_held += len(features)
        if n_held < rows:
            continue
        joined, local = _join(held)
        end = n_held - n_held % rows
        for start in range(0, end, rows):
            yield _part(joined, local, start, start + rows)
            n_yielded += rows
        held, n_held = [_part(joined, local, end, n_held)], n_held - end
    if n_held or not n_yielded:
        yield _join(held)


def _slice_by_slice(
    encoder: Encoder, images: Sequence[ImageSource], batch_size: int, patches: bool
) -> Iterator[Batch]:
    if not isinstance(images, (Sequence, np.ndarray)) or isinstance(images, str):
        raise InputError(f"images must be a list of images, not one {type(images).__name__}.")
    for start in range(0, max(len(images), 1), _IMAGES):
        yield _encode(encoder, images[start : start + _IMAGES], batch_size, patches)


def _encode(
    encoder: Encoder, images: Sequence[ImageSource], batch_size: int, patches: bool
) -> Batch:
    if not patches:
        return encoder.encode_images(images, batch_size=batch_size), None
    both: tuple[FloatArray, FloatArray] = encoder.encode_images_and_patches(  # type: ignore[attr-defined]
        images, batch_size=batch_size
    )
    return both


def _join(batches: list[Batch]) -> Batch:
    if len(batches) == 1:
        return batches[0]
    patches = [local for _, local in batches if local is not None]
    joined = np.concatenate(patches) if patches else None
    return np.concatenate([features for features, _ in batches]), joined


def _part(features: FloatArray, patches: FloatArray | None, start: int, end: int) -> Batch:
    return features[start:end], None if patches is None else patches[start:end]
