"""Which files are taken as images, which are left out, and that nothing is opened that waits."""

from __future__ import annotations

import io
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from negrefine import MCM
from negrefine.encoders import CLIPEncoder, find_images, read_image
from negrefine.encoders.batches import iter_encoded_images
from negrefine.encoders.image_sources import check_is_list
from negrefine.errors import ImageError, InputError
from negrefine.evaluation.images import find_image_set

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 3), (10, 20, 30)).save(buffer, kind)
    return buffer.getvalue()


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def test_images_are_known_by_their_content_where_the_extension_says_nothing(tmp_path: Path) -> None:
    kept = {
        "1.png_original": picture("PNG"),
        "2.jpg_large": picture("JPEG"),
        "3.jpeg.1": picture("JPEG"),
        "4f0c9a77": picture("WEBP"),
        "5.bak": picture("BMP"),
        "6.heic": picture("JPEG"),
        "7.txt": picture("GIF"),
        "8": picture("TIFF"),
    }
    fill(tmp_path, kept | {".DS_Store": b"x", "Thumbs.db": b"x", "desktop.ini": b"x"})
    found = find_images(tmp_path)
    assert [file.name for file in found] == list(kept)
    assert find_images(tmp_path / "*") == found
    assert {read_image(file).size for file in found} == {(4, 3)}


def test_one_warning_counts_what_is_left_out(tmp_path: Path) -> None:
    others = {"a.HEIC": HEIC, "b": HEIC, "DSC1.dng": picture("TIFF"), "plain": b"", "BMW": b"BMWs"}
    fill(tmp_path, {"x/1.png": b"", "y/2.png": b"", "y/c.json": b"{}"})
    fill(tmp_path / "x", others)
    says = (
        r"^6 other files were left out \(2 HEIC, 2 without extension, 1 dng, 1 json; pip install "
        r"'negrefine\[heif\]' to read HEIC\)\.$"
    )
    with pytest.warns(UserWarning, match=says) as caught:
        found = find_images([tmp_path / "x", tmp_path / "*", tmp_path])
    assert len(caught) == 1
    assert found == [tmp_path / "x" / "1.png", tmp_path / "y" / "2.png"]
    (tmp_path / "x" / "1.png").unlink()
    with pytest.raises(InputError, match=r"holds no image, only 5 other files \(2 HEIC, 2 with"):
        find_images(tmp_path / "x")
    with pytest.raises(InputError, match=r"matches no image, only 1 other file \(1 json\)"):
        find_images(tmp_path / "y" / "*.json")


def test_heic_and_raw_files_that_are_named_say_what_they_are(tmp_path: Path) -> None:
    fill(tmp_path, {"a.jpg": HEIC, "b.nef": picture("TIFF")})
    with pytest.raises(ImageError, match=r"a\.jpg: is HEIC.*pip install 'negrefine\[heif\]'"):
        read_image(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match=r"b\.nef: is a raw file of a camera"):
        read_image(tmp_path / "b.nef")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_pipes_sockets_devices_and_dead_links_cost_one_row_each(
    tmp_path: Path, builtin_encoder: CLIPEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("cam.jpg")
    os.mkfifo("pipe")
    os.mkfifo("another pipe")
    server = socket.socket(socket.AF_UNIX)
    server.bind("sock.png")
    Path("link.png").symlink_to("cam.jpg")
    Path("zero.png").symlink_to("/dev/zero")
    Path("tty.png").symlink_to("/dev/full")
    Path("kernel.png").symlink_to("/proc/self/mem")
    Path("dead.png").symlink_to("nothing.png")
    fill(tmp_path, {"good.png": picture("PNG")})
    with pytest.warns(UserWarning, match=r"^2 other files were left out \(2 named pipes\)\.$"):
        found = find_images(["*", "/dev/zero"])
    server.close()
    errors = [e for batch in iter_encoded_images(builtin_encoder, found) for e in batch.errors]
    says = {file.name: str(error) for file, error in zip(found, errors, strict=True)}
    assert says.pop("good.png") == "None"
    assert "link to a missing file" in says.pop("dead.png")
    assert sorted(says) == [
        *("cam.jpg", "kernel.png", "link.png", "sock.png", "tty.png", "zero", "zero.png")
    ]
    assert all(", not a regular file" in error for error in says.values())


def test_groups_and_labels_of_patterns_files_and_several_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["val/cat/1.png", "val/dog/deep/2.png", "val/3.png", "IMG [1].jpg"]
    fill(tmp_path, dict.fromkeys(names, b""))
    monkeypatch.chdir(tmp_path)

    def groups(*roots: str) -> list[str] | None:
        return find_image_set("ID", list(roots)).groups

    assert groups("val") == ["", "cat", "dog"]
    assert groups("val/*/*.png", "val/*/*/*.png") == ["cat", "dog"]
    assert groups("val/cat/*.png") == groups("val/cat/1.png") == ["cat"]
    assert groups("val/c*") == ["cat"]
    assert groups("IMG [1].jpg") == [tmp_path.name]
    assert find_image_set("ID", "./val/").groups == ["", "cat", "dog"]
    assert find_image_set("ID", "val/**/*.png", ["dog", "cat"]).labels == [-1, 1, 0]


def test_home_folder_and_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, {"a.png": b""})
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert find_images("~/*.png") == [tmp_path / "a.png"]
    with pytest.raises(InputError, match="~nosuchuser/x: there is no such file"):
        find_images("~nosuchuser/x")
    urls = ["http://a.b/c.png", "https://a/?x=[1]", "s3://b/c", "gs://b/c", "file:///c.png"]
    for url in [*urls, "data:image/png;base64," + "A" * 9999]:
        for read in (find_images, read_image):
            with pytest.raises(InputError, match="URLs are not fetched; download") as caught:
                read(url)
            assert len(str(caught.value)) < 300


