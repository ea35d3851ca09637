"""The judge that needs no language model: WordNet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from negrefine.judges import definitions
from negrefine.judges.base import Answer
from negrefine.judges.word_finder import WordFinder

if TYPE_CHECKING:
    from negrefine.labels.wordnet import WordNet

# "genus ginkgo" names one node of the tree of life. A genus alone ("ginkgo") is treated as the
# common noun for its plants, which is how a reader takes it in lower case.
RANKS = definitions.word_set(
    "genus subgenus family subfamily superfamily order suborder superorder class subclass "
    "superclass division subdivision phylum subphylum kingdom subkingdom tribe"
)
# Lexicographer files where a name that is always capitalised has one bearer: a doctrine, a feast, a
# region. Not persons (a Finn is one of many), languages, plants or devices named after a person.
_ONE_BEARER = definitions.word_set(
    "noun.act noun.cognition noun.event noun.group noun.location noun.object noun.time"
)
_PARTICLES = definitions.word_set("a an and at de del in la le of on the to von")
_NATURAL = frozenset({"noun.animal", "noun.plant"})


class WordNetJudge:
    """Answers NegFilter's questions from the bundled WordNet: offline, repeatable, in milliseconds.

    Proper nouns are instances (cities, mountains, persons), names that are always capitalised and
    have one bearer, and taxa named with their rank ("genus ginkgo"). Subcategories are hyponyms,
    compounds that end in the class name, words whose definition starts from the class, and members
    of the biological family a class is defined by. The reason of an answer says which rule applied.

    A word or class name that is not in WordNet is undecided, except a phrase whose last word is a
    common noun.

    Example:
        >>> judge = negrefine.WordNetJudge()
        >>> [answer.yes for answer in judge.is_proper_noun(["paris", "bridge"])]
        [True, False]
        >>> judge.is_subcategory([("poodle", "dog")])[0].reason
        'kind of dog: dog'
    """

    name = "wordnet"

    def __init__(self) -> None:
        """Read the bundled graph, once per process."""
        from negrefine.labels.wordnet import WordNet

        self._wordnet = WordNet.load()
        self._finder = WordFinder(self._wordnet)
        self._subcategories = Subcategories(self._wordnet, self._finder)

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        """Is each word the name of one place, person or other entity?"""
        return [self._proper_noun(word) for word in words]

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """For each (word, class name): is the word a kind of the class?"""
        return self._subcategories.answers(pairs)

    def _proper_noun(self, word: str) -> Answer:
        lemma = self._finder.word(word)
        if lemma is None:
            return self._unknown(word)
        rows = self._wordnet.rows(lemma, pos="noun")
        rank = lemma.partition(" ")[0]
        if rank in RANKS and self._wordnet.is_taxon(rows[0]):
            return Answer(True, f"names a taxon of rank {rank}: {self._definition(rows[0])}")
        instances = [row for row in rows if self._wordnet.is_instance(row)]
        if instances and all(
            row in instances or self._capitals(row, lemma) != "none" for row in rows
        ):
            kinds = self._wordnet.hypernyms(self._wordnet.synset(instances[0]))
            return Answer(True, f"instance of {kinds[0].lemmas[0]}")
        if all(
            self._wordnet.lexname(row) in _ONE_BEARER and self._capitals(row, lemma) == "all"
            for row in rows
        ):
            return Answer(True, f"always capitalised: {self._definition(rows[0])}")
        common = next(row for row in rows if row not in instances)
        return Answer(False, f"a common noun: {self._definition(common)}")

    def _unknown(self, word: str) -> Answer:
        head = word.strip().rpartition(" ")[2]
        lemma = self._finder.word(head) if head != word.strip() else None
        if lemma is not None and any(
            self._capitals(row, lemma) == "none" for row in self._wordnet.rows(lemma, pos="noun")
        ):
            return Answer(False, f"a phrase about the common noun {head!r}")
        return Answer(None, "not in WordNet")

    def _definition(self, row: int) -> str:
        return self._wordnet.definition(row)

    def _capitals(self, row: int, lemma: str) -> str:
        """Return "all", "some" or "none": how many words of the lemma have a capital."""
        capitals = (
            [word[0].isupper() for word in written.split() if word not in _PARTICLES]
            for written in self._wordnet.lemmas(row)
            if written.lower() == lemma
        )
        fewest = min(capitals, key=sum)
        return "all" if all(fewest) else "some" if any(fewest) else "none"


@dataclass(frozen=True, slots=True)
class _Class:
    """A class name in lower case and what it means; lexnames are those of the senses."""

    name: str
    # Its senses, and their synonyms by "common name for" in the glosses.
    rows: frozenset[int]
    lexnames: frozenset[str]
    # Genera, families and so on whose members a sense is defined as.
    taxa: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Word:
    """What most class names are ruled out by.

    Attributes:
        ending: The word in lower case, whose last word may be a class name.
        senses: Its noun senses, commonest first.
        kinds: All their hypernyms, those of the members that a sense is defined by, and themselves.
        likenesses: Definitions that hold "like".
        unknown: It is no phrase, and not in WordNet.
    """

    ending: str
    senses: list[int]
    kinds: frozenset[int]
    likenesses: str
    unknown: bool


class Subcategories:
    """Answers by hypernyms, compound names, definitions and biological families."""

    def __init__(self, wordnet: WordNet, finder: WordFinder) -> None:
        self._wordnet = wordnet
        self._finder = finder
        cache = lru_cache(maxsize=65536)
        self._senses = cache(finder.senses)
        self._word = cache(self._read_word)
        self._no = cache(_no)
        self._class = cache(self._read_class)
        self._groups = cache(self._read_groups)
        self._members = cache(self._read_members)
        self._chains = cache(wordnet.chains)

    def answers(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        """Return `answer` of each pair, without trying rules that cannot apply."""
        return [
            self._no(name)
            if self._is_ruled_out(self._word(word), name)
            else self.answer(word, name)
            for word, name in pairs
        ]

    def _is_ruled_out(self, word: _Word, class_name: str) -> bool:
        """Whether it is quickly seen that the answer is no."""
        target = self._class(class_name)
        return bool(
            target.rows
            and not word.unknown
            and target.rows.isdisjoint(word.kinds)
            and not word.ending.endswith(target.name)
            and not (word.likenesses and target.name in word.likenesses)
            and all(target.taxa.isdisjoint(self._groups(s)) for s in word.senses if target.taxa)
        )

    def answer(self, word: str, class_name: str) -> Answer:
        """Answer for one pair; undecided if one of the two is not in WordNet."""
        target = self._class(class_name)
        if not target.rows:
            return Answer(None, f"class name {class_name!r} is not in WordNet")
        senses = self._senses(word)
        reason = next(self._reasons(word, senses, target), None)
        if reason:
            return Answer(True, reason)
        if not senses and " " not in word.strip():
            return Answer(None, "not in WordNet")
        return self._no(class_name)

    def _reasons(self, word: str, senses: list[int], target: _Class) -> Iterator[str]:
        yield from self._by_hypernym(senses, target)
        # The last word of a compound is the kind: an African daisy is a daisy. But a chain fern is
        # not a chain: a compound in WordNet must be in one of the class's files.
        name = word.lower().strip()
        if name.endswith((f" {target.name}", f"-{target.name}")) and " of " not in name:
            files = set(map(self._wordnet.lexname, senses))
            if not senses or files & target.lexnames:
                yield f"named as a kind of {target.name}"
        yield from self._by_definition(senses, target)
        for sense in senses if target.taxa else ():
            shared = target.taxa & self._groups(sense)
            if shared:
                taxon = self._wordnet.lemmas(min(shared))[0]
                yield f"belongs to {taxon}, which defines {target.name}"

    def _by_hypernym(self, senses: list[int], target: _Class) -> Iterator[str]:
        for sense in senses:
            below = self._chains(sense)
            row = next((row for row in below if row in target.rows), None)
            if row == sense:
                yield f"another word for {target.name}"
            elif row is not None:
                names: list[str] = []
                while row != sense:
                    names.insert(0, self._wordnet.lemmas(row)[0])
                    row = below[row]
                yield f"kind of {target.name}: {' > '.join(names)}"

    def _by_definition(self, senses: list[int], target: _Class) -> Iterator[str]:
        for sense in senses:
            definition = self._wordnet.definition(sense)
            # Shrubs with daisylike flowers: to an encoder, their images are images of daisies.
            looks_like = self._wordnet.lexname(sense) in target.lexnames and re.search(
                rf"\b{re.escape(target.name)}-?like\b", definition
            )
            if looks_like or any(
                self._chains(row).keys() & target.rows for row in self._members(sense, definition)
            ):
                yield f"gloss: {definition!r}"

    def _read_word(self, word: str) -> _Word:
        senses = self._senses(word)
        glosses = {sense: self._wordnet.definition(sense) for sense in senses}
        members = [row for sense in senses for row in self._members(sense, glosses[sense])]
        return _Word(
            ending=word.lower().strip(),
            senses=senses,
            kinds=frozenset().union(*map(self._wordnet.above, (*senses, *members))),
            likenesses="; ".join(text for text in glosses.values() if "like" in text),
            unknown=not senses and " " not in word.strip(),
        )

    def _read_members(self, sense: int, definition: str) -> list[int]:
        """Return the senses of a taxon's members: agarics, for "genus of gilled agarics"."""
        # The hypernyms of everything else include the genus term.
        if not self._wordnet.is_taxon(sense):
            return []
        lexname = self._wordnet.lexname(sense)
        for phrase in definitions.suffixes(definitions.genus_phrase(definition)):
            rows = [r for r in self._finder.rows(phrase) if self._wordnet.lexname(r) == lexname]
            if rows:
                return rows
        return []

    def _read_class(self, name: str) -> _Class:
        rows = self._finder.class_rows(name)
        synonyms: set[int] = set()
        groups: set[int] = set()
        for row in rows:
            definition = self._wordnet.definition(row)
            kinds = set(self._wordnet.chains(row, steps=1)) - {row}
            for phrase in definitions.suffixes(definitions.common_name_of(definition)):
                synonyms |= kinds.intersection(self._finder.rows(phrase))
            if definitions.MEMBERS.match(definition):
                groups |= self._defining_taxa(row, definition)
        return _Class(
            name=name.lower(),
            rows=frozenset(synonyms.union(rows)),
            lexnames=frozenset(self._wordnet.lexname(row) for row in rows),
            taxa=frozenset(groups),
        )

    def _defining_taxa(self, row: int, definition: str) -> set[int]:
        """Return the taxa named by "of the family ..." or by a noun before the genus term."""
        lexname = self._wordnet.lexname(row)
        if lexname not in _NATURAL:
            return set()
        found = set(self._taxon_rows(definition))
        kinds = self._chains(row)
        for modifier in definitions.genus_phrase(definition).split()[:-1]:
            for sense in self._finder.rows(modifier):
                if self._wordnet.lexname(sense) == lexname and sense not in kinds:
                    found.update(self._wordnet.member_of(sense))
        return found

    def _taxon_rows(self, definition: str) -> list[int]:
        """Return the taxa after "of the genus", "of the family" and other ranks."""
        taxa = definitions.TAXON.findall(definition)
        names = [name for taxon in taxa for name in (taxon, f"genus {taxon}")]
        rows = [row for name in names for row in self._wordnet.rows(name, pos="noun")]
        return [row for row in rows if self._wordnet.is_taxon(row)]

    def _read_groups(self, sense: int) -> frozenset[int]:
        """Return all taxa of a sense, by membership, by its hypernyms and by their glosses."""
        if self._wordnet.lexname(sense) not in _NATURAL:
            return frozenset()
        pending = [sense] if self._wordnet.is_taxon(sense) else []
        for row in self._chains(sense):
            if self._wordnet.lexname(row) in _NATURAL:
                pending += self._wordnet.member_of(row)
                pending += self._taxon_rows(self._wordnet.definition(row))
        found: set[int] = set()
        while pending:
            group = pending.pop()
            if group not in found:
                found.add(group)
                pending += self._wordnet.member_of(group)
        return frozenset(found)


def _no(class_name: str) -> Answer:
    return Answer(False, f"nothing in WordNet makes it a kind of {class_name}")
