"""From any kind of pixel to 8-bit RGB: ranges of values, transparency, grey and colour modes.

Numbers of more than 8 bits are scaled by what is known of their range, never clipped:

- 8 bits (uint8) are taken as they are; True is white.
- 16 bits (uint16, Pillow's I;16, 16-bit PNG and PPM) are 0 to 65535, scaled by round(v / 257).
- Everything else (float, signed, 32-bit and 64-bit numbers) does not say its range. Values from 0
  to 1 are scaled by 255, whole numbers from 0 to 255 are taken as they are, and whole numbers from
  0 to 65535 are scaled by round(v / 257). Anything else is refused: negative or larger values, NaN,
  and fractions with a maximum above 1, which a picture of high dynamic range has on any scale.

A picture that 0 to 65535 makes nearly black, such as one of 12 bits stored in 16, gives a warning.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from negrefine.encoders.stored_values import is_signed_8_bit, stored_values
from negrefine.errors import ImageError, InputError

Colour: TypeAlias = tuple[int, int, int]
WHITE: Colour = (255, 255, 255)

_ALPHA_MODES = ("RGBA", "LA", "PA", "RGBa", "La")
# Their 16-bit grey may come as Pillow's mode I, of 32 bits.
_16_BIT_FORMATS = ("PNG", "PPM")
# Pillow widens the grey of a PNG of few bits to 8, but not the grey that is transparent.
_KEY_FACTORS = {"L;2": 85, "L;4": 17}
# Images are converted in strips of so many values, so that copies are small.
_STRIP_VALUES = 2**21
# What is no brighter, of 65535, is nearly black, and may be 12 bits.
_DARK = 4095


def check_background(background: Sequence[int] | None) -> Colour | None:
    """Return the colour as a tuple; InputError if it is not three whole numbers of 0 to 255."""
    if background is None:
        return None
    try:
        # 1.0 is white on another scale, and nearly black on this one.
        red, green, blue = (operator.index(part) for part in background)
        if all(0 <= part <= 255 for part in (red, green, blue)):
            return red, green, blue
    except (TypeError, ValueError):
        pass
    raise InputError(
        "background must be (red, green, blue) with whole numbers from 0 to 255, or None, not"
        f" {background!r}."
    )


def array_image(array: np.ndarray) -> Image.Image:
    """Return an array (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) as an image, or ImageError."""
    name = f"the array given ({array.dtype}, shape {array.shape})"
    right_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in {1, 3, 4})
    if not right_shape or array.size == 0:
        raise ImageError(
            f"{name}: an image has the shape (h, w), (h, w, 1), (h, w, 3) or (h, w, 4); put the"
            " colours last."
        )
    # numpy imports its masked arrays when they are first named.
    if type(array) is not np.ndarray and isinstance(array, np.ma.MaskedArray):
        raise ImageError(
            f"{name}: is masked, and what is under a mask is not known; fill it first."
        )
    values = eight_bit(array, name)
    return Image.fromarray(values[:, :, 0] if values.shape[2:] == (1,) else values)


def eight_bit(values: np.ndarray, name: str) -> np.ndarray:
    """Return values as uint8 by the rule of this module; ImageError if it refuses them.

    A few rows are converted at a time: the whole, as wider numbers, would take far more memory.
    """
    if values.dtype == np.uint8:
        return values
    width = values.size // max(len(values), 1)
    parts = [values[rows] for rows in _row_slices(len(values), width)]
    scale = _scale(lambda: iter(parts), values.dtype, name)
    result = np.empty(values.shape, np.uint8)
    for rows, part in zip(_row_slices(len(values), width), parts, strict=True):
        result[rows] = scale(part)
    return result


def key_factor(image: Image.Image) -> int:
    """Return by what the transparent grey of an image that is not loaded yet is to be widened."""
    tiles: Any = getattr(image, "tile", None)
    if image.format != "PNG" or image.mode != "L" or not tiles:
        return 1
    return _KEY_FACTORS.get(str(tiles[0][3]), 1)


def to_rgb(
    image: Image.Image,
    background: Colour | None,
    *,
    key_factor: int = 1,
    name: str = "the image",
    own: bool = False,
) -> Image.Image:
    """Return a loaded image in mode RGB; ImageError for values of no known range.

    An image of our `own` may be closed, so that its memory is free before more is needed, and an
    RGB image of our own is not copied.
    """
    grey = _grey(image, name)
    transparent = image.mode in _ALPHA_MODES or image.has_transparency_data
    if background is None or not transparent:
        if grey is None:
            return _opaque(image, own)
        if own:
            image.close()
        return grey.convert("RGB")
    result = Image.new("RGB", image.size)
    for box in _strips(image.size):
        part = image.crop(box)
        if grey is None:
            layer = _with_alpha(part, key_factor)
        else:
            alpha = np.where(np.asarray(part) == image.info["transparency"], 0, 255)
            layer = grey.crop(box).convert("RGBA")
            layer.putalpha(Image.fromarray(alpha.astype(np.uint8)))
        ground = Image.new("RGBA", part.size, (*background, 255))
        result.paste(Image.alpha_composite(ground, layer).convert("RGB"), box[:2])
    return result


def _grey(image: Image.Image, name: str) -> Image.Image | None:
    """Return the grey of an image with more than 8 bits or signs, None for all others."""
    is_wide = image.mode in ("I", "F") or image.mode.startswith("I;16")
    if not is_wide and not is_signed_8_bit(image):
        return None

    def values(box: tuple[int, int, int, int]) -> np.ndarray:
        strip = np.asarray(image.crop(box))
        if image.mode == "I" and image.format in _16_BIT_FORMATS:
            return strip.astype(np.uint16)
        return stored_values(image, strip, name)

    boxes = _strips(image.size)
    scale = _scale(lambda: map(values, boxes), values((0, 0, 1, 1)).dtype, name)
    grey = Image.new("L", image.size)
    for box in boxes:
        grey.paste(Image.fromarray(scale(values(box))), box[:2])
    return grey


def _scale(
    parts: Callable[[], Iterator[np.ndarray]], dtype: np.dtype[Any], name: str
) -> Callable[[np.ndarray], np.ndarray]:
    """Return what makes the parts of one array uint8; ImageError if the rule refuses them."""
    if dtype.kind == "b":
        return lambda values: values.astype(np.uint8) * np.uint8(255)
    if dtype.kind == "u" and dtype.itemsize == 2:
        _warn_if_dark(max(int(part.max()) for part in parts()), name)
        return _from_16_bit
    if dtype.kind not in "iuf":
        raise ImageError(f"{name}: its values are {dtype}, not numbers; convert it first.")
    bounds = [(part.min(), part.max()) for part in parts()]
    low = np.min([low for low, _ in bounds]).item()
    high = np.max([high for _, high in bounds]).item()
    if not (low >= 0 and high <= 65535):
        raise _out_of_range(name, low, high)
    if high <= 1:
        return _from_fractions
    if dtype.kind == "f" and not all((np.rint(part) == part).all() for part in parts()):
        raise _out_of_range(name, low, high)
    if high <= 255:
        return _as_they_are
    _warn_if_dark(int(high), name)
    return _from_16_bit


def _warn_if_dark(high: int, name: str) -> None:
    if 0 < high <= _DARK:
        warnings.warn(
            f"{name}: its largest value is {high} of 65535, so that it is nearly black; if it is"
            " not meant to be, scale its values to 0 to 65535.",
            stacklevel=2,
        )


def _row_slices(height: int, width: int) -> list[slice]:
    """Return slices of rows that hold some millions of values each."""
    rows = max(1, _STRIP_VALUES // max(width, 1))
    return [slice(top, min(top + rows, height)) for top in range(0, height, rows)]


def _strips(size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Return the boxes of strips that make up an image of a size (width, height)."""
    return [(0, rows.start, size[0], rows.stop) for rows in _row_slices(size[1], size[0])]


