"""Finding words and class names in WordNet."""

from __future__ import annotations

import pytest

from negrefine.judges.word_finder import WordFinder
from negrefine.labels.wordnet import WordNet


@pytest.mark.parametrize(
    ("name", "definition"),
    [
        ("crane bird", "large long-necked wading bird"),
        ("impala (antelope)", "African antelope"),
        ("common sorrel horse", "a horse of a brownish orange"),
        ("ram (adult male sheep)", "uncastrated adult male sheep"),
        ("half-track", "a motor vehicle"),
    ],
)
def test_class_names_find_their_meaning(name, definition):
    wordnet = WordNet.load()
    rows = WordFinder(wordnet).class_rows(name)
    assert wordnet.synset(rows[0]).definition.startswith(definition)


def test_class_names_that_only_narrow_a_known_word_mean_nothing():
    finder = WordFinder(WordNet.load())
    assert finder.class_rows("toy store") == []
    assert finder.class_rows("Treeing Walker Coonhound") == []


@pytest.mark.parametrize("name", ["", "-", "..", "747", "'"])
def test_names_without_letters_mean_nothing_but_themselves(name: str) -> None:
    finder = WordFinder(WordNet.load())
    assert finder.class_rows(name) == []
    assert WordNet.load().lemmas(finder.class_rows("78")[0]) == ("seventy-eight", "78")


def test_spellings_are_found_as_letter_by_letter():
    wordnet = WordNet.load()
    plain: dict[str, str] = {}
    for word in wordnet.words():
        if not word.isalpha():
            plain.setdefault("".join(filter(str.isalpha, word.lower())), word)
    # "78", which no other name without letters is.
    del plain[""]
    finder = WordFinder(wordnet)
    unclear = {spelling: word for spelling, word in plain.items() if spelling != word}
    assert len(unclear) > 50_000
    assert finder._respelled == plain
