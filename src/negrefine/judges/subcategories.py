"""Whether a word is a kind of a class, read from WordNet."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from negrefine.judges.base import Answer
from negrefine.judges.definitions import (
    common_name_of,
    defines_members,
    genus_phrase,
    suffixes,
    taxa,
)
from negrefine.judges.word_finder import WordFinder

if TYPE_CHECKING:
    from negrefine.labels.wordnet import WordNet

_NATURAL = frozenset({"noun.animal", "noun.plant"})


@dataclass(frozen=True, slots=True)
class _Class:
    """What a class name means.

    Attributes:
        name: The class name, lower-cased.
        rows: Its senses, and their synonyms by "common name for" in the glosses.
        lexnames: Lexicographer files of the senses.
        taxa: Genera, families and so on whose members a sense is defined as.
    """

    name: str
    rows: frozenset[int]
    lexnames: frozenset[str]
    taxa: frozenset[int]


class Subcategories:
    """Answers by hypernyms, compound names, definitions and biological families."""

    def __init__(self, wordnet: WordNet, finder: WordFinder) -> None:
        self._wordnet = wordnet
        self._finder = finder
        cache = lru_cache(maxsize=65536)
        self._senses = cache(finder.senses)
        self._class = cache(self._read_class)
        self._groups = cache(self._read_groups)
        self._members = cache(self._read_members)
        self._chains = cache(wordnet.chains)

    def answer(self, word: str, class_name: str) -> Answer:
        """Answer for one pair; undecided if one of the two is not in WordNet."""
        target = self._class(class_name)
        if not target.rows:
            return Answer(None, f"class name {class_name!r} is not in WordNet")
        senses = self._senses(word)
        reason = (
            self._by_hypernym(senses, target)
            or self._by_name(word, senses, target)
            or self._by_definition(senses, target)
            or self._by_taxon(senses, target)
        )
        if reason:
            return Answer(True, reason)
        if not senses and " " not in word.strip():
            return Answer(None, "not in WordNet")
        return Answer(False, f"nothing in WordNet makes it a kind of {class_name}")

    def _by_hypernym(self, senses: list[int], target: _Class) -> str | None:
        for sense in senses:
            if sense in target.rows:
                return f"another word for {target.name}"
            below = self._chains(sense)
            reached = [row for row in below if row in target.rows]
            if reached:
                chain = [reached[0]]
                while chain[-1] != sense:
                    chain.append(below[chain[-1]])
                names = " > ".join(self._wordnet.synset(row).lemmas[0] for row in chain[::-1][1:])
                return f"kind of {target.name}: {names}"
        return None

    def _by_name(self, word: str, senses: list[int], target: _Class) -> str | None:
        """The last word of a compound is the kind: an African daisy is a daisy."""
        name = word.lower().strip()
        if not name.endswith((f" {target.name}", f"-{target.name}")) or " of " in name:
            return None
        # A chain fern is not a chain: a compound in WordNet must be in one of the class's files.
        if senses and not any(self._wordnet.lexname(row) in target.lexnames for row in senses):
            return None
        return f"named as a kind of {target.name}"

    def _by_definition(self, senses: list[int], target: _Class) -> str | None:
        for sense in senses:
            definition = self._wordnet.synset(sense).definition
            # Shrubs with daisylike flowers: to an encoder, their images are images of daisies.
            looks_like = self._wordnet.lexname(sense) in target.lexnames and re.search(
                rf"\b{re.escape(target.name)}-?like\b", definition
            )
            if looks_like or any(
                self._chains(row).keys() & target.rows for row in self._members(sense, definition)
            ):
                return f"gloss: {definition!r}"
        return None

    def _read_members(self, sense: int, definition: str) -> list[int]:
        """Return the senses of a taxon's members: agarics, for "genus of gilled agarics".

        Only taxa need this: the hypernyms of everything else already include the genus term, and
        the hypernyms of a genus only say that it is a genus.
        """
        if not self._wordnet.is_taxon(sense):
            return []
        lexname = self._wordnet.lexname(sense)
        for phrase in suffixes(genus_phrase(definition)):
            rows = [r for r in self._finder.rows(phrase) if self._wordnet.lexname(r) == lexname]
            if rows:
                return rows
        return []

    def _by_taxon(self, senses: list[int], target: _Class) -> str | None:
        if not target.taxa:
            return None
        for sense in senses:
            shared = target.taxa & self._groups(sense)
            if shared:
                taxon = self._wordnet.synset(min(shared)).lemmas[0]
                return f"belongs to {taxon}, which defines {target.name}"
        return None

    def _read_class(self, name: str) -> _Class:
        rows = self._finder.class_rows(name)
        synonyms: list[int] = []
        groups: set[int] = set()
        for row in rows:
            definition = self._wordnet.synset(row).definition
            phrase = common_name_of(definition)
            if phrase:
                kinds = set(self._wordnet.chains(row, steps=1)) - {row}
                synonyms += [
                    r for p in suffixes(phrase) for r in self._finder.rows(p) if r in kinds
                ]
            if defines_members(definition):
                groups.update(self._defining_taxa(row, definition))
        return _Class(
            name=name.lower(),
            rows=frozenset(rows) | frozenset(synonyms),
            lexnames=frozenset(self._wordnet.lexname(row) for row in rows),
            taxa=frozenset(groups),
        )

    def _defining_taxa(self, row: int, definition: str) -> set[int]:
        """Return the taxa named by "of the family ..." or by a noun before the genus term."""
        lexname = self._wordnet.lexname(row)
        if lexname not in _NATURAL:
            return set()
        found = {r for name in taxa(definition) for r in self._taxon_rows(name)}
        kinds = self._wordnet.chains(row).keys()
        for modifier in genus_phrase(definition).split()[:-1]:
            for sense in self._finder.rows(modifier):
                if self._wordnet.lexname(sense) == lexname and sense not in kinds:
                    found.update(self._wordnet.member_of(sense))
        return found

    def _taxon_rows(self, name: str) -> list[int]:
        names = (name, f"genus {name}")
        rows = [row for n in names for row in self._wordnet.rows(n, pos="noun")]
        return [row for row in rows if self._wordnet.is_taxon(row)]

    def _read_groups(self, sense: int) -> frozenset[int]:
        """Return all taxa of a sense, by membership, by its hypernyms and by their glosses."""
        if self._wordnet.lexname(sense) not in _NATURAL:
            return frozenset()
        kinds = [r for r in self._wordnet.chains(sense) if self._wordnet.lexname(r) in _NATURAL]
        found = {sense} if self._wordnet.is_taxon(sense) else set()
        for row in kinds:
            found.update(self._wordnet.member_of(row))
            for name in taxa(self._wordnet.synset(row).definition):
                found.update(self._taxon_rows(name))
        pending = list(found)
        while pending:
            for group in self._wordnet.member_of(pending.pop()):
                if group not in found:
                    found.add(group)
                    pending.append(group)
        return frozenset(found)
