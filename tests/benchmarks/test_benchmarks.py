"""Benchmarks as data: class lists, layouts, what is missing, running and reproducing them."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result as Invoked
from typer.testing import CliRunner

from negrefine import MCM, Lexicon, load_encoder, metrics
from negrefine.benchmarks import (
    Finding,
    check,
    class_list,
    list_benchmarks,
    list_class_lists,
    list_sets,
    load_benchmark,
    load_set,
)
from negrefine.benchmarks.bundled import demo_class_names, demo_images
from negrefine.benchmarks.catalogue import data_directory
from negrefine.benchmarks.class_lists import wordnet_ids
from negrefine.benchmarks.group_means import group_means
from negrefine.benchmarks.image_files import FoundImages, find_set
from negrefine.benchmarks.published import (
    compare_with_published,
    is_published_lexicon,
    reason_texts,
)
from negrefine.benchmarks.published_report import as_json, as_markdown, reason_lines
from negrefine.cli.app import app
from negrefine.errors import InputError
from negrefine.evaluation.results import Evaluation, Measured, Result, SetScores

SIZES = {
    "imagenet-1k": 1000,
    "imagenet-v2": 1000,
    "imagenet-sketch": 1000,
    "imagenet-a": 200,
    "imagenet-r": 200,
    "imagenet-10": 10,
    "imagenet-20": 20,
    "imagenet-99": 99,
    "imagenet-100": 100,
    "cub": 200,
    "cars": 196,
    "food-101": 101,
    "pets": 37,
    "waterbirds": 2,
    "demo": 25,
}
TWENTY = (
    "n04147183 n02951358 n02782093 n04389033 n03773504 n02917067 n02317335 n01632458 n01630670 "
    "n01631663 n02391049 n01693334 n01697457 n02120079 n02114367 n02132136 n03785016 n04310018 "
    "n04266014 n04252077"
)
TEN = (
    "n04552348 n04285008 n01530575 n02123597 n02422699 n02107574 n01641577 n03417042 n02389026 "
    "n03095699"
)


def fill(folder: Path, n: int, suffix: str = ".JPEG", stem: str = "image") -> None:
    """Make n empty files that look like images."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(n):
        (folder / f"{stem}_{i:05d}{suffix}").touch()


def by_name(findings: Iterable[Finding]) -> dict[str, Finding]:
    return {finding.set_name: finding for finding in findings}


# Class lists


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_class_lists_have_their_size_and_no_blemish(name: str, size: int) -> None:
    names = class_list(name)
    assert len(names) == size
    assert all(each and each == each.strip() and "_" not in each for each in names)


def test_every_class_list_is_covered() -> None:
    assert set(list_class_lists()) == set(SIZES)


def test_imagenet_holds_two_names_twice_and_tells_cranes_and_swimsuits_apart() -> None:
    names = class_list("imagenet-1k")
    assert len(set(names)) == 998
    assert [i for i, name in enumerate(names) if name == "missile"] == [657, 744]
    assert [i for i, name in enumerate(names) if name == "sunglasses"] == [836, 837]
    # WordNet calls both of each pair "crane" and "maillot".
    assert (names[134], names[517]) == ("crane bird", "construction crane")
    assert names[638] != names[639]
    assert class_list("imagenet-v2") == class_list("imagenet-sketch") == names


def test_wordnet_ids_stand_at_their_class_numbers() -> None:
    ids = wordnet_ids("imagenet-1k")
    assert ids is not None
    assert ids == sorted(ids)
    assert len(set(ids)) == 1000
    assert (ids[0], class_list("imagenet-1k")[0]) == ("n01440764", "tench")
    assert (ids[999], class_list("imagenet-1k")[999]) == ("n15075141", "toilet paper")
    assert wordnet_ids("cars") is None


