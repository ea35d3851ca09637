"""Whether a word is a proper noun, read from WordNet."""

from __future__ import annotations

from negrefine.judges.base import Answer
from negrefine.judges.definitions import word_set
from negrefine.judges.word_finder import WordFinder
from negrefine.labels.wordnet import WordNet

# "genus ginkgo" names one node of the tree of life. A genus alone ("ginkgo") is left to the
# common word for its plants, which is how it is read in lower case.
_RANKS = word_set(
    "genus subgenus family subfamily superfamily order suborder superorder class subclass "
    "superclass division subdivision phylum subphylum kingdom subkingdom tribe"
)
# Files where a name that is always capitalised has one bearer: a doctrine, a feast, a region.
# Not persons (a Finn is one of many), languages, plants or devices named after somebody.
_ONE_BEARER = word_set(
    "noun.act noun.cognition noun.event noun.group noun.location noun.object noun.time"
)
_PARTICLES = word_set("a an and at de del in la le of on the to von")


class ProperNouns:
    """Answers from three marks: instances, capitals and taxonomic ranks."""

    def __init__(self, wordnet: WordNet, finder: WordFinder) -> None:
        self._wordnet = wordnet
        self._finder = finder

    def answer(self, word: str) -> Answer:
        """Answer for one word. Unknown words are undecided, unless their head is a common noun."""
        lemma = self._finder.word(word)
        if lemma is None:
            return self._unknown(word)
        rows = self._wordnet.rows(lemma, pos="noun")
        if lemma.partition(" ")[0] in _RANKS and self._wordnet.is_taxon(rows[0]):
            return Answer(
                True,
                f"names a taxon of rank {lemma.partition(' ')[0]}: {self._definition(rows[0])}",
            )
        instances = [row for row in rows if self._wordnet.is_instance(row)]
        if instances and all(
            row in instances or self._capitals(row, lemma) != "none" for row in rows
        ):
            kinds = self._wordnet.hypernyms(self._wordnet.synset(instances[0]))
            return Answer(True, f"instance of {kinds[0].lemmas[0]}")
        if all(
            self._capitals(row, lemma) == "all" and self._wordnet.lexname(row) in _ONE_BEARER
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
        return self._wordnet.synset(row).definition

    def _capitals(self, row: int, lemma: str) -> str:
        """Return "all", "some" or "none": how many words of the lemma have a capital."""
        written = [w for w in self._wordnet.synset(row).lemmas if w.lower() == lemma]
        fewest = min(
            (
                [token[0].isupper() for token in w.split() if token not in _PARTICLES]
                for w in written
            ),
            key=sum,
        )
        return "all" if all(fewest) else "some" if any(fewest) else "none"
