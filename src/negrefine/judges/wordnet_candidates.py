"""Class names worth asking about because WordNet, not an encoder, relates them to a word."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from negrefine.judges.word_finder import WordFinder
from negrefine.labels.wordnet import WordNet

# Hardly any class name has more words.
_LONGEST_NAME = 4
_WORD = re.compile(r"[\w'-]+")


def with_wordnet_candidates(
    texts: Sequence[str], candidates: Sequence[Sequence[str]], class_names: Sequence[str]
) -> list[list[str]]:
    """Return for each text its class names by WordNet, then its given candidates, each once.

    Those by WordNet are hypernyms from near to far, then those in the glosses of the text's senses.
    A phrase that is not in WordNet ("gooey pattern") is looked up by its last word.
    """
    wordnet = WordNet.load()
    finder = WordFinder(wordnet)
    by_row: dict[int, list[str]] = {}
    by_name: dict[str, list[str]] = {}
    for name in dict.fromkeys(class_names):
        by_name.setdefault(name.lower(), []).append(name)
        for row in finder.class_rows(name):
            by_row.setdefault(row, []).append(name)

    def related(text: str) -> Iterator[str]:
        rows = finder.senses(text) or finder.senses(text.strip().rpartition(" ")[2])
        for row in rows:
            for above in wordnet.chains(row):
                yield from by_row.get(above, ())
        for row in rows:
            for phrase in _phrases(wordnet.synset(row).definition):
                yield from by_name.get(phrase, ())
                for sense in finder.rows(phrase):
                    yield from by_row.get(sense, ())

    return [
        list(dict.fromkeys((*related(text), *names)))
        for text, names in zip(texts, candidates, strict=True)
    ]


def _phrases(definition: str) -> Iterator[str]:
    """Yield every run of up to four words, longer ones first at each place."""
    words = _WORD.findall(definition.lower())
    for start in range(len(words)):
        for length in range(min(_LONGEST_NAME, len(words) - start), 0, -1):
            yield " ".join(words[start : start + length])