def test_subsets_of_imagenet() -> None:
    ids = {n: set(wordnet_ids(f"imagenet-{n}") or []) for n in (10, 20, 99, 100)}
    assert ids[10] == set(TEN.split())
    assert ids[20] == set(TWENTY.split())
    assert ids[100] - ids[99] == {"n04037443"}
    assert ids[99] < ids[100]
    assert not ids[10] & (ids[20] | ids[100])
    name_of = dict(zip(wordnet_ids("imagenet-1k") or [], class_list("imagenet-1k"), strict=True))
    assert {name_of[wnid] for wnid in ids[20] & ids[100]} == {"schooner", "spotted salamander"}
    assert name_of["n04037443"] == "race car"
    assert {"military aircraft", "impala (antelope)", "common sorrel horse"} <= set(
        class_list("imagenet-10")
    )


def test_adversarial_and_rendered_imagenet_share_86_classes() -> None:
    a, r = (wordnet_ids(name) or [] for name in ("imagenet-a", "imagenet-r"))
    assert len(set(a) & set(r)) == 86
    names = class_list("imagenet-a")
    assert sum(" " in name for name in names) > 50
    assert {"American bullfrog", "bald eagle", "box turtle", "sea anemone"} <= set(names)
    assert "great white shark" in class_list("imagenet-r")


def test_official_birds_differ_by_underscores_in_190_names() -> None:
    official, correct = class_list("cub", names="official"), class_list("cub")
    assert sum("_" in name for name in official) == 190
    assert [name.replace("_", " ") for name in official] == correct
    assert correct[0] == "Black footed Albatross"


@pytest.mark.parametrize("name", ["imagenet-1k", "imagenet-v2", "imagenet-sketch", "imagenet-20"])
def test_official_names_of_imagenet_are_the_same(name: str) -> None:
    assert class_list(name, names="official") == class_list(name)


