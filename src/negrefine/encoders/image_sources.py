"""What may be given as an image, and as a list of images."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import IO, TypeAlias

import numpy as np
from PIL import Image

from negrefine.errors import ImageError, InputError

ImageSource: TypeAlias = (
    str | os.PathLike[str] | Image.Image | np.ndarray | bytes | bytearray | memoryview | IO[bytes]
)
Images: TypeAlias = Sequence[ImageSource]

_ONE_IMAGE = (str, os.PathLike, bytes, bytearray, memoryview)


def check_is_list(images: Iterable[object]) -> None:
    """Raise InputError for what is no list of images, such as one image or a set.

    The rows of one array would pass for grey images.
    """
    if isinstance(images, np.ndarray) and images.dtype.kind in "UO":
        is_one = images.ndim != 1
    elif isinstance(images, np.ndarray):
        is_one = images.ndim < 3 or (images.ndim == 3 and images.shape[2] in {1, 3, 4})
    else:
        is_one = isinstance(images, (*_ONE_IMAGE, Image.Image)) or hasattr(images, "read")
    if is_one:
        if isinstance(images, (str, os.PathLike)) and names_several(os.fspath(images)):
            raise InputError(
                f"images must be a list of images, and {str(images)!r} is a folder or pattern:"
                " negrefine.encoders.find_images gives the list of its images."
            )
        if isinstance(images, np.ndarray) and images.dtype.kind in "UO":
            raise InputError(
                f"images must be a list of images, not an array of shape {images.shape}: pass its"
                " ravel()."
            )
        shape = f" of shape {images.shape}" if isinstance(images, np.ndarray) else ""
        raise InputError(
            f"images must be a list of images, not one {type(images).__name__}{shape}: wrap it in"
            " []."
        )
    if _is_tensor(images):
        raise InputError(wrong_type(images, "images"))
    if isinstance(images, (Mapping, Set)) or not isinstance(images, Iterable):
        hint = " its items have no order;" if isinstance(images, Set) else ""
        raise InputError(
            f"images must be a list of images, not a {type(images).__name__};{hint} pass a list."
        )


def names_several(path: str | bytes) -> bool:
    """Return whether a path is a folder, or a pattern that is the name of no file."""
    return os.path.isdir(path) or (glob.has_magic(path) and not os.path.lexists(path))  # noqa: PTH112


def check_items(images: Images) -> None:
    """Raise ImageError with the position of an item that no image can be.

    Only a list, a tuple or an array of objects is looked through, which reads nothing.
    """
    if isinstance(images, (list, tuple)) or str(getattr(images, "dtype", "")) == "object":
        for i, image in enumerate(images):
            if not (
                isinstance(image, (*_ONE_IMAGE, Image.Image, np.ndarray)) or hasattr(image, "read")
            ):
                raise ImageError(wrong_type(image, f"images[{i}]"))


def _is_tensor(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach")


def wrong_type(value: object, what: str) -> str:
    """Return the sentence about `what` if it is no image."""
    if _is_tensor(value):
        return (
            f"{what} must not be a torch tensor: pass a uint8 array (h, w, 3) for each image, such"
            " as tensor.permute(1, 2, 0).numpy() of a uint8 tensor, or the data set through"
            " negrefine.adapters.images_from."
        )
    name = "None" if value is None else type(value).__name__
    return (
        f"{what} must be a path, a Pillow image, a uint8 array, or an image file's bytes or stream,"
        f" not {name}; convert it first."
    )
