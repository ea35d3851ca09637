"""Class names that WordNet relates to a word."""

from __future__ import annotations

from negrefine.judges.wordnet_candidates import with_wordnet_candidates


def test_candidates_from_hypernyms_and_glosses() -> None:
    names = ["promontory", "Dog", "tree", "daisy", "animal", "no such word"]
    texts = ["poodle", "genus bellis", "gooey tree", "qqqq"]
    assert with_wordnet_candidates(texts, [[]] * 4, names) == [
        ["Dog", "animal"],
        ["daisy"],
        ["tree"],
        [],
    ]
    merged = with_wordnet_candidates(["poodle"], [["tree", "Dog"]], ["Dog", "animal", "tree"])
    assert merged == [["Dog", "animal", "tree"]]
