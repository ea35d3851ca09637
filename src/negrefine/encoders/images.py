"""Read images as 8-bit RGB; any fault of an image becomes an `ImageError`."""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import IO, Any, Generic, TypeVar

import numpy as np
from PIL import ExifTags, Image, ImageFile

from negrefine.encoders.image_files import (
    INSTALL_HEIF,
    NO_IMAGES,
    expanded,
    find_images,
    is_raw,
    kind_by_content,
    register_formats,
    url_problem,
)
from negrefine.encoders.image_memory import (
    WHOLE_FILE_FORMATS,
    check_memory,
    converting_bytes,
    decoding_bytes,
    memory_for,
)
from negrefine.encoders.image_sources import (
    Images,
    ImageSource,
    check_is_list,
    check_items,
    names_several,
    wrong_type,
)
from negrefine.encoders.pillow_warnings import naming
from negrefine.encoders.pixels import (
    WHITE,
    Colour,
    array_image,
    check_background,
    key_factor,
    to_rgb,
)
from negrefine.encoders.stored_values import note_fits_header
from negrefine.errors import ImageError
from negrefine.files.regular import NotRegularError, open_regular

__all__ = ["ImageSource", "Images", "check_is_list", "check_items", "find_images", "read_image"]

# Metadata in which Pillow finds the orientation.
_ORIENTATION_KEYS = ("exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif")
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

_T = TypeVar("_T")


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
    return use_image(
        source, lambda image: image, exif_orientation=exif_orientation, background=background
    )


def read_scored(encoder: object, source: ImageSource) -> Image.Image:
    """Return what `encoder` sees of an image before it is resized: its settings, else the usual."""
    return use_scored(encoder, source, lambda image: image)


def use_scored(
    encoder: object,
    source: ImageSource,
    use: Callable[[Image.Image], _T],
    bytes_of_use: Callable[[tuple[int, int]], int] = lambda _: 0,
) -> _T:
    """Return what `use` makes of the image that `read_scored` returns; see `use_image`."""
    return use_image(
        source,
        use,
        exif_orientation=getattr(encoder, "exif_orientation", True),
        background=getattr(encoder, "background", WHITE),
        bytes_of_use=bytes_of_use,
    )


def use_image(
    source: ImageSource,
    use: Callable[[Image.Image], _T],
    *,
    exif_orientation: bool,
    background: Colour | None,
    bytes_of_use: Callable[[tuple[int, int]], int] = lambda _: 0,
) -> _T:
    """Return what `use` makes of the image that `read_image` returns.

    It runs while the memory for the image is reserved: threads that read images wait for each
    other, so that all together stay within the limit. `bytes_of_use` is what `use` takes for an
    image of a size (width, height).
    """
    how = _How(exif_orientation, check_background(background), use, bytes_of_use)
    if isinstance(source, (str, os.PathLike)):
        return _read_file(os.fspath(source), how)
    if isinstance(source, (bytes, bytearray, memoryview)) or hasattr(source, "read"):
        stream, name = _as_stream(source)
        return _read_stream(stream, name, how, path="")
    if isinstance(source, np.ndarray):
        # 8 bits, the image, its conversion and its transposition.
        with memory_for(16 * math.prod(source.shape[:2]) + how.bytes_of_use(source.shape[1::-1])):
            image = array_image(source)
            shown = f"the image given ({image.mode}, {_dimensions(image.size)})"
            return use(_decode(image, shown, how, own=True))
    if isinstance(source, Image.Image):
        return _use_pillow_image(source, how)
    raise ImageError(wrong_type(source, "An image"))


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
        except ImageError:
            raise
        except (OSError, ValueError, AttributeError) as error:
            raise ImageError(
                f"{name}: cannot be read ({_reason(error)}); open it again."
            ) from error
    return io.BytesIO(source), name


@dataclass(frozen=True)
class _How(Generic[_T]):
    """How an image is to be read, and what is to be done with it."""

    exif_orientation: bool
    background: Colour | None
    use: Callable[[Image.Image], _T]
    bytes_of_use: Callable[[tuple[int, int]], int]


def _read_file(name: str, how: _How[_T]) -> _T:
    name = expanded(name)
    # Checked first because Windows reports a folder as a denied permission.
    if os.path.isdir(name):  # noqa: PTH112 - Path.is_dir raises where a parent is not readable
        raise ImageError(f"{name}: is a folder, not an image; name the files inside it.")
    if is_raw(name):
        raise ImageError(
            f"{name}: is a raw file of a camera, of which Pillow reads the preview at most; save it"
            " as PNG or JPEG."
        )
    try:
        stream = open_regular(name)
    except NotRegularError as error:
        raise ImageError(f"{name}: is {error.what}, not a regular file; leave it out.") from error
    except (OSError, ValueError) as error:
        if url := url_problem(name):
            raise ImageError(url) from error
        problem = f"cannot be opened ({_reason(error)}); check the path"
        if isinstance(error, FileNotFoundError):
            problem = "there is no such file; check the path"
            if names_several(name):
                problem = "there is no such file, and patterns need find_images; check the path"
            if os.path.islink(name):  # noqa: PTH114
                problem = "is a link to a missing file; repair or remove it"
        elif isinstance(error, PermissionError):
            problem = "permission denied; make the file readable for this user"
        raise ImageError(f"{name}: {problem}.") from error
    with stream:
        return _read_stream(stream, name, how, path=name)