def test_bytes_and_streams_are_images(tmp_path: Path) -> None:
    data = picture("PNG")
    fill(tmp_path, {"a.png": data})
    stream = io.BytesIO(data)
    stream.seek(9)
    with (tmp_path / "a.png").open("rb") as opened, (tmp_path / "a.png").open() as text:
        for source in (data, bytearray(data), memoryview(data), stream, stream, opened, opened):
            assert read_image(source).getpixel((0, 0)) == (10, 20, 30)
        assert not opened.closed
        with pytest.raises(ImageError, match="binary mode"):
            read_image(text)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="the image given: the file is empty"):
        read_image(b"")


def test_the_name_of_a_stream_opens_no_file(tmp_path: Path) -> None:
    other = tmp_path / "other.bin"
    other.write_bytes(bytes([200]) * 5000)
    stream = io.BytesIO(b"P5 64 64 255\n" + bytes(64 * 64))
    stream.name = str(other)
    assert read_image(stream).getextrema() == ((0, 0),) * 3


def test_sequences_of_images_score_as_lists_do(
    builtin_encoder: CLIPEncoder, demo_pictures: list[Path]
) -> None:
    paths = demo_pictures[:3]
    detector = MCM(builtin_encoder).fit(["cat", "dog"])
    expected = detector.score_samples(paths)
    sequences = [
        np.array([str(path) for path in paths]),
        np.array(paths, dtype=object),
        tuple(paths),
        (path for path in paths),
        [path.read_bytes() for path in paths],
    ]
    for images in sequences:
        assert detector.score_samples(images).tolist() == expected.tolist()  # type: ignore[arg-type]
    assert len(builtin_encoder.encode_images(path for path in paths)) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ({"a.png"}, "no order"),
        ({"a.png": 1}, "not a dict"),
        (np.array("a.png"), r"not an array of shape \(\): pass its ravel"),
        (np.array([["a.png"]]), r"not an array of shape \(1, 1\): pass its ravel"),
        (b"\x89PNG", "not one bytes"),
        (io.BytesIO(), "not one BytesIO"),
        (None, "not a NoneType"),
        ([np.zeros((2, 2), np.uint8), None], r"images\[1\] must be a path.*not None"),
        ([torch.zeros(3, 2, 2)], r"images\[0\] must not be a torch tensor: pass a uint8 array"),
        (torch.zeros(1, 3, 2, 2), "must not be a torch tensor"),
    ],
)
def test_what_is_no_list_of_images_is_refused(
    builtin_encoder: CLIPEncoder, images: object, says: str
) -> None:
    with pytest.raises(InputError, match=says):
        MCM(builtin_encoder).fit(["cat", "dog"]).score_samples(images)  # type: ignore[arg-type]


def test_folders_and_patterns_in_place_of_a_list_are_told(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    for several in (tmp_path, str(tmp_path / "*.png")):
        with pytest.raises(InputError, match=r"is a folder or pattern: \S*find_images gives"):
            check_is_list(several)
    with pytest.raises(InputError, match="not one str: wrap it in"):
        check_is_list(str(tmp_path / "a.png"))
    with pytest.raises(InputError, match=r"not an array of shape \(1, 1\): pass its ravel"):
        check_is_list(np.array([["a.png"]]))
    with pytest.raises(ImageError, match="no such file, and patterns need find_images"):
        read_image(tmp_path / "*.png")