@pytest.mark.parametrize(
    ("name", "said"),
    [("imagenet-a", "first space"), ("imagenet-r", "67 of the 200"), ("pets", "spelling")],
)
def test_official_lists_that_are_not_known_are_not_invented(name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        class_list(name, names="official")


def test_official_words_left_for_mining_are_as_many_as_published(shared: Path) -> None:
    """How many nouns are mined says how many words equal a class name, hence the spelling."""
    lexicon = Lexicon.from_tsv(shared / "reference" / "lexicon_official.tsv.gz")
    excluded = {"noun.person", "noun.quantity", "noun.group", "adj.pert"}
    by_file: dict[str, list[str]] = {}
    for entry in lexicon.entries:
        by_file.setdefault(entry.lexname, []).append(entry.word.replace("_", " "))

    def mined(names: Iterable[str]) -> int:
        skip, seen, nouns = set(names), set(), 0
        for file in sorted(set(by_file) - excluded):
            noun = file.startswith("noun")
            for word in by_file[file]:
                if word not in seen and not (noun and word in skip):
                    seen.add(word)
                    nouns += noun
        return int(0.15 * nouns)

    published = {"imagenet-1k": 6919, "imagenet-10": 6983, "imagenet-20": 6982, "cub": 6984}
    published |= {"imagenet-99": 6977, "imagenet-100": 6977, "waterbirds": 6984}
    assert {name: mined(class_list(name, names="official")) for name in published} == published


def test_unknown_names_list_near_ones() -> None:
    with pytest.raises(InputError, match=r"did you mean .*food-101"):
        class_list("food-11")
    with pytest.raises(InputError, match=r"no benchmark 'imagnet-1k'.*did you mean .*imagenet-1k"):
        load_benchmark("imagnet-1k")
    with pytest.raises(InputError, match="'correct' or 'official'"):
        class_list("cub", names="wrong")  # type: ignore[arg-type]
    assert load_benchmark("ImageNet_1K") == load_benchmark("imagenet-1k")


def test_sources_file_names_every_list_and_the_shipped_bytes() -> None:
    text = (data_directory() / "SOURCES.md").read_text(encoding="utf-8")
    for file in (data_directory() / "classes").iterdir():
        assert file.name in text
    for name in ("imagenet-a.txt", "imagenet-r.txt"):
        digest = hashlib.sha256((data_directory() / "classes" / name).read_bytes()).hexdigest()
        assert digest in text
    assert len(list((data_directory() / "licenses").iterdir())) == 4


# The catalogue


def test_benchmarks_refer_to_sets_with_everything_a_reader_needs() -> None:
    assert list_benchmarks()[0] == "imagenet-1k"
    for name in list_benchmarks():
        benchmark = load_benchmark(name)
        assert benchmark.title
        assert benchmark.id_set.classes in list_class_lists()
        titles = [image_set.title for image_set in benchmark.sets]
        assert len(set(titles)) == len(titles)
    for name in list_sets():
        image_set = load_set(name)
        for text in (image_set.license, image_set.paper, image_set.source, image_set.get):
            assert text.strip()
        assert image_set.layouts
        for layout in image_set.layouts:
            assert not Path(layout.path).is_absolute()
            assert (layout.list is not None) == (layout.labels in {"list", "metadata"})
            assert layout.labels == "none" or image_set.classes is not None


def test_the_main_benchmark_is_the_papers_valid_four() -> None:
    main = load_benchmark("imagenet-1k")
    counts = {s.title: s.images for s in main.sets}
    assert counts == {
        "ImageNet-1K": 50_000,
        "iNaturalist": 10_000,
        "OpenImage-O": 17_632,
        "Clean": 2_715,
        "NINCO": 5_879,
    }
    assert not any(image_set.contamination for image_set in main.sets)
    traditional = load_benchmark("imagenet-1k-traditional")
    percent = {s.name: s.contaminated_percent for s in traditional.ood_sets if s.contamination}
    assert percent == {"sun": 26.2, "places": 59.5, "textures": None}


def test_other_ood_sets_can_be_chosen() -> None:
    benchmark = load_benchmark("imagenet-1k").with_ood(["NINCO", "sun"])
    assert [s.name for s in benchmark.ood_sets] == ["ninco", "sun"]
    with pytest.raises(InputError, match="in-distribution here"):
        benchmark.with_ood(["imagenet-1k"])
    with pytest.raises(InputError, match="at least one"):
        benchmark.with_ood([])
    with pytest.raises(InputError, match=r"did you mean .*ninco"):
        benchmark.with_ood(["nincoo"])


# Checking what is there


@pytest.fixture(scope="module")
def imagenet_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet's validation folders, as empty files, of ImageNet-10, -20 and -99 alone."""
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


def test_all_of_imagenet_is_incomplete_then(imagenet_root: Path) -> None:
    (finding,) = check(load_benchmark("imagenet-1k"), imagenet_root)[:1]
    assert (finding.status, finding.found) == ("incomplete", 127 * 50)
    assert "6,350 images instead of 50,000" in finding.problem
    assert (
        "lacks 873 of 1000 class folders (n01440764, n01443537, n01484850 ...)" in finding.problem
    )


def test_missing_sets_say_where_they_go_and_where_they_are_had(imagenet_root: Path) -> None:
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


def test_wrong_layouts_are_told_from_missing_sets(tmp_path: Path) -> None:
    fill(tmp_path / "ImageNet" / "val", 5)
    (tmp_path / "iNaturalist").mkdir()
    (tmp_path / "iNaturalist" / "readme.txt").touch()
    findings = by_name(check(load_benchmark("imagenet-1k"), tmp_path))
    assert findings["imagenet-1k"].status == "layout"
    assert "folders named by WordNet id" in findings["imagenet-1k"].problem
    assert findings["inaturalist"].status == "layout"
    assert "without images" in findings["inaturalist"].problem
    assert findings["clean"].status == "missing"


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


def test_waterbirds_take_their_classes_from_the_metadata(tmp_path: Path) -> None:
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


def test_a_set_may_lie_elsewhere(tmp_path: Path) -> None:
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


def test_links_and_hidden_files(tmp_path: Path) -> None:
    fill(tmp_path / "real", 3)
    (tmp_path / "real" / ".hidden.JPEG").touch()
    (tmp_path / "real" / "again").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "SUN").symlink_to(tmp_path / "real", target_is_directory=True)
    found = find_set(load_set("sun"), tmp_path)
    assert isinstance(found, FoundImages)
    assert len(found.paths) == 3


def test_the_demo_is_always_there() -> None:
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


# Means over classes, and measured beside published


