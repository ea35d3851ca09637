"""Reading images: odd but good files give the right pixels, bad ones an error that names them."""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import ExifTags, Image, ImageFile

from negrefine.encoders.images import find_images, read_image
from negrefine.errors import ImageError, InputError

# 2 x 3 pixels, all different, so that every turn shows.
CORNERS = np.array(
    [[[255, 0, 0], [0, 255, 0], [9, 9, 9]], [[0, 0, 255], [255, 255, 255], [90, 60, 30]]],
    dtype=np.uint8,
)


def pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    assert image.mode == "RGB"
    return np.asarray(image)


def png_by_hand(path: Path, width: int, height: int, rows: int) -> Path:
    """A 1-bit PNG whose header says width x height and whose data holds `rows` black rows."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    data = zlib.compress(bytes((width // 8 + 1) * rows))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
    return path


def noise_jpeg(size: int = 64) -> bytes:
    array = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["grün bild 🦊.png", "a b.jpg", "UPPER.PNG"])
def test_file_names_with_spaces_and_any_script(tmp_path: Path, name: str) -> None:
    Image.new("RGB", (4, 3), (10, 20, 30)).save(tmp_path / name)
    for source in (tmp_path / name, str(tmp_path / name)):
        image = read_image(source)
        assert image.size == (4, 3)
        assert np.abs(pixels(image).astype(int) - (10, 20, 30)).max() <= 3
    assert find_images([tmp_path]) == [tmp_path / name]


def test_memory_images_and_arrays_are_taken_as_they_are() -> None:
    given = Image.fromarray(CORNERS)
    read = read_image(given)
    assert (pixels(read) == CORNERS).all()
    read.putpixel((0, 0), (1, 2, 3))
    assert given.getpixel((0, 0)) == (255, 0, 0)
    assert (pixels(read_image(CORNERS)) == CORNERS).all()
    flipped = CORNERS[:, ::-1]
    assert (pixels(read_image(flipped)) == flipped).all()
    assert (pixels(read_image(CORNERS[:, :, 0])) == CORNERS[:, :, :1]).all()


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 8, 9), np.uint8),
        np.zeros((4, 4, 2), np.float32),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4), np.complex64),
        np.zeros((4, 4), object),
    ],
)
def test_other_arrays_are_refused_with_dtype_and_shape(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match=r"put the colours last|not numbers") as caught:
        read_image(array)
    assert str(array.dtype) in str(caught.value)
    assert str(array.shape) in str(caught.value)


def test_other_types_are_refused() -> None:
    with pytest.raises(ImageError, match="not int; convert it first"):
        read_image(7)  # type: ignore[arg-type]


def cut_jpeg(path: Path) -> None:
    data = noise_jpeg()
    path.write_bytes(data[: len(data) // 2])


def cut_png(path: Path) -> None:
    Image.fromarray(CORNERS.repeat(30, 0).repeat(30, 1)).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:90])


def broken_checksum(path: Path) -> None:
    Image.fromarray(CORNERS).save(path, "PNG")
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(bytes(data))


def broken_webp(path: Path) -> None:
    Image.fromarray(CORNERS).save(path, "WEBP", lossless=True)
    path.write_bytes(path.read_bytes()[:30])


def cut_gif(path: Path) -> None:
    Image.effect_noise((80, 80), 90).save(path, "GIF")
    path.write_bytes(path.read_bytes()[:2000])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.with_suffix(".x").touch(), "there is no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "0 bytes"),
        (lambda path: path.write_text("no image at all, just words"), "not an image"),
        (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n"), "not an image"),
        (lambda path: path.write_bytes(b"\xff\xd8\xff"), "damaged|not an image"),
        (cut_jpeg, "damaged, cut short"),
        (cut_png, "damaged, cut short"),
        (broken_checksum, "damaged, cut short"),
        (broken_webp, "damaged, cut short|not an image"),
        (cut_gif, "damaged, cut short"),
        (lambda path: png_by_hand(path, 30_000, 30_000, rows=1), "30,000 x 30,000 pixels"),
    ],
)
def test_bad_files_give_one_sentence_that_names_them(
    tmp_path: Path, make: Callable[[Path], object], says: str
) -> None:
    path = tmp_path / "the file.png"
    make(path)
    with pytest.raises(ImageError, match=says) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert message.endswith(".")
    assert "\n" not in message


def test_the_pixel_limit_is_twice_pillows_and_none_means_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = png_by_hand(tmp_path / "bomb.png", 30_000, 30_000, rows=1)
    with pytest.raises(ImageError, match="limit of 178,956,970;"):
        read_image(path)
    small = tmp_path / "small.png"
    Image.new("RGB", (20, 10)).save(small)
    tiff = tmp_path / "small.tif"
    Image.new("RGB", (20, 10)).save(tiff)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    for file in (small, tiff):
        with pytest.raises(ImageError, match="20 x 10 pixels are more than Pillow's limit of 198;"):
            read_image(file)
    for limit in (100, 199, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for file in (small, tiff):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert read_image(file).size == (20, 10)


def test_any_exception_of_a_plugin_becomes_an_image_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (2, 2)).save(path)
    for error in (struct.error("unpack"), EOFError(), ValueError("bad\nvalue"), MemoryError()):

        def fail(self: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
        with pytest.raises(ImageError, match=r"a\.png: the image is damaged") as caught:
            read_image(path)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="this user can read every file"
)
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "secret.png"
    Image.new("RGB", (2, 2)).save(path)
    path.chmod(0)
    with pytest.raises(ImageError, match=r"secret\.png: permission denied"):
        read_image(path)


def test_denied_permission_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret.png"
    path.touch()

    def deny(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", deny)
    with pytest.raises(ImageError, match=r"secret\.png: permission denied; make the file readable"):
        read_image(path)


def test_names_that_no_file_can_have() -> None:
    for name in ("a\0b.png", "x" * 5000):
        with pytest.raises(ImageError, match="check the path"):
            read_image(name)


def test_cmyk_jpeg_is_converted_as_pillow_does(tmp_path: Path) -> None:
    path = tmp_path / "cmyk.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path, quality=95)
    with Image.open(path) as image:
        assert image.mode == "CMYK"
        expected = np.asarray(image.convert("RGB"))
    assert (pixels(read_image(path)) == expected).all()
    assert expected[8, 8, 0] > 200
    assert expected[8, 8, 1] < 50


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"deep.{ending}"
    values = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(path)
    with Image.open(path) as image:
        assert image.mode.startswith("I")
    assert pixels(read_image(path))[0].tolist() == [[v] * 3 for v in (0, 0, 1, 1, 128, 255)]


def test_every_16_bit_value_is_rounded_to_the_nearest() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.rint(values / 257)
    assert (pixels(read_image(Image.fromarray(values)))[..., 0] == expected).all()


def half_clear(mode: str) -> Image.Image:
    """Left pixel opaque, right pixel fully transparent; a colour lies under both."""
    rgba = np.array([[[200, 100, 50, 255], [10, 20, 30, 0]]], dtype=np.uint8)
    image = Image.fromarray(rgba)
    if mode in ("RGBA", "LA", "RGBa", "La"):
        return image.convert(mode) if mode != "La" else image.convert("LA").convert("La")
    if mode == "RGB tRNS":
        image = image.convert("RGB")
        image.info["transparency"] = (10, 20, 30)
        return image
    if mode == "L tRNS":
        image = Image.fromarray(np.array([[200, 20]], dtype=np.uint8))
        image.info["transparency"] = 20
        return image
    palette = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    palette.putpalette([200, 100, 50, 10, 20, 30])
    if mode == "PA":
        return palette.convert("PA")
    palette.info["transparency"] = b"\xff\x00" if mode == "P bytes" else 1
    return palette


CLEAR = ["RGBA", "LA", "RGB tRNS", "L tRNS", "P bytes", "P index"]


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("mode", CLEAR)
def test_alpha_is_ignored_or_laid_on_a_colour(tmp_path: Path, mode: str, in_file: bool) -> None:
    source: Image.Image | Path = half_clear(mode)
    if in_file:
        path = tmp_path / "clear.png"
        half_clear(mode).save(path, transparency=half_clear(mode).info.get("transparency"))
        source = path
    image = half_clear(mode)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = np.asarray(image.convert("RGB"))
    assert pixels(read_image(source, background=None)).tolist() == expected.tolist()
    for white in (read_image(source), read_image(source, background=(255, 255, 255))):
        assert pixels(white).tolist() == [[expected[0, 0].tolist(), [255, 255, 255]]]
    blue = pixels(read_image(source, background=(0, 0, 255)))
    assert blue[0, 0].tolist() == expected[0, 0].tolist()
    assert blue[0, 1].tolist() == [0, 0, 255]


def test_half_transparent_pixels_are_mixed() -> None:
    image = Image.new("RGBA", (1, 1), (200, 0, 0, 51))
    assert pixels(read_image(image, background=(255, 255, 255)))[0, 0].tolist() == [244, 204, 204]


@pytest.mark.parametrize("mode", ["RGBa", "La", "PA"])
def test_rare_alpha_modes_in_memory(mode: str) -> None:
    image = half_clear(mode)
    assert image.mode == mode
    assert read_image(image).size == (2, 1)
    white = pixels(read_image(image, background=(255, 255, 255)))
    assert white[0, 1].tolist() == ([255] * 3 if mode != "PA" else [10, 20, 30])


@pytest.mark.parametrize("ending", ["gif", "webp", "tif", "ico"])
def test_transparent_files_of_other_formats_are_white_below(tmp_path: Path, ending: str) -> None:
    image = Image.new("RGBA", (16, 16), (200, 100, 50, 255))
    image.paste((10, 20, 30, 0), (0, 0, 16, 8))
    path = tmp_path / f"clear.{ending}"
    image.save(path, **({"lossless": True, "exact": True} if ending == "webp" else {}))
    read = pixels(read_image(path))
    assert read[2, 2].tolist() == [255, 255, 255]
    assert np.abs(read[13, 13].astype(int) - (200, 100, 50)).max() <= 3


@pytest.mark.parametrize(
    ("bits", "colour", "row", "key", "opaque"),
    [
        (1, 0, b"\x40", b"\x00\x01", 0),
        (2, 0, b"\x90", b"\x00\x01", 170),
        (4, 0, b"\xa5", b"\x00\x05", 170),
        (8, 0, b"\xaa\x05", b"\x00\x05", 170),
        (16, 0, b"\xaa\xaa\x12\x34", b"\x12\x34", 170),
        (8, 2, b"\xaa\xaa\xaa\x01\x02\x03", b"\x00\x01\x00\x02\x00\x03", 170),
        (16, 2, b"\xaa\xaa" * 3 + b"\x12\x34" * 3, b"\x12\x34" * 3, 170),
    ],
)
def test_the_transparent_colour_of_a_png_of_any_depth(
    tmp_path: Path, bits: int, colour: int, row: bytes, key: bytes, opaque: int
) -> None:
    path = tmp_path / "key.png"
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 2, 1, bits, colour, 0, 0, 0)),
        *((b"tRNS", key), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")),
    ]
    data = (
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(data))
    assert pixels(read_image(path))[0].tolist() == [[opaque] * 3, [255] * 3]
    with Image.open(path) as opened:
        assert pixels(read_image(opened, background=(0, 9, 0)))[0, 1].tolist() == [0, 9, 0]
    assert (pixels(read_image(path, background=None))[0, 1] < 255).all() or bits == 1


@pytest.mark.parametrize(
    "background", ["white", (1, 2), (1, 2, 256), (0.5, 0, 0), (1.0, 1.0, 1.0), 7, (-1, 0, 0)]
)
def test_what_is_not_a_colour_is_refused(background: Any) -> None:
    with pytest.raises(InputError, match=r"background must be \(red, green, blue\)"):
        read_image(CORNERS, background=background)


def test_opaque_images_do_not_care_about_the_background(tmp_path: Path) -> None:
    assert (pixels(read_image(CORNERS, background=(1, 2, 3))) == CORNERS).all()
    one_bit = tmp_path / "bits.png"
    Image.fromarray(np.array([[True, False]])).save(one_bit)
    for background in (None, (1, 2, 3)):
        read = pixels(read_image(one_bit, background=background))
        assert read.tolist() == [[[255] * 3, [0] * 3]]


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_first_frame_of_an_animation(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"moving.{ending}"
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(path, save_all=True, append_images=frames[1:], lossless=True)
    with Image.open(path) as image:
        assert getattr(image, "n_frames", 1) == 3
    assert (pixels(read_image(path)) == (255, 0, 0)).all()


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, 1),
    9: lambda a: a,
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("ending", ["png", "webp"])
def test_exif_orientation(tmp_path: Path, orientation: int, ending: str) -> None:
    path = tmp_path / f"turned.{ending}"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(CORNERS).save(path, exif=exif, lossless=True)
    upright = read_image(path)
    assert pixels(upright).tolist() == UPRIGHT[orientation](CORNERS).tolist()
    assert (pixels(read_image(path, exif_orientation=False)) == CORNERS).all()
    assert read_image(upright).size == upright.size


def test_exif_orientation_of_a_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "phone.jpg"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (40, 20), "red").save(path, exif=exif)
    assert read_image(path).size == (20, 40)
    assert read_image(path, exif_orientation=False).size == (40, 20)
    with Image.open(path) as opened:
        assert read_image(opened).size == (20, 40)


def test_metadata_that_cannot_be_parsed_does_not_cost_the_image(tmp_path: Path) -> None:
    path = tmp_path / "odd.png"
    Image.fromarray(CORNERS).save(path, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    with pytest.warns(UserWarning, match=r"odd\.png: Pillow warns: Corrupt EXIF data\."):
        assert (pixels(read_image(path)) == CORNERS).all()


def test_folders_are_searched_sorted_without_hidden_or_other_files(tmp_path: Path) -> None:
    kept = ["a/2.png", "a/b/1.JPG", "a.b/3.webp", "z.gif"]
    others = [".hidden.png", ".git/x.png", "a/notes.txt", "a/data.h5", "film.mpg", "a/plain"]
    for name in kept + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.warns(UserWarning, match=r"^4 other files were left out \(1 h5, 1 mpg, 1 txt, 1 w"):
        assert find_images([tmp_path]) == [tmp_path / name for name in kept]
    (tmp_path / "a" / "plain").unlink()
    for name in ("a/notes.txt", "a/data.h5", "film.mpg"):
        (tmp_path / name).unlink()
    assert find_images(str(tmp_path)) == find_images([tmp_path])


def test_arguments_keep_their_order_and_duplicates_their_first_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b/2.png", "b/1.png", "a/3.png", "list.txt", "a/x[1].png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    found = find_images(["list.txt", "b", tmp_path / "b" / "1.png", "./a/3.png", "a", "**/*.png"])
    names = ["list.txt", "b/1.png", "b/2.png", "a/3.png", "a/x[1].png"]
    assert found == [Path(name) for name in names]
    assert find_images(["a/x[1].png"]) == [Path("a/x[1].png")]


def test_patterns(tmp_path: Path) -> None:
    for name in ("cats/1.png", "cats/deep/2.jpg", "cats/readme.txt", "dogs/3.png", ".h/4.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def names(pattern: str) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in find_images([tmp_path / pattern])]

    assert names("*/*.png") == ["cats/1.png", "dogs/3.png"]
    for pattern in ("**/*.*", "[cd]*s"):
        with pytest.warns(UserWarning, match=r"^1 other file was left out \(1 txt\)\.$"):
            assert names(pattern) == ["cats/1.png", "cats/deep/2.jpg", "dogs/3.png"]
    assert names("[d]*s") == ["dogs/3.png"]
    assert names("dogs/?.png") == ["dogs/3.png"]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "1.png").touch()
    root = tmp_path / "root"
    root.mkdir()
    try:
        (root / "link").symlink_to(tmp_path / "real", target_is_directory=True)
        (root / "loop").symlink_to(root, target_is_directory=True)
    except OSError:
        pytest.skip("links cannot be made here")
    assert find_images([root]) == [root / "link" / "1.png"]
    (root / "gone.png").symlink_to(tmp_path / "nothing.png")
    with pytest.raises(
        InputError, match=r"gone\.png: is a link to a missing file; repair or remove it"
    ):
        find_images([root / "gone.png"])


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none.png", "there is no such file or folder"),
        ("empty", "the folder holds no image"),
        ("*.png", "the pattern matches no image"),
        ("empty/*", "the pattern matches no image"),
    ],
)
def test_nothing_found_is_an_error_that_names_the_argument(
    tmp_path: Path, name: str, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "words.txt").touch()
    with pytest.raises(InputError, match=says) as caught:
        find_images([tmp_path / name])
    assert str(caught.value).startswith(str(tmp_path / name))


def test_no_argument_is_an_error() -> None:
    with pytest.raises(InputError, match="No image is named"):
        find_images([])


def test_the_home_folder_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    Image.fromarray(CORNERS).save(tmp_path / "x.png")
    assert (pixels(read_image("~/x.png")) == CORNERS).all()
    assert (pixels(read_image(Path("~/x.png"))) == CORNERS).all()


def test_warnings_of_pillow_name_their_file_in_threads_too(tmp_path: Path) -> None:
    names = [tmp_path / f"{i}.png" for i in range(20)]
    for i, name in enumerate(names):
        exif = b"Exif\x00\x00MM\x00*\xff\xff\xff\xff" if i % 2 else b""
        Image.fromarray(CORNERS).save(name, exif=exif)
    before = warnings.showwarning, list(warnings.filters)
    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(8) as pool:
        warnings.simplefilter("always")
        list(pool.map(read_image, names))
    assert sorted(str(w.message).partition(":")[0] for w in caught) == sorted(map(str, names[1::2]))
    assert (warnings.showwarning, list(warnings.filters)) == before
