"""Image features batch by batch, from any encoder, in blocks of equal size."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from negrefine.encoders.base import EncodedImages, Encoder, FloatArray
from negrefine.encoders.images import Images, ImageSource, check_is_list, read_image
from negrefine.errors import ImageError

Batch: TypeAlias = tuple[FloatArray, FloatArray | None]

# Images in one call of an encoder without `iter_encoded_images`: 100 MB of patches of ViT-B/16.
_SLICE = 256


def iter_encoded_images(
    encoder: Encoder, images: Images, batch_size: int = 64, *, patches: bool = False
) -> Iterator[EncodedImages]:
    """Encode n images batch by batch; an unreadable image becomes an error entry.

    An encoder's own `iter_encoded_images` is used if it has one. Any other encoder is given slices
    of `images`. If it raises, the slice is halved to find the images at fault: those on which the
    encoder raises ImageError, or raises anything and `read_image` fails too. At least one batch is
    yielded; without images it has no rows. `patches` needs a `PatchEncoder`.

    Raises:
        InputError: One image was given instead of a list.
        Exception: What the encoder raised for another reason than an unreadable image.
    """
    check_is_list(images)
    own = getattr(encoder, "iter_encoded_images", None)
    batches: Iterable[EncodedImages] = (
        _slice_by_slice(encoder, images, batch_size, patches)
        if own is None
        else own(images, batch_size, patches=patches)
    )
    batch = None
    for batch in batches:
        yield batch
    if batch is None:
        features, local = _no_rows(encoder, patches)
        yield EncodedImages(features, [], local)


def encode_batches(
    encoder: Encoder, images: Images, batch_size: int, *, patches: bool
) -> Iterator[Batch]:
    """Yield features (b, d), and patch features (b, p, d) or None, of all images in order.

    Otherwise as `iter_encoded_images`, but an image that cannot be read raises ImageError.
    """
    for batch in iter_encoded_images(encoder, images, batch_size, patches=patches):
        for error in batch.errors:
            if error is not None:
                raise error
        yield batch.features, batch.patches


def equal_blocks(batches: Iterable[Batch], rows: int) -> Iterator[Batch]:
    """Yield the same rows in blocks of `rows`, the last one shorter; at least one block."""
    held: list[Batch] = []
    n_held = n_yielded = 0
    for batch in batches:
        held.append(batch)
        n_held += len(batch[0])
        if n_held >= rows:
            joined = join_batches(held)
            end = n_held - n_held % rows
            for start in range(0, end, rows):
                yield _part(joined, start, start + rows)
                n_yielded += rows
            held, n_held = [_part(joined, end, n_held)], n_held - end
    if n_held or not n_yielded:
        yield join_batches(held)


def _slice_by_slice(
    encoder: Encoder, images: Images, batch_size: int, patches: bool
) -> Iterator[EncodedImages]:
    remaining = iter(images)
    while part := list(islice(remaining, _SLICE)):
        encoded, errors = _encode_readable(encoder, part, batch_size, patches)
        features, local = join_batches(encoded) if encoded else _no_rows(encoder, patches)
        yield EncodedImages(features, errors, local)


def _encode_readable(
    encoder: Encoder, images: list[ImageSource], batch_size: int, patches: bool
) -> tuple[list[Batch], list[ImageError | None]]:
    try:
        return [_encode(encoder, images, batch_size, patches)], [None] * len(images)
    except Exception as error:
        if len(images) == 1:
            return [], [_reading_error(images[0], error)]
        middle = len(images) // 2
        encoded, errors = _encode_readable(encoder, images[:middle], batch_size, patches)
        second, second_errors = _encode_readable(encoder, images[middle:], batch_size, patches)
        errors += second_errors
        if not any(errors):
            # No image is at fault; memory may be too small for the whole slice.
            raise
        return encoded + second, errors


def _reading_error(image: ImageSource, error: Exception) -> ImageError:
    """Return why `image` cannot be read; raise `error` if it can."""
    if isinstance(error, ImageError):
        return error
    try:
        read_image(image)
    except ImageError as reason:
        return reason
    raise error


def _encode(encoder: Any, images: Images, batch_size: int, patches: bool) -> Batch:
    if not patches:
        return encoder.encode_images(images, batch_size=batch_size), None
    features, local = encoder.encode_images_and_patches(images, batch_size=batch_size)
    return features, local


def _no_rows(encoder: Encoder, patches: bool) -> Batch:
    """Return arrays without rows, from one image: an encoder may not take an empty list."""
    return _part(_encode(encoder, [Image.new("RGB", (64, 64))], 1, patches), 0, 0)


def join_batches(batches: list[Batch]) -> Batch:
    """Return the rows of one or more batches as one batch."""
    if len(batches) == 1:
        return batches[0]
    patches = [local for _, local in batches if local is not None]
    joined = np.concatenate(patches) if patches else None
    return np.concatenate([features for features, _ in batches]), joined


def _part(batch: Batch, start: int, end: int) -> Batch:
    features, patches = batch
    return features[start:end], None if patches is None else patches[start:end]
