"""The judge that needs no language model: WordNet itself."""

from __future__ import annotations

from collections.abc import Sequence

from negrefine.judges.base import Answer
from negrefine.judges.proper_nouns import ProperNouns
from negrefine.judges.subcategories import Subcategories
from negrefine.judges.word_finder import WordFinder
from negrefine.labels.wordnet import WordNet


class WordNetJudge:
    """Answers NegFilter's questions from the shipped WordNet: offline, repeatable, in milliseconds.

    Proper nouns are instances (cities, mountains, persons), names that are always capitalised and
    have one bearer, and taxa named with their rank ("genus ginkgo"). Subcategories are hyponyms,
    compounds that end in the class name, words whose definition starts from the class, and members
    of the biological family a class is defined by. Every answer says which of these it was.

    A word or class name that WordNet does not hold is undecided.
    """

    name = "wordnet"

    def __init__(self) -> None:
        """Read the shipped graph, once per process."""
        wordnet = WordNet.load()
        finder = WordFinder(wordnet)
        self._proper_nouns = ProperNouns(wordnet, finder)
        self._subcategories = Subcategories(wordnet, finder)

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        """Is each word the name of one place, person or other entity?"""
        return [self._proper_nouns.answer(word) for word in words]

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """For each (word, class name): is the word a kind of the class?"""
        return [self._subcategories.answer(word, name) for word, name in pairs]
