"""What headers of TIFF and FITS say about the numbers of an image, where Pillow ignores it."""

from __future__ import annotations

from typing import IO, Any

import numpy as np
import PIL

from negrefine.errors import ImageError

# Tags of TIFF, and their values.
_BITS, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339
_WHITE_IS_ZERO, _UNSIGNED, _SIGNED = 0, 1, 2
# Where `note_fits_header` leaves what it found.
_FITS_ZERO = "negrefine_fits_zero"
_UNSIGNED_16_ZERO = 32768.0
_FITS_PILLOW = 13


def is_signed_8_bit(image: Any) -> bool:
    """Return whether this is a TIFF whose 8 bits have a sign, which Pillow reads without it."""
    return image.mode == "L" and _tag(image, _SAMPLE_FORMAT, _UNSIGNED) == _SIGNED


def stored_values(image: Any, strip: np.ndarray, name: str) -> np.ndarray:
    """Return the numbers that the file means by a strip of grey that Pillow has read."""
    if image.format == "FITS" and strip.dtype.itemsize == 2:
        # The 16 bits of this format have a sign.
        signed = strip.view(strip.dtype.str.replace("u", "i"))
        if image.info.get(_FITS_ZERO):
            return (signed.astype(np.int32) + int(_UNSIGNED_16_ZERO)).astype(np.uint16)
        return signed
    if is_signed_8_bit(image):
        return strip.view(np.int8)
    if _tag(image, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO:
        if image.mode == "F":
            raise ImageError(
                f"{name}: stores white as 0 in numbers with a fraction, so that black is not known;"
                " save it with black as 0."
            )
        if strip.dtype.itemsize == 2:
            return 65535 - strip
    is_unsigned = _tag(image, _SAMPLE_FORMAT, _UNSIGNED) == _UNSIGNED
    if image.mode == "I" and is_unsigned and _tag(image, _BITS, 0) == 32:
        return strip.view(strip.dtype.str.replace("i", "u"))
    return strip


def note_fits_header(image: Any, stream: IO[bytes], name: str) -> None:
    """Note BZERO of a FITS file that is not loaded yet; ImageError for one that is not usual.

    16 bits without a sign are stored as signed ones from which 32768 was taken.
    """
    if image.format != "FITS":
        return
    if image.mode != "L" and int(PIL.__version__.partition(".")[0]) < _FITS_PILLOW:
        raise ImageError(
            f"{name}: FITS of more than 8 bits needs Pillow {_FITS_PILLOW} (Python 3.11), and this "
            f"is {PIL.__version__}, which reads its bytes in the wrong order; save a PNG or TIFF."
        )
    position = stream.tell()
    stream.seek(0)
    header = stream.read(min(image.tile[0][2], 2**20))
    stream.seek(position)
    given = {"BZERO": 0.0, "BSCALE": 1.0}
    for start in range(0, len(header), 80):
        key, _, value = header[start : start + 80].decode("latin-1").partition("=")
        if key.strip() in given:
            # Fortran writes exponents with D.
            given[key.strip()] = float(value.partition("/")[0].replace("D", "E"))
    zero, scale = given["BZERO"], given["BSCALE"]
    if (zero, scale) == (_UNSIGNED_16_ZERO, 1.0) and image.mode == "I;16":
        image.info[_FITS_ZERO] = True
    elif (zero, scale) != (0.0, 1.0):
        raise ImageError(
            f"{name}: its FITS header scales the values (BZERO {zero:g}, BSCALE {scale:g}), which"
            " is not supported; save the scaled values, or a PNG."
        )


def _tag(image: Any, tag: int, default: int) -> int:
    """Return a tag of TIFF, the first of several values, or the default for other formats."""
    if image.format != "TIFF":
        return default
    value = image.tag_v2.get(tag, default)
    return int(value[0] if isinstance(value, tuple) else value)