def evaluation_of(
    scores: dict[str, list[float]], groups: dict[str, list[str]] | None = None
) -> Evaluation:
    """One method, "negrefine", whose scores are given; "ID" is in-distribution."""

    def image_set(name: str) -> SetScores:
        n = len(scores[name])
        return SetScores(
            name=name,
            paths=[f"{i}.png" for i in range(n)],
            labels=np.full(n, -1),
            predictions=np.zeros(n, dtype=np.int64),
            errors=["broken" if np.isnan(score) else None for score in scores[name]],
            groups=(groups or {}).get(name, [""] * n),
            scores={"negrefine": {0: np.array(scores[name])}},
        )

    others = [name for name in scores if name != "ID"]
    results = [
        Result("negrefine", name, *(Measured(value) for value in (0.9, 0.3, 0.5, 0.5)))
        for name in [*others, "mean"]
    ]
    return Evaluation(
        Path(),
        "",
        ["a"],
        ["negrefine"],
        image_set("ID"),
        [image_set(name) for name in others],
        results,
        [],
        None,
        {},
        {},
    )


def test_group_means_weigh_classes_alike() -> None:
    nan = float("nan")
    known = [0.9, 0.8, 0.7, 0.6]
    # Class "a" (three images) is perfectly told apart, class "b" (one image) half.
    strange = [0.1, 0.1, 0.1, 0.75, nan, nan]
    evaluation = evaluation_of(
        {"ID": [*known, nan], "NINCO": strange}, {"NINCO": ["a", "a", "a", "b", "b", "c"]}
    )
    (row,) = group_means(evaluation, "NINCO")
    assert row.n_groups == 2
    assert row.auroc == pytest.approx((1 + 0.5) / 2)
    expected = np.mean([metrics.fpr95(known, [0.1] * 3), metrics.fpr95(known, [0.75])])
    assert row.fpr95 == pytest.approx(expected)
    with pytest.raises(InputError, match="it has NINCO"):
        group_means(evaluation, "SUN")


FOUR = ["iNaturalist", "OpenImage-O", "Clean", "NINCO"]


def published(table: str, method: str, ood_set: str, metric: str) -> float:
    evaluation = evaluation_of({"ID": [1.0], "NINCO": [0.0]})
    (value,) = (
        cell.published
        for cell in compare_with_published(evaluation, set())
        if (cell.table, cell.method, cell.ood_set, cell.metric) == (table, method, ood_set, metric)
    )
    return value


def test_published_averages_are_the_means_of_the_published_sets() -> None:
    """The tables were typed in; a slip would show in a mean."""
    for method in ("mcm", "glmcm", "clipn", "neglabel", "csp", "negrefine"):
        sets = ("inaturalist", "openimage-o", "clean", "ninco")
        mean = np.mean([published("main", method, name, "auroc") for name in sets])
        assert published("main", method, "mean", "auroc") == pytest.approx(mean, abs=0.0051)
    assert published("ablation", "NegFilter + S_MM", "mean", "fpr95") == 30.12
    assert published("main", "negrefine", "mean", "fpr95") == 30.12
    assert published("ablation", "no filter, no S_MM", "mean", "auroc") == 89.97
    assert published("seed0", "negrefine", "textures", "fpr95") == 21.15


def test_every_published_number_has_a_cell_with_its_difference() -> None:
    evaluation = evaluation_of({"ID": [1.0], **{name: [0.0] for name in FOUR}})
    cells = compare_with_published(evaluation, {"seed 0"})
    assert len(cells) == 36 + 8 + 14
    found = {(c.table, c.method, c.ood_set, c.metric): c for c in cells}
    cell = found["main", "negrefine", "clean", "auroc"]
    assert cell.measured == pytest.approx(90.0)
    assert cell.difference == pytest.approx(90.0 - 90.65)
    assert found["main", "negrefine", "mean", "fpr95"].measured == pytest.approx(30.0)
    # Not measured: another method, and a set that was not there.
    assert found["main", "clipn", "clean", "auroc"].difference is None
    assert found["main", "clipn", "clean", "auroc"].reasons == ("clipn",)
    assert found["main", "csp", "clean", "auroc"].reasons == ("not-run",)
    assert found["seed0", "negrefine", "sun", "auroc"].reasons == ("not-run",)


