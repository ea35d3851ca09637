"""The catalogue: benchmarks, image sets and class names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest

from negrefine import Lexicon
from negrefine.benchmarks import (
    class_list,
    list_benchmarks,
    list_class_lists,
    list_sets,
    load_benchmark,
    load_set,
)
from negrefine.benchmarks.catalogue import data_directory, wordnet_ids
from negrefine.errors import InputError
from negrefine.labels.prompts import CSP_SKETCH_PROMPTS

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


# Class lists


@pytest.mark.parametrize(("name", "size"), SIZES.items())
def test_class_lists_have_their_size_and_clean_names(name: str, size: int) -> None:
    names = class_list(name)
    assert len(names) == size
    assert all(n and n == n.strip() and "_" not in n for n in names)


def test_every_class_list_is_covered() -> None:
    assert set(list_class_lists()) == set(SIZES)


def test_imagenet_has_two_names_twice_and_distinguishes_cranes_and_swimsuits() -> None:
    names = class_list("imagenet-1k")
    assert len(set(names)) == 998
    assert [i for i, name in enumerate(names) if name == "missile"] == [657, 744]
    assert [i for i, name in enumerate(names) if name == "sunglasses"] == [836, 837]
    # WordNet calls both of each pair "crane" and "maillot".
    assert (names[134], names[517]) == ("crane bird", "construction crane")
    assert names[638] != names[639]
    assert class_list("imagenet-v2") == class_list("imagenet-sketch") == names


def test_wordnet_ids_are_in_the_order_of_class_numbers() -> None:
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
    ("name", "message"),
    [("imagenet-a", "first space"), ("imagenet-r", "67 of the 200"), ("pets", "spelling")],
)
def test_official_lists_that_are_not_known_are_not_invented(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
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


def test_unknown_names_list_similar_ones() -> None:
    with pytest.raises(InputError, match=r"did you mean .*food-101"):
        class_list("food-11")
    with pytest.raises(InputError, match=r"no benchmark 'imagnet-1k'.*did you mean .*imagenet-1k"):
        load_benchmark("imagnet-1k")
    with pytest.raises(InputError, match="names must be one of correct, official, not"):
        class_list("cub", names="wrong")  # type: ignore[arg-type]
    assert load_benchmark("ImageNet_1K") == load_benchmark("imagenet-1k")


def test_sources_file_lists_every_class_list_and_its_checksum() -> None:
    text = (data_directory() / "SOURCES.md").read_text(encoding="utf-8")
    for file in (data_directory() / "classes").iterdir():
        assert file.name in text
    for name in ("imagenet-a.txt", "imagenet-r.txt"):
        digest = hashlib.sha256((data_directory() / "classes" / name).read_bytes()).hexdigest()
        assert digest in text
    assert len(list((data_directory() / "licenses").iterdir())) == 4


# The catalogue


def test_every_set_of_a_benchmark_is_described() -> None:
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
            has_list = layout.labels in {"list", "metadata", "paths", "selection"}
            assert (layout.list is not None) == has_list
            assert layout.labels in {"none", "selection"} or image_set.classes is not None


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


def test_openood_has_near_far_and_full_spectrum_suites() -> None:
    near, far = load_benchmark("openood-near"), load_benchmark("openood-far")
    assert [s.name for s in near.ood_sets] == ["ssb-hard", "ninco"]
    assert [s.title.split(" (")[0] for s in far.ood_sets] == [
        *("iNaturalist", "Textures", "OpenImage-O")
    ]
    assert near.id_set.images == 45_000
    for name, plain in (("openood-fs-near", near), ("openood-fs-far", far)):
        full = load_benchmark(name)
        assert full.ood_sets == plain.ood_sets
        assert [s.name for s in full.further_id] == ["imagenet-v2", "imagenet-c", "imagenet-r"]
        assert full.sets == (plain.id_set, *full.further_id, *plain.ood_sets)
        with pytest.raises(InputError, match="'imagenet-r' is in-distribution here"):
            full.with_ood(["ninco", "imagenet-r"])
    assert [s.name for s in load_benchmark("imagenet-ood").ood_sets] == ["imagenet-ood"]


def test_a_count_that_no_source_gives_is_not_invented() -> None:
    for name in ("ssb-hard", "textures-openood", "imagenet-c", "imagenet-ood"):
        image_set = load_set(name)
        assert image_set.images is None
        assert image_set.unverified


def test_other_ood_sets_can_be_chosen() -> None:
    benchmark = load_benchmark("imagenet-1k").with_ood(["NINCO", "sun"])
    assert [s.name for s in benchmark.ood_sets] == ["ninco", "sun"]
    with pytest.raises(InputError, match="in-distribution here"):
        benchmark.with_ood(["imagenet-1k"])
    with pytest.raises(InputError, match="at least one"):
        benchmark.with_ood([])
    with pytest.raises(InputError, match=r"did you mean .*ninco"):
        benchmark.with_ood(["nincoo"])


def test_only_sketches_have_parameters_of_their_own() -> None:
    sketches = load_benchmark("imagenet-sketch")
    for method in ("csp", "negrefine"):
        assert sketches.parameters(method) == {"prompts": CSP_SKETCH_PROMPTS}
    assert sketches.parameters("mcm") == {}
    assert load_benchmark("imagenet-1k").parameters("negrefine") == {}