def _read_stream(stream: IO[bytes], name: str, how: _How[_T], *, path: str) -> _T:
    """Read an image from its bytes.

    Pillow maps some formats into memory, from the file called `path`: "" for bytes that are in
    memory already, whose name may be that of another file.
    """
    with _image_errors(name):
        start = stream.read(32)
        whole_file = kind_by_content(start) in WHOLE_FILE_FORMATS
        n_bytes = 2 * stream.seek(0, os.SEEK_END) if whole_file else 0
        stream.seek(0)
    check_memory(n_bytes, name, f"a {kind_by_content(start)} file of {n_bytes // 2:,} bytes")
    # Such a file is opened once more when its memory is known: a thread that waited for more
    # memory while it holds some could wait for ever.
    with memory_for(n_bytes) if whole_file else nullcontext(), naming(name):
        image = _open(stream, name, path)
        n_pixels = image.width * image.height
        limit = math.inf if Image.MAX_IMAGE_PIXELS is None else Image.MAX_IMAGE_PIXELS
        if n_pixels > 2 * limit:
            raise _too_large(name, _dimensions(image.size))
        with _image_errors(name):
            note_fits_header(image, stream, name)
            n_bytes = max(n_bytes, _bytes_to_decode(image, stream, name, how))
    if whole_file:
        del image
    with memory_for(n_bytes):
        with naming(name):
            if whole_file:
                stream.seek(0)
                image = _open(stream, name, path)
            rgb = _decode(image, name, how, own=True)
        del image
        result = how.use(rgb)
        # What is used no more must be free before the next image is read.
        del rgb
        return result


def _use_pillow_image(image: Image.Image, how: _How[_T]) -> _T:
    shown = f"the image given ({image.mode}, {_dimensions(image.size)})"
    name = str(getattr(image, "filename", "") or shown)
    if isinstance(image, ImageFile.ImageFile) and image.fp is not None:
        # It is not decoded yet.
        with _image_errors(name):
            n_bytes = _bytes_to_decode(image, None, name, how)
    else:
        n_bytes = 8 * image.width * image.height + how.bytes_of_use(image.size)
    with memory_for(n_bytes):
        with naming(name):
            rgb = _decode(image, name, how, own=False)
        return how.use(rgb)


def _bytes_to_decode(image: Any, stream: IO[bytes] | None, name: str, how: _How[Any]) -> int:
    """Return about how many bytes decoding and using an image takes; ImageError over the limit."""
    # Looking for the orientation would decode a PNG that does not say it before its pixels.
    turned = any(key in image.info for key in _ORIENTATION_KEYS) and how.exif_orientation
    n_bytes = decoding_bytes(image, stream, turned=turned and _orientation(image) in _UPRIGHT)
    # TIFF is turned by Pillow, which needs it twice.
    if image.format == "TIFF" and _orientation(image) in _UPRIGHT:
        n_bytes = max(n_bytes, 2 * converting_bytes(image))
    n_bytes += how.bytes_of_use(image.size)
    check_memory(n_bytes, name, f"{_dimensions(image.size)} pixels ({image.format} {image.mode})")
    return n_bytes


def _open(stream: IO[bytes], name: str, path: str) -> ImageFile.ImageFile:
    """Do what `Image.open` does, without its limit on the size and with all formats."""
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
                    return factory(stream, path)
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


def _decode(image: Image.Image, name: str, how: _How[Any], *, own: bool) -> Image.Image:
    """Return an image in mode RGB; one of our `own` is closed."""
    with _image_errors(name):
        factor = key_factor(image)
        image.load()
        orientation = _orientation(image) if how.exif_orientation else None
        if own and isinstance(image, ImageFile.ImageFile):
            # The header may have told another size, as in icons.
            n_bytes = converting_bytes(image, turned=orientation in _UPRIGHT)
            check_memory(n_bytes, name, f"{_dimensions(image.size)} pixels ({image.mode})")
        rgb = to_rgb(image, how.background, key_factor=factor, name=name, own=own)
        if own:
            image.close()
        if orientation in _UPRIGHT:
            rgb = rgb.transpose(_UPRIGHT[orientation])
    # With its metadata the image would be turned a second time if it is read again.
    rgb.info = {}
    return rgb


def _orientation(image: Image.Image) -> int | None:
    # Like viewers, show an image whose metadata cannot be parsed.
    with suppress(Exception):
        orientation: int | None = image.getexif().get(ExifTags.Base.Orientation)
        return orientation
    return None


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
