"""Read images as 8-bit RGB; any fault of an image becomes an `ImageError`."""

from __future__ import annotations

import io
import math
import os
import struct
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageFile

from negrefine.encoders.image_files import (
    INSTALL_HEIF,
    NO_IMAGES,
    find_images,
    is_raw,
    kind_by_content,
    register_formats,
    url_problem,
    what_it_is,
)
from negrefine.encoders.pixels import (
    WHITE,
    Colour,
    array_image,
    check_background,
    key_factor,
    to_rgb,
)
from negrefine.errors import ImageError, InputError

__all__ = ["ImageSource", "Images", "check_is_list", "find_images", "read_image"]

ImageSource: TypeAlias = (
    str | os.PathLike[str] | Image.Image | np.ndarray | bytes | bytearray | memoryview | IO[bytes]
)
Images: TypeAlias = Sequence[ImageSource]

# EXIF orientation to the transposition that turns the image upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_ONE_IMAGE = (str, os.PathLike, bytes, bytearray, memoryview)

_large_image = threading.Lock()


def read_image(
    source: ImageSource,
    *,
    exif_orientation: bool = True,
    background: Colour | None = WHITE,
) -> Image.Image:
    """Return `source` as a new Pillow image in mode RGB, fully decoded.

    Args:
        source: A path (the first frame of an animated file), a Pillow image (its current frame; it
            is not changed), an array of shape (h, w, 3) in RGB order, (h, w, 4) with alpha, or
            (h, w) or (h, w, 1) in grey, the bytes of an image file, or a file opened in binary
            mode, which is read from its start and not closed.
        exif_orientation: Turn the image upright by its EXIF tag, as Pillow always does with TIFF.
        background: Composite transparent pixels over this colour (red, green, blue; 0 to 255). None
            ignores transparency, as `Image.convert("RGB")` does, and shows what colour is hidden.

    Every mode is converted as by `Image.convert("RGB")`, except what Pillow would clip at 255: 16
    bits are scaled by round(v / 257). Other integers and floats, in files and in arrays, may be
    fractions of 0 to 1 or whole numbers of 0 to 255 or 0 to 65535, told apart by the largest value;
    see `negrefine.encoders.pixels`. Colour profiles are not applied.

    Files of more than twice `PIL.Image.MAX_IMAGE_PIXELS` pixels (178,956,970 unless changed; None
    means no limit) are refused by their header, before they are decoded; smaller ones do not warn.
    Truncated files are refused unless `PIL.ImageFile.LOAD_TRUNCATED_IMAGES` is set.

    Raises:
        ImageError: The file is missing, unreadable, empty, not an image, damaged or too large,
            has values of another range, or the array has another shape.
        InputError: `background` is not a colour.
    """
    background = check_background(background)
    if isinstance(source, np.ndarray):
        image = array_image(source)
    elif isinstance(source, Image.Image):
        image = source
    elif isinstance(source, (str, os.PathLike)):
        return _read_file(os.fspath(source), exif_orientation, background)
    elif isinstance(source, (bytes, bytearray, memoryview)) or hasattr(source, "read"):
        stream, name = _as_stream(source)
        return _read_stream(stream, name, exif_orientation, background)
    else:
        raise ImageError(_wrong_type(source, "An image"))
    shown = f"the image given ({image.mode}, {_dimensions(image.size)})"
    name = str(getattr(image, "filename", "") or shown)
    return _decode(image, name, exif_orientation, background)


def check_is_list(images: Images) -> None:
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
        shape = f" of shape {images.shape}" if isinstance(images, np.ndarray) else ""
        raise InputError(
            f"images must be a list of images, not one {type(images).__name__}{shape}: wrap it in"
            " []."
        )
    if _is_tensor(images):
        raise InputError(_wrong_type(images, "images"))
    if isinstance(images, (Mapping, Set)) or not isinstance(images, Iterable):
        hint = " its items have no order;" if isinstance(images, Set) else ""
        raise InputError(
            f"images must be a list of images, not a {type(images).__name__};{hint} pass a list."
        )


def check_items(images: Images) -> None:
    """Raise ImageError with the position of an item that no image can be.

    Only a list, a tuple or an array of objects is looked through, which reads nothing.
    """
    if isinstance(images, (list, tuple)) or str(getattr(images, "dtype", "")) == "object":
        for i, image in enumerate(images):
            if not (
                isinstance(image, (*_ONE_IMAGE, Image.Image, np.ndarray)) or hasattr(image, "read")
            ):
                raise ImageError(_wrong_type(image, f"images[{i}]"))


