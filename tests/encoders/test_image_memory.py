"""Memory: no image costs more than the limit, alone or beside others, and refusals say how much."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from negrefine.encoders.images import read_image
from negrefine.errors import ImageError, InputError

SIDE = 6_500
_GREY, _RGB, _PALETTE, _LA, _RGBA = 0, 2, 3, 4, 6

# Peak memory is measured from the start of the reading: the interpreter's is not counted.
_MEASURE = """
import resource, sys
from negrefine.encoders import load_encoder
encoder = load_encoder("builtin")
encoder.encode_images(["{small}"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
errors = [e for batch in encoder.iter_encoded_images(sys.argv[1:]) for e in batch.errors]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
print(*errors, sep="\\n")
"""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def black_png(path: Path, side: int, bits: int, colour: int, extra: bytes = b"") -> Path:
    """A square PNG of zeros, less than a megabyte whatever its side."""
    channels = {_GREY: 1, _RGB: 3, _PALETTE: 1, _LA: 2, _RGBA: 4}[colour]
    row = bytes(side * channels * bits // 8 + 1)
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is in other units elsewhere")
def test_a_folder_of_bombs_costs_no_more_than_the_limit(tmp_path: Path) -> None:
    bombs = [
        black_png(tmp_path / "deep.png", SIDE, 16, _GREY),
        black_png(tmp_path / "deep again.png", SIDE, 16, _GREY),
        black_png(tmp_path / "rgb.png", SIDE, 8, _RGB),
        black_png(tmp_path / "rgba.png", SIDE, 8, _RGBA),
        black_png(tmp_path / "la.png", SIDE, 8, _LA),
        black_png(tmp_path / "deep la.png", SIDE, 16, _LA),
    ]
    small = tmp_path / "small.png"
    Image.new("RGB", (8, 8)).save(small)
    # A child starts with the peak of the process that it is forked from, so a small one is between.
    run = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', *sys.argv[1:]]))"
    command = [sys.executable, "-c", run, _MEASURE.replace("{small}", str(small)), *map(str, bombs)]
    environment = {**os.environ, "NEGREFINE_IMAGE_GB": "0.25"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    kilobytes, *errors = done.stdout.splitlines()
    assert int(kilobytes) < 280_000
    assert errors[:3] == ["None"] * 3
    for name, error in zip(("rgba", "la", "deep la"), errors[3:], strict=True):
        assert f"{name}.png: 6,500 x 6,500 pixels" in error
        assert "takes about 0.34 GB of memory to decode, more than the limit of 0.25 GB" in error
        assert error.endswith("the environment variable NEGREFINE_IMAGE_GB=0.4 if you trust it.")


def save(path: Path, mode: str, **options: object) -> Path:
    Image.new(mode, (300, 200)).save(path, **options)
    return path


def test_what_decoders_hold_beside_the_image_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    pixels = 300 * 200
    # Bytes a pixel, as measured with images of some hundred megabytes.
    cases = [
        (save(tmp_path / "rgb.jpg", "RGB"), 4),
        (save(tmp_path / "turned.jpg", "RGB", exif=exif), 8),
        (save(tmp_path / "progressive.jpg", "RGB", progressive=True, subsampling=0), 10),
        (save(tmp_path / "cmyk.jpg", "CMYK"), 8),
        (save(tmp_path / "whole.jp2", "RGB"), 22),
        (save(tmp_path / "lossless.webp", "RGB", lossless=True), 17),
        (save(tmp_path / "rgb.avif", "RGB"), 20),
        (save(tmp_path / "grey.png", "L"), 5),
        (save(tmp_path / "wide.tif", "F"), 5),
        (save(tmp_path / "rgba.png", "RGBA"), 8),
        (save(tmp_path / "rgb.qoi", "RGB"), 10),
    ]
    if os.name == "nt" or not Image.core.__dict__.get("AvifDecoder", True):
        cases = [case for case in cases if case[0].suffix != ".avif"]
    for path, each in cases:
        needed = each * pixels / 1e9
        monkeypatch.setenv("NEGREFINE_IMAGE_GB", str(needed * 0.98))
        with pytest.raises(ImageError, match=r"300 x 200 pixels \(.*GB of memory to decode"):
            read_image(path)
        monkeypatch.setenv("NEGREFINE_IMAGE_GB", str(needed * 1.1))
        assert read_image(path).size in {(300, 200), (200, 300)}


def test_a_tile_of_jpeg_2000_or_tiff_counts_with_its_own_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiled = save(tmp_path / "tiled.jp2", "RGB", tile_size=(32, 32))
    monkeypatch.setenv("NEGREFINE_IMAGE_GB", str(5 * 300 * 200 / 1e9))
    assert read_image(tiled).size == (300, 200)
    huge = save(tmp_path / "tile.tif", "L", compression="tiff_adobe_deflate")
    content = bytearray(huge.read_bytes())
    # The number of rows in a strip becomes the width of a tile; the entries are of the types 3, 4.
    entry = next(i for i in range(len(content)) if content[i : i + 2] == struct.pack("<H", 278))
    content[entry : entry + 12] = struct.pack("<HHII", 322, 4, 1, 2_000_000_000)
    huge.write_bytes(content)
    with pytest.raises(ImageError, match=r"tile\.tif: .*GB of memory to decode|damaged|not an im"):
        read_image(huge)


def test_large_files_that_would_be_read_whole_are_refused_by_their_size(
    tmp_path: Path,
) -> None:
    path = tmp_path / "sparse.webp"
    with path.open("wb") as stream:
        stream.write(b"RIFF\xf0\xff\xff\xffWEBPVP8 ")
        stream.truncate(2 * 10**9)
    with pytest.raises(ImageError, match=r"sparse\.webp: a WEBP file of 2,000,000,000 bytes takes"):
        read_image(path)


def test_arrays_and_decoded_images_of_the_caller_are_never_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NEGREFINE_IMAGE_GB", "0.000001")
    array = np.full((90, 80, 4), 255, np.uint8)
    for source in (array, array / 255, Image.fromarray(array)):
        assert read_image(source).getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("given", ["a lot", "0", "-1", "nan"])
def test_a_limit_that_is_no_number_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEGREFINE_IMAGE_GB", given)
    with pytest.raises(InputError, match=r"^\$NEGREFINE_IMAGE_GB is .*: make it a number of gig"):
        read_image(np.zeros((2, 2), np.uint8))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16", "I", "F", "CMYK", "L", "1", "PA"])
def test_strips_change_no_pixel(mode: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (50, 37, 4), dtype=np.uint8))
    image = Image.fromarray(rng.integers(0, 65536, (50, 37)).astype(np.uint16))
    if mode in {"I", "F"}:
        image = Image.fromarray(np.asarray(image).astype({"I": np.int32, "F": np.float32}[mode]))
    elif mode != "I;16":
        image = noise.convert("RGB").convert(mode) if mode in {"CMYK", "P", "PA"} else noise
        image = image if image.mode == mode else image.convert(mode)
    if mode in {"P", "I;16"}:
        image.info["transparency"] = 7
    whole = read_image(image)
    monkeypatch.setattr("negrefine.encoders.pixels._STRIP_VALUES", 100)
    assert read_image(image).tobytes() == whole.tobytes()
