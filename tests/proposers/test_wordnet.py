"""Proposals from the bundled WordNet."""

from __future__ import annotations

import pytest

from negrefine import WordNetProposer
from negrefine.benchmarks import class_list
from negrefine.benchmarks.bundled import demo_class_names
from negrefine.errors import InputError
from negrefine.judges.word_finder import WordFinder
from negrefine.labels.wordnet import WordNet
from negrefine.proposers.base import ask_similar
from negrefine.proposers.overlap import OverlapRules


@pytest.fixture(scope="module")
def imagenet() -> list[str]:
    return class_list("imagenet-1k")


@pytest.fixture(scope="module")
def proposer() -> WordNetProposer:
    return WordNetProposer()


@pytest.mark.parametrize(
    ("name", "lexname", "definition"),
    [
        ("ostrich", "noun.animal", "flightless bird"),
        ("skunk", "noun.animal", "musteline mammal"),
        ("badger", "noun.animal", "burrowing mammal"),
        ("fly", "noun.animal", "two-winged insects"),
        ("cardigan", "noun.artifact", "knitted jacket"),
        ("wooden spoon", "noun.artifact", "a spoon made of wood"),
        ("orange", "noun.food", "fruit"),
        ("toaster", "noun.artifact", "kitchen appliance"),
        ("crane bird", "noun.animal", "wading bird"),
    ],
)
def test_the_sense_is_the_one_that_the_other_names_support(
    proposer: WordNetProposer, imagenet: list[str], name: str, lexname: str, definition: str
) -> None:
    sense = proposer.senses(imagenet)[imagenet.index(name)]
    assert sense.row is not None
    synset = WordNet.load().synset(sense.row)
    assert synset.lexname == lexname
    assert definition in synset.definition


def test_the_same_name_means_something_else_among_other_names(proposer: WordNetProposer) -> None:
    wordnet = WordNet.load()
    animals, people = ["emu", "owl", "sparrow"], ["teacher", "plumber", "pirate"]
    found = [proposer.senses(["ostrich", *others])[0].row for others in (animals, people)]
    assert [wordnet.lexname(row) for row in found if row is not None] == [
        "noun.animal",
        "noun.person",
    ]
    # Alone, a name means what WordNet has first.
    (alone,) = proposer.senses(["ostrich"])
    assert alone.row == alone.among[0]
    assert proposer.senses(["qwertz", "owl"])[0].row is None


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (["dog", "cat"], ["animal", "animal"]),  # and no frump and guy
        (["fox", "wolf"], ["animal", "animal"]),
        (["lion", "tiger"], ["animal", "animal"]),
        (["crane", "heron"], ["animal", "animal"]),
        (["crane", "bus"], ["artifact", "artifact"]),
        (["dog", "car"], ["animal", "artifact"]),  # and no pawl
        (["dog", "cat", "person"], ["animal", "animal", "body"]),
        (["tomato", "banana", "lemon", "pear"], ["food"] * 4),
        (["hat", "shirt", "shoes"], ["artifact"] * 3),  # and nobody's situation
        (["doctor", "nurse"], ["person", "person"]),
    ],
)
def test_a_few_names_mean_things_that_can_be_pictured(
    proposer: WordNetProposer, names: list[str], files: list[str]
) -> None:
    wordnet = WordNet.load()
    for given in (names, names[::-1]):
        found = {
            name: wordnet.lexname(sense.row)
            for name, sense in zip(given, proposer.senses(given), strict=True)
            if sense.row is not None
        }
        assert found == {n: f"noun.{file}" for n, file in zip(names, files, strict=True)}


def test_the_first_try_proposes_what_looks_like_the_classes(proposer: WordNetProposer) -> None:
    found = proposer.propose_similar(["dog", "cat"], 3)
    assert found == {
        "dog": ["fox", "feeder", "wolf"],
        "cat": ["bear", "fissiped mammal", "viverrine"],
    }


def test_no_proposal_is_a_kind_of_a_class_or_above_one(
    proposer: WordNetProposer, imagenet: list[str]
) -> None:
    wordnet = WordNet.load()
    finder = WordFinder(wordnet)
    classes = {row for name in imagenet for row in finder.class_rows(name)}
    above = set().union(*map(wordnet.above, classes))
    found = proposer.propose_similar(imagenet, 5)
    rules = OverlapRules(imagenet)
    names = {name for each in found.values() for name in each}
    assert len(names) > 1000
    for name in names:
        # The proposed synset is one of the word's senses that no class covers.
        fitting = [
            row
            for row in wordnet.rows(name, pos="noun")
            if classes.isdisjoint(wordnet.above(row)) and row not in above
        ]
        assert fitting, name
        assert rules.objection(name) == ""


def test_names_without_a_sense_are_said_and_get_nothing(
    proposer: WordNetProposer, imagenet: list[str]
) -> None:
    senses = proposer.senses(imagenet)
    without = {n for n, sense in zip(imagenet, senses, strict=True) if sense.row is None}
    assert len(without) == 97
    with pytest.warns(UserWarning, match=r"proposed nothing for \d+ of 998 class names \(they ha"):
        found = ask_similar(proposer, imagenet, 5)
    assert not any(found[name] for name in without)


def test_siblings_come_before_cousins_and_the_same_every_time(proposer: WordNetProposer) -> None:
    names = demo_class_names()
    found = proposer.propose_similar(names, 3)
    assert found["horse"] == ["mule", "hinny", "zebra"]
    assert proposer.propose_similar(names, 6)["horse"][:3] == found["horse"]
    assert WordNetProposer().propose_similar(names, 3) == found
    nearer = WordNetProposer(steps=1).propose_similar(names, 50)["horse"]
    further = proposer.propose_similar(names, 50)["horse"]
    assert further[: len(nearer)] == nearer
    assert len(further) > len(nearer)
    for steps in (0, 2.5, "3", True, None):
        with pytest.raises(InputError, match="steps must be a whole number of at least 1"):
            WordNetProposer(steps=steps)  # type: ignore[arg-type]
    with pytest.warns(UserWarning, match="mining finds that there"):
        assert proposer.propose_far(names, 5) == []
