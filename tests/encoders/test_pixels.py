"""Ranges of values: brightness comes out right in every number type, or is refused by its range."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
import pytest
from PIL import Image

from negrefine.encoders.images import read_image
from negrefine.errors import ImageError

PILLOW = int(PIL.__version__.partition(".")[0])
needs_pillow_13 = pytest.mark.skipif(PILLOW < 13, reason="Pillow 13 reads these formats rightly")
RAMP = np.linspace(0, 1, 64).reshape(1, 64).repeat(3, 0)
BYTES = np.rint(RAMP * 255).astype(np.uint8)


def grey(source: Any) -> npt.NDArray[np.uint8]:
    image = read_image(source)
    assert image.mode == "RGB"
    array = np.asarray(image)
    assert (array == array[:, :, :1]).all()
    return array[:, :, 0]


def fits(path: Path, bits: int, values: npt.NDArray[Any]) -> Path:
    height, width = values.shape
    cards = {"SIMPLE": "T", "BITPIX": bits, "NAXIS": 2, "NAXIS1": width, "NAXIS2": height}
    lines = [f"{key:<8}= {value:>20}".ljust(80) for key, value in cards.items()]
    header = "".join([*lines, "END".ljust(80)]).ljust(2880).encode()
    # The lowest row comes first.
    data = values[::-1].tobytes()
    path.write_bytes(header + data + bytes(-len(data) % 2880))
    return path


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4"])
def test_fractions_are_scaled_by_255(dtype: str) -> None:
    assert np.abs(grey(RAMP.astype(dtype)).astype(int) - BYTES).max() <= (dtype == "f2")


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8", "u4", "u8", "f2", "f4", "f8", ">i4"])
def test_whole_numbers_to_255_are_taken_as_they_are(dtype: str) -> None:
    assert (grey(BYTES.astype(dtype)) == BYTES).all()


@pytest.mark.parametrize("dtype", ["u2", ">u2", "i4", "i8", "u4", "u8", "f4", "f8"])
def test_whole_numbers_to_65535_are_scaled(dtype: str) -> None:
    values = np.rint(RAMP * 65535).astype(dtype)
    assert (grey(values) == np.rint(values.astype(float) / 257)).all()


def test_truth_values_and_wide_zeros_and_ones_are_black_and_white() -> None:
    mask = RAMP > 0.5
    for values in (mask, mask.astype(np.int8), mask.astype(np.int64), mask.astype(np.float32)):
        assert (grey(values) == np.where(mask, 255, 0)).all()
    assert (grey(np.zeros((2, 2), np.int32)) == 0).all()


def test_16_bits_are_never_taken_for_8_and_dark_ones_are_told(tmp_path: Path) -> None:
    dark = np.array([[0, 100, 200, 255]], dtype=np.uint16)
    for name in ("dark.png", "dark.tif", "dark.pgm"):
        Image.fromarray(dark).save(tmp_path / name)
        with pytest.warns(UserWarning, match=rf"^\S*{name}: its largest value is 255 of 65535"):
            assert grey(tmp_path / name).tolist() == [[0, 0, 1, 1]]
    big = Image.frombytes("I;16B", (4, 1), dark.astype(">u2").tobytes())
    for source in (dark, Image.fromarray(dark), big):
        with pytest.warns(UserWarning, match="given .* its largest value is 255 .* nearly black"):
            assert grey(source).tolist() == [[0, 0, 1, 1]]


def test_12_bits_in_wider_numbers_are_told() -> None:
    for dtype in ("u2", "i4", "f4"):
        with pytest.warns(UserWarning, match="its largest value is 4095 of 65535"):
            assert grey(np.array([[0, 4095]], dtype)).tolist() == [[0, 16]]
        assert grey(np.array([[0, 4096]], dtype)).tolist() == [[0, 16]]
        assert grey(np.array([[0, 0]], dtype)).tolist() == [[0, 0]]


def test_masked_arrays_are_refused() -> None:
    masked = np.ma.masked_array(RAMP, RAMP > 0.5)
    with pytest.raises(ImageError, match="is masked"):
        read_image(masked)


def test_one_and_four_channels() -> None:
    assert (grey(BYTES[:, :, np.newaxis]) == BYTES).all()
    rgba = np.dstack([BYTES, BYTES, BYTES, np.where(BYTES < 100, 0, 255).astype(np.uint8)])
    expected = np.where(BYTES < 100, 255, BYTES)
    assert (grey(rgba) == expected).all()
    assert (grey(rgba / 255) == expected).all()
    colour = np.array([[[1.0, 0.0, 0.2]]])
    assert np.asarray(read_image(colour)).tolist() == [[[255, 0, 51]]]


def test_files_of_floats_and_32_bits(tmp_path: Path) -> None:
    fraction = RAMP.astype(np.float32)
    for name, values in (
        ("fraction.tif", fraction),
        ("whole.tif", BYTES.astype(np.float32)),
        ("deep.tif", np.rint(fraction * 65535)),
        ("integer.tif", BYTES.astype(np.int32)),
        ("deep integer.tif", np.rint(fraction * 65535).astype(np.int32)),
    ):
        Image.fromarray(values).save(tmp_path / name)
        assert np.abs(grey(tmp_path / name).astype(int) - BYTES).max() <= 1
        assert np.abs(grey(Image.fromarray(values)).astype(int) - BYTES).max() <= 1


@needs_pillow_13
def test_pfm_and_fits(tmp_path: Path) -> None:
    fraction = RAMP.astype(np.float32)
    (tmp_path / "grey.pfm").write_bytes(b"Pf\n64 3\n-1.0\n" + fraction[::-1].tobytes())
    assert (grey(tmp_path / "grey.pfm") == BYTES).all()
    assert (grey(fits(tmp_path / "a.fits", -32, fraction.astype(">f4"))) == BYTES).all()
    assert (grey(fits(tmp_path / "b.fits", 32, BYTES.astype(">i4"))) == BYTES).all()
    assert (grey(fits(tmp_path / "c.fits", 16, BYTES.astype(">i2"))) == BYTES).all()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.array([[-5, 70000]], np.int32), "go from -5 to 70000"),
        (np.array([[0.0, 1.5]], np.float32), "go from 0 to 1.5 and are no whole numbers"),
        (np.array([[0.0, 300.25]], np.float32), "go from 0 to 300.25 and are no whole numbers"),
        (np.array([[-0.5, 0.5]], np.float32), "go from -0.5 to 0.5"),
        (np.array([[0, 65536]], np.int32), "go from 0 to 65536"),
        (np.array([[0, np.nan]], np.float32), "are not numbers .NaN."),
        (np.array([[0, np.inf]], np.float32), "go from 0 to inf"),
    ],
)
def test_other_ranges_are_refused_by_name(
    tmp_path: Path, values: npt.NDArray[Any], says: str
) -> None:
    path = tmp_path / "odd.tif"
    Image.fromarray(values).save(path)
    for source in (values, Image.fromarray(values), path):
        with pytest.raises(ImageError, match=says) as caught:
            read_image(source)
        assert "scale them to 0 to 1" in str(caught.value)
    with pytest.raises(ImageError, match=r"odd\.tif: its values|odd\.tif: some of its"):
        read_image(path)


def test_negative_numbers_of_16_bits_are_refused(tmp_path: Path) -> None:
    values = np.array([[-3, 100]])
    sources: list[Any] = [values.astype(np.int16)]
    if PILLOW >= 13:
        sources.append(fits(tmp_path / "n.fits", 16, values.astype(">i2")))
    for source in sources:
        with pytest.raises(ImageError, match="go from -3 to 100"):
            read_image(source)


def test_a_palette_with_alpha_shows_the_background() -> None:
    clear = Image.new("RGBA", (8, 8), (200, 0, 0, 0)).quantize()
    assert read_image(clear).getpixel((0, 0)) == (255, 255, 255)
    assert read_image(clear, background=None).getpixel((0, 0)) == (200, 0, 0)


def tiff(path: Path, values: npt.NDArray[Any], photometric: int, sample_format: int) -> Path:
    """An uncompressed grey TIFF, little-endian, of one strip."""
    height, width = values.shape
    bits = values.dtype.itemsize * 8
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 0, 277: 1}
    tags |= {278: height, 279: values.nbytes, 339: sample_format}
    tags[273] = 8 + 2 + 12 * len(tags) + 4
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    path.write_bytes(head + values.astype(values.dtype.newbyteorder("<")).tobytes())
    return path


def test_signs_and_white_as_zero_in_tiff_are_heeded(tmp_path: Path) -> None:
    signed = tiff(tmp_path / "signed.tif", np.array([[-1, 5, 100]], np.int8), 1, 2)
    with pytest.raises(ImageError, match=r"signed\.tif: its values go from -1 to 100"):
        read_image(signed)
    whole = tiff(tmp_path / "whole.tif", np.array([[0, 5, 100]], np.int8), 1, 2)
    assert grey(whole).tolist() == [[0, 5, 100]]
    deep = np.array([[0, 257 * 55, 65535]], np.uint16)
    assert grey(tiff(tmp_path / "inverse.tif", deep, 0, 1)).tolist() == [[255, 200, 0]]
    assert grey(tiff(tmp_path / "plain.tif", deep, 1, 1)).tolist() == [[0, 55, 255]]
    large = tiff(tmp_path / "large.tif", np.array([[0, 2**31 + 7]], np.uint32), 1, 1)
    with pytest.raises(ImageError, match=r"go from 0 to 2\.14748e\+09"):
        read_image(large)
    fraction = tiff(tmp_path / "f.tif", np.array([[0, 1]], np.float32), 0, 3)
    with pytest.raises(ImageError, match=r"f\.tif: stores white as 0"):
        read_image(fraction)


@needs_pillow_13
def test_the_zero_of_fits_is_heeded_or_refused(tmp_path: Path) -> None:
    values = np.array([[0, 257 * 100, 65535]], np.uint16)
    path = fits(tmp_path / "z.fits", 16, (values.astype(np.int32) - 32768).astype(">i2"))
    plain = path.read_bytes()
    end = plain.index(b"END  ")
    for zero, scale in ((32768, 1), (100, 1), (0, 2)):
        cards = f"BZERO   = {zero:>20}".ljust(80) + f"BSCALE  = {scale:>20}".ljust(80)
        header = plain[:end] + cards.encode() + b"END".ljust(80)
        path.write_bytes(header.ljust(2880) + plain[2880:])
        if zero == 32768:
            assert grey(path).tolist() == [[0, 100, 255]]
        else:
            with pytest.raises(ImageError, match=rf"BZERO {zero}, BSCALE {scale}\)"):
                read_image(path)


@pytest.mark.skipif(PILLOW >= 13, reason="only of older Pillow")
@pytest.mark.parametrize("values", [np.ones((2, 2), ">i2"), np.ones((2, 2), ">f4")])
def test_fits_that_older_pillow_misreads_is_refused(
    tmp_path: Path, values: npt.NDArray[Any]
) -> None:
    bits = values.dtype.itemsize * (8 if values.dtype.kind == "i" else -8)
    with pytest.raises(ImageError, match="needs Pillow 13"):
        read_image(fits(tmp_path / "a.fits", bits, values))
