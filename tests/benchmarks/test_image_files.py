"""The layouts of image sets, and the true classes that they give."""

from __future__ import annotations

from pathlib import Path

import pytest

from negrefine.benchmarks import check, load_benchmark, load_set
from negrefine.benchmarks.image_files import FoundImages, find_set
from negrefine.errors import InputError


def fill(folder: Path, n: int, suffix: str = ".JPEG", stem: str = "image") -> None:
    """Make n empty files that look like images."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        (folder / f"{stem}_{i:05d}{suffix}").touch()


def test_openood_layout_takes_the_images_of_its_list(tmp_path: Path) -> None:
    fill(tmp_path / "images_largescale" / "imagenet_1k" / "val", 6, stem="ILSVRC2012_val")
    lists = tmp_path / "benchmark_imglist" / "imagenet"
    lists.mkdir(parents=True)
    lines = [
        f"imagenet_1k/val/ILSVRC2012_val_{i:05d}.JPEG {number}" for i, number in ((4, 9), (1, 7))
    ]
    (lists / "test_imagenet.txt").write_text("\n".join(lines) + "\n")
    found = find_set(load_set("imagenet-1k"), tmp_path)
    assert isinstance(found, FoundImages)
    assert [path.name for path in found.paths] == [
        "ILSVRC2012_val_00001.JPEG",
        "ILSVRC2012_val_00004.JPEG",
    ]
    assert found.labels == [7, 9]
    (finding,) = check(load_benchmark("imagenet-1k"), tmp_path)[:1]
    assert finding.expected == 45_000
    (lists / "test_imagenet.txt").write_text("a.JPEG 1000\n")
    with pytest.raises(InputError, match=r"test_imagenet.txt, line 1: .* below 1000"):
        check(load_benchmark("imagenet-1k"), tmp_path)


@pytest.mark.parametrize(
    ("name", "files", "labels"),
    [
        ("imagenet-v2", ["imagenet_v2/10/a.jpeg", "imagenet_v2/9/a.jpeg"], [10, 9]),
        ("imagenet-a", ["imagenet-a/n01498041/a.jpg", "imagenet-a/n99/b.jpg"], [0]),
        ("cub", ["CUB_200_2011/images/003.Sooty_Albatross/Sooty_Albatross_0001.jpg"], [2]),
        ("food-101", ["food-101/images/baklava/1.jpg", "food-101/images/x/1.jpg"], [2, -1]),
        ("pets", ["oxford_pet/images/german_shorthaired_12.jpg"], [14]),
        ("cars", ["cars/AM General Hummer SUV 2000/1.jpg", "cars/x/1.jpg"], [0, -1]),
        ("cars", ["cars/cars_test/00001.jpg"], None),
    ],
)
def test_true_classes_from_names(
    tmp_path: Path, name: str, files: list[str], labels: list[int] | None
) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    found = find_set(load_set(name), tmp_path)
    assert isinstance(found, FoundImages)
    assert found.labels == labels


def test_classes_of_waterbirds_come_from_the_metadata(tmp_path: Path) -> None:
    folder = tmp_path / "waterbird_complete95_forest2water2"
    for file in ("001.A/a.jpg", "001.A/b.jpg", "002.B/c.jpg"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    rows = ["img_id,img_filename,y,split", "1,001.A/a.jpg,0,0", "2,002.B/c.jpg,1,2"]
    (folder / "metadata.csv").write_text("\n".join(rows))
    found = find_set(load_set("waterbirds"), tmp_path)
    assert isinstance(found, FoundImages)
    assert found.labels == [0, -1, 1]
    assert found.groups == ["001.A", "001.A", "002.B"]


def test_links_and_hidden_files(tmp_path: Path) -> None:
    fill(tmp_path / "real", 3)
    (tmp_path / "real" / ".hidden.JPEG").touch()
    (tmp_path / "real" / "again").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "SUN").symlink_to(tmp_path / "real", target_is_directory=True)
    found = find_set(load_set("sun"), tmp_path)
    assert isinstance(found, FoundImages)
    assert len(found.paths) == 3
