"""Class names worth asking about because WordNet, and not an encoder, connects them to a word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from negrefine.judges.word_finder import WordFinder
from negrefine.labels.wordnet import WordNet

# Hardly a class name is longer.
_LONGEST_NAME = 4
_WORD = re.compile(r"[\w'-]+")


class WordNetCandidates:
    """Class names among the hypernyms of a word or in the glosses of its senses.

    The published candidates are neighbours of bare words in an encoder, where a word's true
    hypernym is often missing ("external carotid artery" is near "matchstick").
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        """Look up what the class names may mean in the shipped WordNet."""
        self._wordnet = WordNet.load()
        self._finder = WordFinder(self._wordnet)
        self._by_row: dict[int, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        for name in dict.fromkeys(class_names):
            self._by_name.setdefault(name.lower(), []).append(name)
            for row in self._finder.class_rows(name):
                self._by_row.setdefault(row, []).append(name)

    def __call__(self, text: str) -> list[str]:
        """Return class names: hypernyms from near to far, then those in glosses, each once.

        A phrase that WordNet does not hold ("gooey pattern") is looked up by its last word.
        """
        lemma = self._finder.word(text) or self._finder.word(text.strip().rpartition(" ")[2])
        rows = [] if lemma is None else self._wordnet.rows(lemma, pos="noun")
        found: dict[str, None] = {}
        for row in rows:
            for above in self._wordnet.chains(row):
                found.update(dict.fromkeys(self._by_row.get(above, ())))
        for row in rows:
            for phrase in _phrases(self._wordnet.synset(row).definition):
                found.update(dict.fromkeys(self._by_name.get(phrase, ())))
                for sense in self._finder.rows(phrase):
                    found.update(dict.fromkeys(self._by_row.get(sense, ())))
        return list(found)


def with_wordnet_candidates(
    texts: Sequence[str], candidates: Sequence[Sequence[str]], class_names: Sequence[str]
) -> list[list[str]]:
    """Return for each text its class names by WordNet, then its other candidates."""
    lookup = WordNetCandidates(class_names)
    return [
        list(dict.fromkeys((*lookup(text), *names)))
        for text, names in zip(texts, candidates, strict=True)
    ]


def _phrases(definition: str) -> Iterator[str]:
    """Yield every run of up to four words, longer ones first at each place."""
    words = _WORD.findall(definition.lower())
    for start in range(len(words)):
        for length in range(min(_LONGEST_NAME, len(words) - start), 0, -1):
            yield " ".join(words[start : start + length])
