"""Find images and read them as 8-bit RGB; any fault of an image becomes an `ImageError`."""

from __future__ import annotations

import glob
import math
import os
import struct
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageFile

from negrefine.encoders.pixels import (
    WHITE,
    Colour,
    array_image,
    check_background,
    key_factor,
    to_rgb,
)
from negrefine.errors import ImageError, InputError

ImageSource: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray
Images: TypeAlias = Sequence[ImageSource]

# Pillow registers these too: data, films, and drawings that need an external interpreter.
_NO_IMAGES = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})

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
            is not changed), or an array of shape (h, w, 3) in RGB order, (h, w, 4) with alpha, or
            (h, w) or (h, w, 1) in grey.
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
    else:
        raise ImageError(
            f"An image must be a path, a Pillow image or an array, not {type(source).__name__}"
            "; convert it first."
        )
    shown = f"the image given ({image.mode}, {_dimensions(image.size)})"
    name = str(getattr(image, "filename", "") or shown)
    return _decode(image, name, exif_orientation, background)


def check_is_list(images: Images) -> None:
    """Raise InputError for one image in place of a list; its rows would pass for grey images."""
    one_array = isinstance(images, np.ndarray) and (
        images.ndim < 3 or (images.ndim == 3 and images.shape[2] in {1, 3, 4})
    )
    if one_array or isinstance(images, (str, os.PathLike, Image.Image)):
        raise InputError(
            f"images must be a list of images, not one {type(images).__name__}: wrap it in []."
        )


def find_images(paths: Sequence[str | os.PathLike[str]]) -> list[Path]:
    """Return the image files that are named, in folders, or match patterns.

    A folder gives all image files below it (by extension, for formats that Pillow opens); hidden
    files and folders are skipped, links to folders followed once. A pattern (`*`, `?`, `[...]`, and
    `**` for any depth) gives the image files, and those of the folders, that match it. A file that
    is named itself is kept whatever its extension. The order is that of the arguments, sorted
    within each; a file that is found twice is kept where it is found first.

    Raises InputError if nothing is given, a path is missing, a folder cannot be listed or holds no
    image, or a pattern matches none.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    if not paths:
        raise InputError("No image is named; give image files, folders or patterns.")
    found: dict[str, Path] = {}
    for path in paths:
        for file in _files_of(os.fspath(path)):
            found.setdefault(os.path.abspath(file), file)  # noqa: PTH100 - resolve() follows links
    return list(found.values())


def _read_file(name: str, exif_orientation: bool, background: Colour | None) -> Image.Image:
    # Checked first because Windows reports a folder as a denied permission.
    if os.path.isdir(name):  # noqa: PTH112 - Path.is_dir raises where a parent is not readable
        raise ImageError(f"{name}: is a folder, not an image; name the files inside it.")
    try:
        stream = Path(name).open("rb")  # noqa: SIM115 - closed by the block below
    except (OSError, ValueError) as error:
        problem = f"cannot be opened ({_reason(error)}); check the path"
        if isinstance(error, FileNotFoundError):
            problem = "there is no such file; check the path"
        elif isinstance(error, PermissionError):
            problem = "permission denied; make the file readable for this user"
        raise ImageError(f"{name}: {problem}.") from error
    with stream:
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
        prefix = stream.read(16)
        if not prefix:
            raise ImageError(f"{name}: the file is empty (0 bytes); copy or download it again.")
        reasons: list[str] = []
        # The common formats are tried first.
        Image.preinit()
        Image.init()
        for kind, (factory, accept) in list(Image.OPEN.items()):
            accepted = kind not in _NO_IMAGES and (accept is None or accept(prefix))
            if isinstance(accepted, str):
                reasons.append(accepted)
            elif accepted:
                stream.seek(0)
                with suppress(SyntaxError, IndexError, TypeError, struct.error):
                    return factory(stream, name)
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


def _files_of(path: str) -> list[Path]:
    if os.path.isdir(path):  # noqa: PTH112 - as in _read_file
        files = images_below(path)
        if not files:
            raise InputError(f"{path}: the folder holds no image; check the path.")
        return files
    if os.path.lexists(path):
        if not os.path.exists(path):  # noqa: PTH110 - likewise
            raise InputError(f"{path}: is a link to a missing file; repair or remove it.")
        return [Path(path)]
    if not glob.has_magic(path):
        raise InputError(f"{path}: there is no such file or folder; check the path.")
    files = []
    for match in glob.glob(path, recursive=True):  # noqa: PTH207 - Path.glob refuses absolute ones
        if Path(match).is_dir():
            files += images_below(match)
        elif _has_image_extension(match):
            files.append(Path(match))
    if not files:
        raise InputError(f"{path}: the pattern matches no image; check it.")
    return sorted(files)


def images_below(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the image files below a folder, if any; order and errors are as for `find_images`."""

    def refuse(error: OSError) -> None:
        raise InputError(
            f"{error.filename}: the folder cannot be listed ({_reason(error)}); make it readable or"
            " leave it out."
        ) from error

    files = []
    entered: set[tuple[int, int]] = set()
    for here, folders, names in os.walk(folder, followlinks=True, onerror=refuse):
        status = Path(here).stat()
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        visible = (name for name in names if not name.startswith("."))
        files += [Path(here, name) for name in visible if _has_image_extension(name)]
    return sorted(files)


def _has_image_extension(name: str) -> bool:
    kind = Image.registered_extensions().get(Path(name).suffix.lower())
    return kind in Image.OPEN and kind not in _NO_IMAGES
