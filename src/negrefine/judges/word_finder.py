"""Finding words and class names in WordNet when they are spelled differently there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from negrefine.judges.definitions import word_set

if TYPE_CHECKING:
    from negrefine.labels.wordnet import WordNet

# Lexicographer files whose members can be seen in an image. Class names mean these where possible.
DEPICTABLE = word_set(
    "noun.animal noun.artifact noun.body noun.food noun.object noun.person noun.phenomenon "
    "noun.plant noun.shape noun.substance"
)
_ALTERNATIVES = re.compile(r" / | or ")
_PARENTHESES = re.compile(r"^(?P<name>[^()]+) \((?P<hint>[^()]+)\)$")
_PLURALS = (
    ("ies", "y"),
    ("ves", "f"),
    ("ches", "ch"),
    ("shes", "sh"),
    ("sses", "ss"),
    ("xes", "x"),
    ("men", "man"),
    ("ae", "a"),
    ("i", "us"),
    ("s", ""),
)


class WordFinder:
    """Finds the rows of the noun synsets that a word or a class name may mean."""

    def __init__(self, wordnet: WordNet) -> None:
        """Index the words that NegFilter's cleaning changes or that have several spellings."""
        self._wordnet = wordnet
        self._respelled = _respellings(wordnet.words())

    def word(self, word: str) -> str | None:
        """Return the lower-cased lemma of a word, or None: "bird's nest" for "birds nest"."""
        lower = word.lower()
        for text in (lower.replace("_", " "), lower.strip()):
            if self._wordnet.rows(text, pos="noun"):
                return text
        respelled = self._respelled.get(_spelling(word), "")
        return respelled if self._wordnet.rows(respelled, pos="noun") else None

    def senses(self, word: str) -> list[int]:
        """Return the noun senses of a word, commonest first."""
        return self._wordnet.rows(self.word(word) or "", pos="noun")

    def rows(self, word: str) -> list[int]:
        """Return the noun senses of a word or else of its singular, commonest first."""
        return next(filter(None, map(self.senses, (word, *_singulars(word)))), [])

    def class_rows(self, name: str) -> list[int]:
        """Return the senses a class name may have; only depictable ones if there are any.

        "crane bird" is the crane that is a bird, "impala (antelope)" the impala that is an
        antelope, "gas mask or respirator" either. A name that is only a kind of something in
        WordNet ("toy store") has no senses: its general word would be another class.
        """
        match = _PARENTHESES.match(name)
        if match:
            parts = [(match["name"], hint) for hint in _ALTERNATIVES.split(match["hint"])]
        else:
            parts = [(part, "") for part in _ALTERNATIVES.split(name)]
        rows = list(dict.fromkeys(row for part in parts for row in self._part(*part)))
        # "shoes" is a noun of its own, somebody's situation.
        singular = [row for word in _singulars(name) for row in self.senses(word)]
        return self._depictable(rows) or self._depictable(singular) or rows

    def _depictable(self, rows: list[int]) -> list[int]:
        return [row for row in rows if self._wordnet.lexname(row) in DEPICTABLE]

    def _part(self, name: str, hint: str = "") -> list[int]:
        rows = self.rows(name)
        if hint:
            return self._below(rows, hint) or rows or self.rows(hint)
        if rows or " " not in name:
            return rows
        if name.lower().startswith("common "):
            return self._part(name.partition(" ")[2])
        return self._below(self.rows(name.rpartition(" ")[0]), name.rpartition(" ")[2])

    def _below(self, rows: list[int], hint: str) -> list[int]:
        # "adult male sheep": the last word is the kind.
        kinds = set(self.rows(hint) or self.rows(hint.rpartition(" ")[2]))
        return [row for row in rows if kinds & self._wordnet.above(row)]


def _spelling(word: str) -> str:
    """Return the letters alone, which "half-track", "half track" and "halftrack" share."""
    return "".join(filter(str.isalpha, word.lower()))


def _respellings(words: Iterable[str]) -> dict[str, str]:
    """Return {`_spelling`: the first word that has it} of the lower-cased words of other signs.

    Words without letters, such as "78", have none: any other name without letters would be one.
    """
    mixed = [word for word in words if not word.isalpha()]
    others = {ord(sign): None for sign in set("".join(mixed)) if not sign.isalpha()}
    # Of equal keys the last one counts.
    return {spelling: word for word in reversed(mixed) if (spelling := word.translate(others))}


def _singulars(word: str) -> Iterator[str]:
    for ending, singular in _PLURALS:
        if word.endswith(ending) and len(word) > len(ending) + 2:
            yield word[: -len(ending)] + singular