def test_no_mean_is_taken_over_fewer_sets_than_published() -> None:
    evaluation = evaluation_of({"ID": [1.0], **{name: [0.0] for name in FOUR[:3]}})
    cells = compare_with_published(evaluation, set(), ["main"])
    means = [c for c in cells if c.method == "negrefine" and c.ood_set == "mean"]
    assert [cell.measured for cell in means] == [None, None]
    with pytest.raises(InputError, match="there are main, ablation, seed0"):
        compare_with_published(evaluation, set(), ["all"])


def test_reasons_go_when_the_run_is_like_the_published_one() -> None:
    evaluation = evaluation_of({"ID": [1.0], **{name: [0.0] for name in FOUR}})

    def reasons(facts: set[str], table: str = "main") -> set[str]:
        cells = compare_with_published(evaluation, facts, [table])
        (cell,) = (
            c for c in cells if (c.method, c.ood_set, c.metric) == ("negrefine", "ninco", "auroc")
        )
        return set(cell.reasons)

    assert {"lexicon", "judge", "seeds", "ninco-count"} <= reasons(set())
    assert not {"lexicon", "judge", "seeds"} & reasons({"lexicon", "replay", "ten seeds"})
    assert "bicubic" in reasons({"bilinear"}) - reasons(set())
    assert "not-seed-0" in reasons(set(), "seed0")
    assert "not-seed-0" not in reasons({"seed 0"}, "seed0")
    assert set().union(*(reasons({fact}) for fact in ("incomplete", "bilinear"))) <= set(
        reason_texts()
    )


def test_reports_name_each_reason_once_and_hold_every_number() -> None:
    evaluation = evaluation_of({"ID": [1.0], **{name: [0.0] for name in FOUR}})
    cells = compare_with_published(evaluation, {"seed 0"})
    page = as_markdown(cells, ["Not comparable: a test."])
    assert "**Not comparable: a test.**" in page
    assert "| negrefine | Clean AUROC | 90.65 | 90.00 | -0.65 |" in page
    for line in reason_lines(cells):
        assert page.count(line) == 1
    content = json.loads(as_json(cells, [], {}))
    assert content["comparable"] is True
    assert len(content["cells"]) == len(cells)
    assert {r for cell in content["cells"] for r in cell["reasons"]} == set(content["reasons"])


def test_the_published_words_are_recognised(shared: Path) -> None:
    words = Lexicon.from_tsv(shared / "reference" / "lexicon_official.tsv.gz")
    assert is_published_lexicon(words)
    assert not is_published_lexicon(Lexicon.wordnet(min_frequency=1))


# The commands


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few drawings in folders laid out like the real data sets."""
    top = tmp_path_factory.mktemp("data")
    pictures: dict[str, list[Path]] = {}
    for image in demo_images():
        pictures.setdefault(image.set_name, []).append(image.path)

    def put(files: Iterable[Path], folder: str) -> None:
        (top / folder).mkdir(parents=True, exist_ok=True)
        for file in files:
            shutil.copy(file, top / folder)

    ids = wordnet_ids("imagenet-1k") or []
    for i in range(6):
        put(pictures["animals"][3 * i : 3 * i + 3], f"ImageNet/val/{ids[40 * i]}")
    put(pictures["plants"][:6], "iNaturalist/images")
    put(pictures["vehicles"][:6], "openimage_o/images")
    put(pictures["objects"][:6], "NINCO/NINCO_popular_datasets_subsamples/places")
    put(pictures["objects"][6:10], "SUN/images")
    for i in range(3):
        put(pictures["food"][4 * i : 4 * i + 2 + i], f"NINCO/NINCO_OOD_classes/class_{i}")
    return top


@pytest.fixture(scope="module")
def words_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough words of WordNet to fill a hundred groups."""
    entries = Lexicon.wordnet(min_frequency=1).entries
    nouns = [e for e in entries if e.lexname == "noun.artifact"][:700]
    adjectives = [e for e in entries if e.pos == "adj"][:100]
    file = tmp_path_factory.mktemp("words") / "words.tsv"
    rows = [f"{e.word}\t{e.lexname}\t{e.pos}" for e in [*nouns, *adjectives]]
    file.write_text("\n".join(["word\tlexname\tpos", *rows]) + "\n", encoding="utf-8")
    return file