def _is_tensor(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach")


def _wrong_type(value: object, what: str) -> str:
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


def _as_stream(source: Any) -> tuple[IO[bytes], str]:
    """Return the bytes of an image as a stream of our own, and what errors call it."""
    name = "the image given"
    if hasattr(source, "read"):
        given = getattr(source, "name", None)
        name = given if isinstance(given, str) else name
        if isinstance(source, io.TextIOBase):
            raise ImageError(f"{name}: is opened as text; open it in binary mode ('rb').")
        try:
            if source.seekable():
                source.seek(0)
            source = source.read()
        except (OSError, ValueError, AttributeError) as error:
            raise ImageError(
                f"{name}: cannot be read ({_reason(error)}); open it again."
            ) from error
    return io.BytesIO(source), name


def _read_file(name: str, exif_orientation: bool, background: Colour | None) -> Image.Image:
    # Checked first because Windows reports a folder as a denied permission.
    if os.path.isdir(name):  # noqa: PTH112 - Path.is_dir raises where a parent is not readable
        raise ImageError(f"{name}: is a folder, not an image; name the files inside it.")
    if is_raw(name):
        raise ImageError(
            f"{name}: is a raw file of a camera, of which Pillow reads the preview at most; save it"
            " as PNG or JPEG."
        )
    try:
        # Opening a pipe would wait for ever for someone to write to it.
        if what := what_it_is(os.stat(name)):  # noqa: PTH116
            raise ImageError(f"{name}: is no ordinary file but {what}; leave it out.")
        stream = Path(name).open("rb")  # noqa: SIM115 - closed by the block below
    except ImageError:
        raise
    except (OSError, ValueError) as error:
        if url := url_problem(name):
            raise ImageError(url) from error
        problem = f"cannot be opened ({_reason(error)}); check the path"
        if isinstance(error, FileNotFoundError):
            problem = "there is no such file; check the path"
            if os.path.islink(name):  # noqa: PTH114
                problem = "is a link to a missing file; repair or remove it"
        elif isinstance(error, PermissionError):
            problem = "permission denied; make the file readable for this user"
        raise ImageError(f"{name}: {problem}.") from error
    with stream:
        return _read_stream(stream, name, exif_orientation, background)


def _read_stream(
    stream: IO[bytes],
    name: str,
    exif_orientation: bool,
    background: tuple[int, int, int] | None,
) -> Image.Image:
    image = _open(stream, name)
    limit = math.inf if Image.MAX_IMAGE_PIXELS is None else Image.MAX_IMAGE_PIXELS
    n_pixels = image.width * image.height
    if n_pixels > 2 * limit:
        raise _too_large(name, _dimensions(image.size))
    if n_pixels <= limit:
        return _decode(image, name, exif_orientation, background)
    # catch_warnings changes a global list: one thread at a time, and only for large images.
    with _large_image, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return _decode(image, name, exif_orientation, background)


def _open(stream: IO[bytes], name: str) -> ImageFile.ImageFile:
    """Do what `Image.open` does without its warning about size, which threads cannot suppress."""
    with _image_errors(name):
        start = stream.read(32)
        prefix = start[:16]
        if not prefix:
            raise ImageError(f"{name}: the file is empty (0 bytes); copy or download it again.")
        reasons: list[str] = []
        # The common formats are tried first.
        register_formats()
        for kind, (factory, accept) in list(Image.OPEN.items()):
            accepted = kind not in NO_IMAGES and (accept is None or accept(prefix))
            if isinstance(accepted, str):
                reasons.append(accepted)
            elif accepted:
                stream.seek(0)
                with suppress(SyntaxError, IndexError, TypeError, struct.error):
                    return factory(stream, name)
    if kind_by_content(start) == "HEIC" and "HEIF" not in Image.OPEN:
        raise ImageError(
            f"{name}: is HEIC, which Pillow alone cannot read; {INSTALL_HEIF}, or save it as PNG or"
            " JPEG."
        )
    why = f" ({'; '.join(reasons)})" if reasons else ""
    raise ImageError(
        f"{name}: is not an image that Pillow can read{why}; save it as PNG or JPEG, or leave it"
        " out."
    )


def _decode(
    image: Image.Image, name: str, exif_orientation: bool, background: Colour | None
) -> Image.Image:
    with _image_errors(name):
        factor = key_factor(image)
        image.load()
        rgb = to_rgb(image, background, key_factor=factor, name=name)
        orientation = None
        if exif_orientation:
            # Like viewers, show an image whose metadata cannot be parsed.
            with suppress(Exception):
                orientation = image.getexif().get(ExifTags.Base.Orientation)
        if orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[orientation])
    # With its metadata the image would be turned a second time if it is read again.
    rgb.info = {}
    return rgb


def _too_large(name: str, size: str) -> ImageError:
    limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    return ImageError(
        f"{name}: {size} pixels are more than Pillow's limit of {limit:,}; shrink the image, or"
        " raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."
    )


@contextmanager
def _image_errors(name: str) -> Iterator[None]:
    """Turn whatever Pillow raises into an ImageError."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(name, "its") from error
    except Exception as error:
        raise ImageError(
            f"{name}: the image is damaged, cut short or of a kind that Pillow cannot decode"
            f" ({_reason(error)}); copy it again or save it as PNG or JPEG."
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _dimensions(size: tuple[int, int]) -> str:
    return f"{size[0]:,} x {size[1]:,}"
