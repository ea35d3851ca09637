"""Class names worth asking about because WordNet, not an encoder, relates them to a word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from negrefine.judges.word_finder import WordFinder
from negrefine.labels.wordnet import WordNet

# Hardly any class name has more words.
_LONGEST_NAME = 4
_WORD = re.compile(r"[\w'-]+")


class WordNetCandidates:
    """Finds class names among the hypernyms of a word or in the glosses of its senses.

    The published candidates are a bare word's neighbours in an encoder, which often lack the
    word's true hypernym ("external carotid artery" is near "matchstick").
    """

    def __init__(self, class_names: Sequence[str]) -> None:
        """Look up the senses of the class names in the bundled WordNet."""
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

        A phrase that is not in WordNet ("gooey pattern") is looked up by its last word.
        """
        last_word = text.strip().rpartition(" ")[2]
        rows = self._finder.senses(text) or self._finder.senses(last_word)
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
    """Return for each text its class names by WordNet, then its given candidates."""
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
