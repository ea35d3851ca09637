"""Data sets of other libraries as a sequence of images for detectors."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from negrefine.encoders.images import ImageSource
from negrefine.encoders.pillow_warnings import naming
from negrefine.encoders.pixels import eight_bit
from negrefine.errors import ImageError, InputError


class ImageColumn(Sequence[ImageSource]):
    """The images of an indexed data set, read on access and not kept; slices are views.

    Made by `images_from`.
    """

    def __init__(self, dataset: Any, column: str | int | None, rows: range) -> None:
        self._dataset = dataset
        self._column = column
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int | slice) -> Any:
        """Return one image, or for a slice the `ImageColumn` of its images."""
        if isinstance(index, slice):
            return ImageColumn(self._dataset, self._column, self._rows[index])
        row = self._rows[index]
        what = f"Item {row} of the data set"
        return _as_source(_pick(self._dataset[row], self._column, what), what)

    def __iter__(self) -> Iterator[ImageSource]:
        """Read the images one after another; an IndexError of the data set is not the end."""
        return (self[i] for i in range(len(self)))


def images_from(dataset: Any, column: str | int | None = None) -> ImageColumn:
    """Return the images of a data set as the sequence that `score_samples` and the like take.

    Args:
        dataset: A Hugging Face `datasets.Dataset`, a map-style `torch.utils.data.Dataset`, or
            anything with `len()` and `[i]`, whose items are images, tuples that start with an
            image, or mappings with an image.
        column: Where the image is in an item: the key of a mapping, or the position in a tuple.
            None means "image", or "img" if there is no such key, and position 0.

    The image may be a Pillow image, a path, encoded bytes, {"bytes": ..., "path": ...} as
    `datasets` represents undecoded images, an array as for `read_image`, or a tensor (3, h, w),
    (4, h, w) with alpha, (1, h, w) or (h, w) with values as for `read_image`. Raises InputError
    for a stream, which cannot be indexed, or without such a column.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise InputError(
            f"A {type(dataset).__name__} cannot be indexed: give a data set with len() and [i], "
            "not a stream."
        )
    names = getattr(dataset, "column_names", None)
    if isinstance(names, list) and isinstance(column, str) and column not in names:
        raise InputError(f"The data set has no column {column!r}, only {', '.join(names)}.")
    return ImageColumn(dataset, column, range(len(dataset)))


def _pick(item: Any, column: str | int | None, what: str) -> Any:
    if isinstance(item, Mapping) and not (column is None and _is_undecoded(item)):
        keys = ("image", "img") if column is None else (column,)
        for key in keys:
            if key in item:
                return item[key]
        raise InputError(
            f"{what} has no {' or '.join(map(repr, keys))}, only {', '.join(map(repr, item))}: "
            "name the column of images."
        )
    if isinstance(item, (tuple, list)):
        position = 0 if column is None else column
        if not isinstance(position, int) or not -len(item) <= position < len(item):
            raise InputError(
                f"{what} is a tuple of {len(item)}, which has no {column!r}: give the position of "
                "the image as column."
            )
        return item[position]
    return item


def _is_undecoded(value: Any) -> bool:
    return isinstance(value, Mapping) and {"bytes", "path"} >= set(value) and len(value) > 0


def _as_source(value: Any, what: str) -> Any:
    if _is_undecoded(value):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, (bytes, bytearray)):
        try:
            with naming(what):
                return Image.open(io.BytesIO(value))
        # Headers that are damaged or tell of far too many pixels raise anything.
        except Exception as error:
            raise ImageError(f"{what} is not an image: {error}.") from error
    if hasattr(value, "detach"):
        return tensor_as_array(value, what)
    if value is None:
        raise ImageError(f"{what} has no image: filter such rows out.")
    return value


def tensor_as_array(tensor: Any, what: str) -> np.ndarray:
    """Return an image tensor (3, h, w), (4, h, w), (1, h, w) or (h, w) as uint8, channels last.

    Raises InputError for another shape, and ImageError for values outside the ranges of
    `negrefine.encoders.pixels`, such as those of a normalised image.
    """
    tensor = tensor.detach().cpu()
    # NumPy has no such type.
    array = (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    if array.size and array.ndim == 3 and array.shape[0] in {1, 3, 4}:
        array = array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    elif array.size == 0 or array.ndim != 2:
        raise InputError(f"{what} is a tensor of shape {array.shape}, not (3, height, width).")
    return np.ascontiguousarray(eight_bit(array, what))
