"""The proposer that needs no language model: WordNet's co-hyponyms of the classes."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence

from negrefine.constraints import Whole
from negrefine.judges.word_finder import DEPICTABLE, WordFinder
from negrefine.judges.wordnet import RANKS
from negrefine.labels.lexicon import word_frequencies
from negrefine.labels.wordnet import WordNet
from negrefine.proposers.base import WORDNET_PROPOSER
from negrefine.proposers.overlap import OverlapRules
from negrefine.proposers.senses import ChosenSense, choose_senses

_TAXON = re.compile(r"\b(?:sub|super)?(?:genus|family|order|class|division|phylum)\b")


class WordNetProposer:
    """Proposes what is beside a class in WordNet and what no class covers: offline, repeatable.

    For each class: the other kinds of its hypernyms (co-hyponyms), then those of the hypernyms of
    these (cousins) and so on for `steps` hypernyms, nearest first; at the same distance the words
    most frequent in WordNet's tagged texts, then the order of WordNet. None is a kind of a class,
    a class itself in other words or above a class, in any of the senses that the class names may
    have; nor an instance, a taxon or a name that EOE's overlap rules would remove. A synset is
    called by its first word that means it more often than anything else, and left out if there is
    none. A name that several classes lead to goes to each of them.

    Of a class name with several senses the one is meant that the other class names support
    (`negrefine.proposers.senses`). A name without a sense gets no proposals, of which whoever asks
    is warned: its general word would be another class.

    Args:
        steps: How many hypernyms up to go, at least 1.
        overlap: Leave out what the overlap rules would remove, so that n other names come instead.

    Example:
        >>> negrefine.WordNetProposer().propose_similar(names, 3)["dog"]
        ['fox', 'feeder', 'wolf']
    """

    name = WORDNET_PROPOSER
    why_nothing = "they have no sense in WordNet, or nothing beside them"

    def __init__(self, steps: int = 3, *, overlap: bool = True) -> None:
        """Read the bundled graph, once per process; InputError for no number of steps."""
        Whole(1)("steps", steps)
        self.steps, self.overlap = steps, overlap
        self._wordnet = WordNet.load()
        self._finder = WordFinder(self._wordnet)
        self._frequencies = word_frequencies()

    def senses(self, class_names: Sequence[str]) -> list[ChosenSense]:
        """Return which sense of each class name is meant."""
        return choose_senses(self._wordnet, self._finder, class_names)

    def propose_similar(self, class_names: Sequence[str], n: int) -> Mapping[str, Sequence[str]]:
        """Return the first n names beside each class, as `WordNetProposer` says."""
        chosen = self.senses(class_names)
        classes = {row for sense in chosen for row in sense.among}
        above = frozenset().union(*map(self._wordnet.above, classes))
        rules = OverlapRules(class_names)
        found: dict[str, list[str]] = {}
        for name, sense in zip(class_names, chosen, strict=True):
            names: dict[str, None] = {}
            for row in () if sense.row is None else self._beside(sense.row):
                text = self._word(row) if self._usable(row, classes, above) else ""
                if not text or (self.overlap and rules.objection(text)):
                    continue
                names[text] = None
                if len(names) == n:
                    break
            found[name] = list(names)
        return found

    def propose_far(self, class_names: Sequence[str], n: int) -> Sequence[str]:
        """Return nothing, with a warning: mining finds what is far from the classes in WordNet."""
        del class_names, n
        warnings.warn(
            "WordNet proposes nothing that is far from the classes: mining finds that there.",
            stacklevel=2,
        )
        return []

    def _beside(self, row: int) -> Iterator[int]:
        """Yield the kinds of the hypernyms of a synset, of the nearest hypernym first."""
        seen = {row}
        reached = [row]
        for _ in range(self.steps):
            reached = list(
                dict.fromkeys(up for each in reached for up in self._wordnet.parents(each))
            )
            level = {kind for up in reached for kind in self._wordnet.kinds(up)} - seen
            seen |= level
            yield from sorted(level, key=self._order)

    def _order(self, row: int) -> tuple[int, int]:
        key = (self._wordnet.lemmas(row)[0].lower(), self._wordnet.lexname(row))
        return -self._frequencies.get(key, 0), row

    def _word(self, row: int) -> str:
        """Return the first word of a synset that a reader would take to mean it, or "".

        "Worker" is the first word for the sterile member of a colony of ants, and means a person.
        """
        lemmas = self._wordnet.lemmas(row)
        ranked = any(lemma.partition(" ")[0] in RANKS for lemma in lemmas)
        if ranked or (lemmas[0].istitle() and _TAXON.search(self._wordnet.definition(row))):
            return ""
        # "Felis ocreata" beside "kaffir cat" is Latin.
        plain = [lemma for lemma in lemmas if not lemma[0].isupper()] or lemmas
        return next((word for word in plain if self._means(word, row)), "")

    def _means(self, word: str, row: int) -> bool:
        """Whether a synset is a word's first sense in its file, no other being more frequent."""
        file = self._wordnet.lexname(row)
        rows = self._wordnet.rows(word, pos="noun")
        if next(each for each in rows if self._wordnet.lexname(each) == file) != row:
            return False
        files = {self._wordnet.lexname(each) for each in rows}
        frequency = {each: self._frequencies.get((word.lower(), each), 0) for each in files}
        return frequency[file] == max(frequency.values())

    def _usable(self, row: int, classes: set[int], above: frozenset[int]) -> bool:
        wordnet = self._wordnet
        return (
            row not in above
            and wordnet.above(row).isdisjoint(classes)
            and wordnet.lexname(row) in DEPICTABLE
            and not wordnet.is_instance(row)
            and not wordnet.is_taxon(row)
        )