def negrefine(*arguments: str | Path) -> Invoked:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_list_shows_every_benchmark_and_marks_contaminated_sets() -> None:
    content = json.loads(negrefine("benchmark", "list", "--json").stdout)
    assert [entry["name"] for entry in content["benchmarks"]] == list_benchmarks()
    assert {entry["name"] for entry in content["sets"]} == set(list_sets())
    shown = negrefine("benchmark", "list").stdout
    assert all(name in shown for name in list_benchmarks())
    assert "places*" in shown


def test_check_exits_with_1_and_says_what_to_do(root: Path) -> None:
    result = negrefine("benchmark", "check", "imagenet-1k", "--data", root)
    assert result.exit_code == 1
    assert "has 18 images instead of 50,000" in result.stdout
    assert "zenodo.org/record/8013288" in result.stdout
    result = negrefine("benchmark", "check", "demo", "--json")
    assert result.exit_code == 0
    assert [entry["status"] for entry in json.loads(result.stdout)] == ["ok"] * 5
    result = negrefine(
        "benchmark", "check", "demo", "--ood", "sun,places", "--data", root, "--json"
    )
    assert result.exit_code == 1
    states = {entry["set_name"]: entry["status"] for entry in json.loads(result.stdout)}
    assert states == {"demo-animals": "ok", "sun": "incomplete", "places": "missing"}


