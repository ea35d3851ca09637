"""The judge that needs no language model: WordNet."""

from __future__ import annotations

from collections.abc import Sequence

from negrefine.judges.base import Answer
from negrefine.judges.definitions import word_set
from negrefine.judges.subcategories import Subcategories
from negrefine.judges.word_finder import WordFinder

# "genus ginkgo" names one node of the tree of life. A genus alone ("ginkgo") is treated as the
# common noun for its plants, which is how a reader takes it in lower case.
_RANKS = word_set(
    "genus subgenus family subfamily superfamily order suborder superorder class subclass "
    "superclass division subdivision phylum subphylum kingdom subkingdom tribe"
)
# Lexicographer files where a name that is always capitalised has one bearer: a doctrine, a feast, a
# region. Not persons (a Finn is one of many), languages, plants or devices named after a person.
_ONE_BEARER = word_set(
    "noun.act noun.cognition noun.event noun.group noun.location noun.object noun.time"
)
_PARTICLES = word_set("a an and at de del in la le of on the to von")


class WordNetJudge:
    """Answers NegFilter's questions from the bundled WordNet: offline, repeatable, in milliseconds.

    Proper nouns are instances (cities, mountains, persons), names that are always capitalised and
    have one bearer, and taxa named with their rank ("genus ginkgo"). Subcategories are hyponyms,
    compounds that end in the class name, words whose definition starts from the class, and members
    of the biological family a class is defined by. The reason of an answer says which rule applied.

    A word or class name that is not in WordNet is undecided, except a phrase whose last word is a
    common noun.
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
        return [self._subcategories.answer(word, name) for word, name in pairs]

    def _proper_noun(self, word: str) -> Answer:
        lemma = self._finder.word(word)
        if lemma is None:
            return self._unknown(word)
        rows = self._wordnet.rows(lemma, pos="noun")
        rank = lemma.partition(" ")[0]
        if rank in _RANKS and self._wordnet.is_taxon(rows[0]):
            return Answer(True, f"names a taxon of rank {rank}: {self._definition(rows[0])}")
        instances = [row for row in rows if self._wordnet.is_instance(row)]
        capitals = {row: self._capitals(row, lemma) for row in rows}
        if instances and all(row in instances or capitals[row] != "none" for row in rows):
            kinds = self._wordnet.hypernyms(self._wordnet.synset(instances[0]))
            return Answer(True, f"instance of {kinds[0].lemmas[0]}")
        files = set(map(self._wordnet.lexname, rows))
        if files <= _ONE_BEARER and set(capitals.values()) == {"all"}:
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
        return self._wordnet.synset(row).definition

    def _capitals(self, row: int, lemma: str) -> str:
        """Return "all", "some" or "none": how many words of the lemma have a capital."""
        capitals = (
            [word[0].isupper() for word in written.split() if word not in _PARTICLES]
            for written in self._wordnet.synset(row).lemmas
            if written.lower() == lemma
        )
        fewest = min(capitals, key=sum)
        return "all" if all(fewest) else "some" if any(fewest) else "none"