def _opaque(image: Image.Image, own: bool) -> Image.Image:
    if own and image.mode == "RGB":
        # What Pillow's methods do to share pixels: a plain image without the state of a decoder.
        return Image.Image()._new(image.im)
    if image.mode == "P" and "transparency" in image.info:
        # Gives the same colours without Pillow's warning about transparency.
        image = image.convert("RGBA")
    elif image.mode in ("RGBa", "La"):
        image = image.convert(image.mode.upper())
    return image.convert("RGB")


def _with_alpha(image: Image.Image, key_factor: int) -> Image.Image:
    if image.mode == "La":
        image = image.convert("LA")
    key = image.info.get("transparency")
    if image.mode == "1" and key == 1:
        # Before Pillow 12.1 it was the bit of the file, which no pixel is: white is 255.
        key_factor = 255
    if isinstance(key, int) and key_factor > 1:
        image = image.copy()
        image.info["transparency"] = key * key_factor
    elif isinstance(key, tuple) and max(key) > 255:
        # Pillow keeps the upper byte of 16-bit colours, and both bytes of the transparent one.
        image = image.copy()
        image.info["transparency"] = tuple(part >> 8 for part in key)
    return image.convert("RGBA")


def _as_they_are(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint8)


def _from_16_bit(values: np.ndarray) -> np.ndarray:
    # 32 bits hold the sum, and its quotient is round(v / 257).
    return ((values.astype(np.uint32) + np.uint32(128)) // np.uint32(257)).astype(np.uint8)


def _from_fractions(values: np.ndarray) -> np.ndarray:
    if values.dtype.itemsize == 2:
        # Half precision has too few digits for the products.
        values = values.astype(np.float32)
    scaled: np.ndarray = np.rint(values * 255.0).astype(np.uint8)
    return scaled


def _out_of_range(name: str, low: Any, high: Any) -> ImageError:
    what = f"its values go from {low:g} to {high:g}"
    if np.isnan(low):
        what = "some of its values are not numbers (NaN)"
    elif low >= 0 and high <= 65535:
        what += " and are no whole numbers"
    return ImageError(
        f"{name}: {what}, so that black and white are not known; scale them to 0 to 1, or to whole"
        " numbers of 0 to 255 or 0 to 65535, and leave normalisation to the encoder."
    )