def test_check_loads_no_model() -> None:
    code = (
        "import sys; sys.argv = ['negrefine', 'benchmark', 'check', 'demo']\n"
        "from negrefine.cli.app import app\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


def test_incomplete_images_stop_a_run_before_anything_is_loaded(root: Path, tmp_path: Path) -> None:
    for command in (("benchmark", "run", "imagenet-1k"), ("reproduce",)):
        result = negrefine(
            *command, "--data", root, "--encoder", tmp_path / "no-model", "--out", tmp_path / "out"
        )
        assert isinstance(result.exception, InputError)
        assert "--allow-incomplete" in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("ignore:2 class names occur more than once")
def test_run_on_folders_like_the_real_ones(root: Path, words_file: Path, tmp_path: Path) -> None:
    result = negrefine(
        *("benchmark", "run", "imagenet-1k", "--data", root, "--out", tmp_path / "out"),
        *("--encoder", "builtin", "--device", "cpu", "--lexicon", words_file),
        *("--methods", "mcm,csp", "--bootstrap", "0", "--allow-incomplete"),
    )
    assert result.exit_code == 0, result.output
    assert "Not comparable with published numbers: ImageNet-1K" in result.output
    content = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert content["benchmark"] == "imagenet-1k"
    assert len(content["warnings"]) == 5
    assert [s["found"] for s in content["sets"]] == [18, 6, 6, 6, 9]
    rows = {row["method"]: row for row in content["group_means"]}
    assert set(rows) == {"mcm", "csp"}

    # The same numbers, taken by hand.
    encoder = load_encoder("builtin", device="cpu")
    names = class_list("imagenet-1k")
    detector = MCM(encoder).fit(names)
    known = detector.score_samples(sorted((root / "ImageNet").rglob("*.png")))
    aurocs = [
        metrics.auroc(known, detector.score_samples(sorted(folder.glob("*.png"))))
        for folder in sorted((root / "NINCO" / "NINCO_OOD_classes").iterdir())
    ]
    assert rows["mcm"]["ood_set"] == "NINCO"
    assert rows["mcm"]["n_groups"] == 3
    assert rows["mcm"]["auroc"] == pytest.approx(np.mean(aurocs), abs=1e-9)


def test_run_the_demo_with_classes_of_ones_own(words_file: Path, tmp_path: Path) -> None:
    classes = tmp_path / "classes.txt"
    classes.write_text("\n".join(f"{name} drawing" for name in demo_class_names()))
    options = ("--encoder", "builtin", "--device", "cpu", "--methods", "mcm", "--bootstrap", "0")
    result = negrefine(
        *("benchmark", "run", "demo", "--out", tmp_path / "out", *options),
        *("--classes", classes, "--ood", "demo-food"),
    )
    assert result.exit_code == 0, result.output
    assert "Not comparable" not in result.output
    classes.write_text("cat\ndog\n")
    result = negrefine(
        *("benchmark", "run", "demo", "--out", tmp_path / "out", *options, "--classes", classes)
    )
    assert isinstance(result.exception, InputError)
    assert "demo has 25 classes, but 2 names were given" in str(result.exception)


@pytest.mark.filterwarnings("ignore:2 class names occur more than once")
def test_reproduce_on_folders_like_the_real_ones(
    root: Path, words_file: Path, tmp_path: Path
) -> None:
    result = negrefine(
        *("reproduce", "--data", root, "--out", tmp_path / "out", "--encoder", "builtin"),
        *("--device", "cpu", "--lexicon", words_file, "--methods", "mcm,csp,negrefine"),
        *("--bootstrap", "0", "--allow-incomplete"),
    )
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "out" / "reproduce.json").read_text())
    assert content["comparable"] is False
    assert any("the encoder is builtin" in warning for warning in content["warnings"])
    assert any("words of the published files" in warning for warning in content["warnings"])
    cells = {(c["table"], c["method"], c["ood_set"], c["metric"]): c for c in content["cells"]}
    assert len(cells) == 36 + 8 + 14
    measured = {key for key, cell in cells.items() if cell["measured"] is not None}
    assert {key[1] for key in measured if key[0] == "main"} == {"mcm", "csp", "negrefine"}
    # SUN is there and counts for seed 0 alone; the means are over the four sets.
    assert ("seed0", "negrefine", "sun", "fpr95") in measured
    assert ("seed0", "negrefine", "places", "fpr95") not in measured
    four = ("inaturalist", "openimage-o", "clean", "ninco")
    for method in ("mcm", "csp", "negrefine"):
        values = [cells["main", method, name, "auroc"]["measured"] for name in four]
        mean = cells["main", method, "mean", "auroc"]
        assert mean["measured"] == pytest.approx(np.mean(values))
        assert mean["difference"] == pytest.approx(mean["measured"] - mean["published"])
    # The last row of the ablation is NegRefine.
    assert cells["ablation", "NegFilter + S_MM", "mean", "fpr95"]["measured"] == pytest.approx(
        cells["main", "negrefine", "mean", "fpr95"]["measured"]
    )
    page = (tmp_path / "out" / "reproduce.md").read_text()
    assert page.index("Not comparable") < page.index("Main table")
    assert "CLIPN needs its own weights" in result.stdout


MCM_ONLY = ("--methods", "mcm", "--encoder", "builtin", "--out", "x")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reproduce", "--only", "table7", "--out", "x"), "main, ablation, seed0"),
        (("reproduce", "--methods", "mcm", "--out", "x"), "add negrefine"),
        (("reproduce", "--seeds", "9-0", "--out", "x"), "smaller one first"),
        (("reproduce", "--seeds", "a", "--out", "x"), "whole numbers"),
        (("benchmark", "check", "demo", "--folder", "sun"), "SET=DIR"),
        (("benchmark", "check", "dmo"), "did you mean demo"),
        (("benchmark", "run", "demo", *MCM_ONLY, "--judge", "none"), "--judge means nothing"),
        (("benchmark", "run", "demo", *MCM_ONLY, "--min-frequency", "1"), "mean nothing"),
        (
            ("benchmark", "run", "pets", "--names", "official", "--encoder", "x", "--out", "x"),
            "spelling",
        ),
    ],
)
def test_wrong_usage_is_answered_with_a_sentence(arguments: tuple[str, ...], said: str) -> None:
    result = negrefine(*arguments)
    assert isinstance(result.exception, InputError)
    assert said in str(result.exception)
