"""Finding the images of a benchmark, and reporting what is missing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from negrefine.benchmarks import Finding, check, load_benchmark, load_set
from negrefine.benchmarks.bundled import demo_class_names, demo_images
from negrefine.benchmarks.catalogue import wordnet_ids
from negrefine.benchmarks.image_files import FoundImages, find_set
from negrefine.errors import InputError


def fill(folder: Path, n: int, suffix: str = ".JPEG", stem: str = "image") -> None:
    """Make n empty files that look like images."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        (folder / f"{stem}_{i:05d}{suffix}").touch()


def by_name(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.set_name: finding for finding in findings}


@pytest.fixture(scope="module")
def imagenet_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet's validation folders with empty files, only those of ImageNet-10, -20 and -99."""
    root = tmp_path_factory.mktemp("imagenet")
    wnids = {w for n in (10, 20, 99) for w in wordnet_ids(f"imagenet-{n}") or []}
    for wnid in wnids:
        fill(root / "ImageNet" / "val" / wnid, 50)
    return root


def test_a_complete_benchmark_is_ok(imagenet_root: Path) -> None:
    findings = check(load_benchmark("imagenet-10"), imagenet_root)
    assert [(f.set_name, f.status, f.found, f.expected) for f in findings] == [
        ("imagenet-10", "ok", 500, 500),
        ("imagenet-20", "ok", 1000, 1000),
        ("imagenet-99", "ok", 4950, 4950),
    ]
    assert all(f.ok and not f.problem and not f.remedy for f in findings)


def test_all_of_imagenet_is_then_incomplete(imagenet_root: Path) -> None:
    (finding,) = check(load_benchmark("imagenet-1k"), imagenet_root)[:1]
    assert (finding.status, finding.found) == ("incomplete", 127 * 50)
    assert "6,350 images instead of 50,000" in finding.problem
    assert (
        "lacks 873 of 1000 class folders (n01440764, n01443537, n01484850 ...)" in finding.problem
    )


def test_missing_sets_say_where_to_get_and_where_to_put_them(imagenet_root: Path) -> None:
    findings = by_name(check(load_benchmark("imagenet-1k"), imagenet_root))
    ninco = findings["ninco"]
    assert (ninco.status, ninco.found, ninco.folder) == ("missing", 0, None)
    assert f"{imagenet_root}/NINCO_OOD_classes" in ninco.problem
    assert "zenodo.org/record/8013288" in ninco.remedy
    assert f"{imagenet_root}/NINCO/NINCO_OOD_classes" in ninco.remedy
    assert "Licence: " in ninco.remedy


def test_wrong_counts_and_groups(tmp_path: Path) -> None:
    for i in range(3):
        fill(tmp_path / "NINCO" / "NINCO_OOD_classes" / f"class_{i}", 4)
    benchmark = load_benchmark("demo").with_ood(["ninco"])
    finding = by_name(check(benchmark, tmp_path))["ninco"]
    assert finding.status == "incomplete"
    assert "12 images instead of 5,879" in finding.problem
    assert "3 class folders instead of 64" in finding.problem


@pytest.mark.parametrize("images", [5878, 5879])
def test_both_published_counts_of_ninco_are_right(tmp_path: Path, images: int) -> None:
    for i in range(64):
        n = images // 64 + (i < images % 64)
        fill(tmp_path / "images_largescale" / "ninco" / f"class_{i}", n, ".jpg")
    benchmark = load_benchmark("demo").with_ood(["ninco"])
    assert by_name(check(benchmark, tmp_path))["ninco"].ok


def test_wrong_layouts_are_distinguished_from_missing_sets(tmp_path: Path) -> None:
    fill(tmp_path / "ImageNet" / "val", 5)
    (tmp_path / "iNaturalist").mkdir()
    (tmp_path / "iNaturalist" / "readme.txt").touch()
    findings = by_name(check(load_benchmark("imagenet-1k"), tmp_path))
    assert findings["imagenet-1k"].status == "layout"
    assert "folders named by WordNet id" in findings["imagenet-1k"].problem
    assert findings["inaturalist"].status == "layout"
    assert "without images" in findings["inaturalist"].problem
    assert findings["clean"].status == "missing"


def test_a_set_may_be_outside_the_root(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere" / "n04552348", 2)
    fill(tmp_path / "odd", 3)
    benchmark = load_benchmark("imagenet-10").with_ood(["sun"])
    folders = {"imagenet-10": tmp_path / "elsewhere", "SUN": tmp_path / "odd"}
    findings = check(benchmark, None, folders)
    assert [f.found for f in findings] == [2, 3]
    with pytest.raises(InputError, match="not a set of imagenet-10"):
        check(benchmark, tmp_path, {"ninco": tmp_path})
    with pytest.raises(InputError, match="does not exist"):
        check(benchmark, tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"--data ROOT"):
        check(benchmark)


def test_the_demo_is_always_complete() -> None:
    findings = check(load_benchmark("demo"))
    assert all(finding.ok for finding in findings)
    assert sum(finding.found for finding in findings) == len(demo_images())
    found = find_set(load_set("demo-animals"), Path())
    assert isinstance(found, FoundImages)
    assert found.labels is not None
    names = demo_class_names()
    truth = {image.path: image.class_name for image in demo_images()}
    assert all(
        truth[path] == (names[label] if label >= 0 else None)
        for path, label in zip(found.paths, found.labels, strict=True)
    )
