"""Suites whose images a list chooses, and those with further in-distribution sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from negrefine.benchmarks import class_list, load_benchmark, load_set, locate
from negrefine.benchmarks.data_check import check
from negrefine.benchmarks.image_files import FoundImages, find_set
from negrefine.errors import InputError

LISTS = Path("benchmark_imglist/imagenet")
LARGE = Path("images_largescale")


def place(root: Path, lists: dict[str, list[str]], files: list[str]) -> None:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (root / LISTS).mkdir(parents=True, exist_ok=True)
    for name, lines in lists.items():
        (root / LISTS / name).write_text("".join(f"{line}\n" for line in lines))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The full-spectrum far suite in OpenOOD's folders, with a few empty files."""
    lists = {
        "test_imagenet.txt": ["imagenet_1k/val/a.JPEG 7", "imagenet_1k/val/b.JPEG 9"],
        # The same file name at two severities, as in the data set.
        "test_imagenet_c.txt": ["imagenet_c/fog/1/n01440764/x.JPEG 0", "fog/2/n01440764/x.JPEG 1"],
        "test_textures.txt": ["texture/dotted/dotted_1.jpg -1", "texture/grid/grid_1.jpg -1", ""],
        "test_openimage_o.txt": ["openimage_o/images/o.jpg -1"],
    }
    large = [
        *("imagenet_1k/val/a.JPEG", "imagenet_1k/val/b.JPEG", "imagenet_1k/val/not-listed.JPEG"),
        *("imagenet_c/fog/1/n01440764/x.JPEG", "imagenet_c/fog/2/n01440764/x.JPEG"),
        *("imagenet_c/fog/3/n01440764/x.JPEG", "imagenet_v2/0/v.jpeg", "imagenet_v2/999/v.jpeg"),
        *("imagenet_r/n01443537/r.jpg", "openimage_o/images/o.jpg", "openimage_o/images/p.jpg"),
        "inaturalist/images/i.jpg",
    ]
    small = [f"images_classic/texture/{n}.jpg" for n in ("dotted/dotted_1", "grid/grid_2")]
    place(tmp_path, lists, [*(str(LARGE / file) for file in large), *small])
    return tmp_path


def test_further_in_distribution_sets_are_joined_with_classes_of_the_first(root: Path) -> None:
    benchmark = load_benchmark("openood-fs-far")
    inside, outside = locate(benchmark, root)
    names = class_list("imagenet-1k")
    found = {
        (group, path.name): names[label]
        for group, path, label in zip(
            inside.groups or [], inside.paths, inside.labels or [], strict=True
        )
        if path.name not in {"x.JPEG", "v.jpeg"}
    }
    assert found == {
        ("ImageNet-1K (OpenOOD)", "a.JPEG"): names[7],
        ("ImageNet-1K (OpenOOD)", "b.JPEG"): names[9],
        # The first class of ImageNet-R is the second of ImageNet-1K.
        ("ImageNet-R", "r.jpg"): "goldfish",
    }
    numbers = {
        str(path.relative_to(root / LARGE)): label
        for path, label in zip(inside.paths, inside.labels or [], strict=True)
    }
    assert numbers["imagenet_c/fog/1/n01440764/x.JPEG"] == 0
    assert numbers["imagenet_c/fog/2/n01440764/x.JPEG"] == 1
    assert numbers["imagenet_v2/999/v.jpeg"] == 999
    assert len(numbers) == 7
    assert [[path.name for path in each.paths] for each in outside] == [
        ["i.jpg"],
        ["dotted_1.jpg"],
        ["o.jpg"],
    ]


def test_a_list_says_how_many_images_there_should_be(root: Path) -> None:
    findings = {f.set_name: f for f in check(load_benchmark("openood-fs-far"), root)}
    assert findings["imagenet-c"].ok
    textures = findings["textures-openood"]
    assert (textures.status, textures.found, textures.expected) == ("incomplete", 1, 2)
    assert "has 1 images instead of 2" in textures.problem
    # Without its list nobody knows which of the images are meant, in a folder of its own neither.
    (root / LISTS / "test_textures.txt").unlink()
    dataset = load_set("textures-openood")
    for where in ((root, None), (None, root), (None, root / "images_classic" / "texture")):
        assert not isinstance(find_set(dataset, *where), FoundImages)


@pytest.mark.parametrize("line", ["imagenet_c/x.JPEG 1000", "imagenet_c/x.JPEG -1", "x.JPEG"])
def test_a_line_without_path_and_class_is_refused(root: Path, line: str) -> None:
    (root / LISTS / "test_imagenet_c.txt").write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"test_imagenet_c.txt, line 1: expected a path and a"):
        find_set(load_set("imagenet-c"), root)
