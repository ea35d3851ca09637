"""WordNet 3.1 as a graph: the nouns and adjectives of the shipped data file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from negrefine.errors import InputError

WORDNET_NAME = "wordnet-3.1"
_DATA = Path(__file__).with_name("data") / f"{WORDNET_NAME}.parquet"


def read_columns(names: list[str]) -> Any:
    """Return these columns of the shipped data file as a `pyarrow.Table`, one row per synset."""
    try:
        # Decoding takes milliseconds; a thread pool would cost more than it saves, and so would
        # `read_table`, which imports much for folders of files.
        with pq.ParquetFile(_DATA) as file:
            return file.read(columns=names, use_threads=False)
    except FileNotFoundError as error:
        raise InputError(
            f"The WordNet data file {_DATA.name!r} is missing from {str(_DATA.parent)!r}: "
            "reinstall negrefine."
        ) from error


def plain_strings(column: Any) -> list[str]:
    """Return a dictionary column as a list in which equal strings are one object."""
    encoded = column.combine_chunks()
    values = encoded.dictionary.to_pylist()
    return [values[i] for i in encoded.indices.to_numpy().tolist()]


@dataclass(frozen=True, slots=True)
class Synset:
    """One meaning.

    Attributes:
        row: Its row in the data file, the identity of the synset.
        pos: "noun" or "adj".
        lexname: Lexicographer file, such as "noun.animal".
        lemmas: Its words as WordNet writes them, case kept, with spaces for underscores.
        instance: It names one thing (Mount Everest), not a kind of things.
        gloss: Definition and examples.
    """

    row: int
    pos: str
    lexname: str
    lemmas: tuple[str, ...]
    instance: bool
    gloss: str

    @property
    def definition(self) -> str:
        """The gloss without its examples."""
        return _definition(self.gloss)


class WordNet:
    """Read access to the shipped graph. Use `WordNet.load()`, which keeps one copy per process."""

    def __init__(self) -> None:
        links = ["hypernyms", "instance_hypernyms", "member_of"]
        table = read_columns(["pos", "lexname", "lemmas", "senses", "gloss", *links])
        self._pos = plain_strings(table["pos"])
        self._lexname = plain_strings(table["lexname"])
        # Text stays in Arrow until a synset is asked for; most never are.
        self._lemmas = table["lemmas"].combine_chunks()
        self._gloss = table["gloss"].combine_chunks()
        self._kinds = _Lists(table["hypernyms"])
        self._classes = _Lists(table["instance_hypernyms"])
        self._groups = _Lists(table["member_of"])
        self._above: dict[int, frozenset[int]] = {}
        self._words, self._rows, self._starts = self._build_index(table["senses"].combine_chunks())

    @staticmethod
    @lru_cache(maxsize=1)
    def load() -> WordNet:
        """Return the graph, read on the first call and shared after it."""
        return WordNet()

    def _build_index(self, senses: Any) -> tuple[dict[str, int], list[int], list[int]]:
        """Return {lower-cased lemma: code}, rows grouped by code and where each group starts.

        Within a group nouns come first and the commonest sense first.
        """
        encoded = pc.utf8_lower(self._lemmas.values).dictionary_encode()
        codes = encoded.indices.to_numpy()
        rows = pc.list_parent_indices(self._lemmas).to_numpy()
        adjective = np.array([pos == "adj" for pos in self._pos])[rows]
        order = np.lexsort((rows, senses.values.to_numpy(), adjective, codes))
        words = {word: code for code, word in enumerate(encoded.dictionary.to_pylist())}
        starts = np.concatenate(([0], np.cumsum(np.bincount(codes))))
        return words, rows[order].tolist(), starts.tolist()

    def __len__(self) -> int:
        return len(self._pos)

    def words(self) -> Iterator[str]:
        """Yield every lemma, lower-cased, once."""
        return iter(self._words)

    def synset(self, row: int) -> Synset:
        """Return the synset of one row of the data file."""
        return Synset(
            row=row,
            pos=self._pos[row],
            lexname=self._lexname[row],
            lemmas=self.lemmas(row),
            instance=self.is_instance(row),
            gloss=self._gloss[row].as_py(),
        )

    def lemmas(self, row: int) -> tuple[str, ...]:
        """Return the words of one row, without reading the rest of it."""
        return tuple(self._lemmas[row].as_py())

    def definition(self, row: int) -> str:
        """Return the definition of one row, without reading the rest of it."""
        return _definition(self._gloss[row].as_py())

    def synsets(self, word: str, *, pos: str | None = None) -> tuple[Synset, ...]:
        """Return the meanings of a word, commonest sense first, nouns before adjectives.

        Case does not matter and "_" reads as a space. Unknown words have no meanings.
        """
        return tuple(self.synset(row) for row in self.rows(word, pos=pos))

    def rows(self, word: str, *, pos: str | None = None) -> list[int]:
        """Return the rows of `synsets` without reading their texts."""
        code = self._words.get(word.lower().replace("_", " "))
        if code is None:
            return []
        # A word may be written in two ways in one synset ("A", "a").
        found = dict.fromkeys(self._rows[self._starts[code] : self._starts[code + 1]])
        return [row for row in found if pos is None or self._pos[row] == pos]

    def hypernyms(self, synset: Synset) -> tuple[Synset, ...]:
        """Return the direct hypernyms: the kinds it is a kind of, or an instance of."""
        return tuple(self.synset(row) for row in list(self.chains(synset.row, steps=1))[1:])

    def chains(self, row: int, *, steps: int | None = None) -> dict[int, int]:
        """Return {row of a hypernym: row one step below it}, nearest first; `row` maps to itself.

        Following the values from any key walks down the hypernym chain to `row`. `steps` limits the
        length of the chains.
        """
        below = {row: row}
        frontier = [row]
        while frontier and steps != 0:
            steps = None if steps is None else steps - 1
            reached = []
            for child in frontier:
                for parent in self._kinds[child] + self._classes[child]:
                    if parent not in below:
                        below[parent] = child
                        reached.append(parent)
            frontier = reached
        return below

    def kinds(self, row: int) -> tuple[int, ...]:
        """Return the rows of the direct hyponyms, the kinds of it but not its instances."""
        return self._below.get(row, ())

    def parents(self, row: int) -> list[int]:
        """Return the rows of the direct hypernyms, without those it is an instance of."""
        return self._kinds[row]

    @cached_property
    def _below(self) -> dict[int, tuple[int, ...]]:
        below: dict[int, list[int]] = {}
        for row in range(len(self)):
            for parent in self._kinds[row]:
                below.setdefault(parent, []).append(row)
        return {parent: tuple(rows) for parent, rows in below.items()}

    def above(self, row: int) -> frozenset[int]:
        """Return the keys of `chains(row)`, found once for each row and those above it."""
        found = self._above.get(row)
        if found is None:
            parents = self._kinds[row] + self._classes[row]
            found = frozenset([row]).union(*map(self.above, parents))
            self._above[row] = found
        return found

    def member_of(self, row: int) -> list[int]:
        """Return the rows of the groups it belongs to: a species its genus, a genus its family."""
        return self._groups[row]

    def lexname(self, row: int) -> str:
        """Return the lexicographer file of one row."""
        return self._lexname[row]

    def is_instance(self, row: int) -> bool:
        """Return whether the synset names one thing instead of a kind of things."""
        return bool(self._classes[row])

    def is_taxon(self, row: int) -> bool:
        """Return whether it names a taxonomic group: a genus, a family, an order."""
        return not self._taxonomic_groups.isdisjoint(self.above(row))

    @cached_property
    def _taxonomic_groups(self) -> frozenset[int]:
        name = "taxonomic group"
        return frozenset(row for row in self.rows(name) if name in self.lemmas(row))


def _definition(gloss: str) -> str:
    return gloss.partition('; "')[0]


class _Lists:
    """A list column of integers as two flat lists."""

    def __init__(self, column: Any) -> None:
        lists = column.combine_chunks()
        self._values: list[int] = lists.values.to_numpy().tolist()
        self._starts: list[int] = lists.offsets.to_numpy().tolist()

    def __getitem__(self, row: int) -> list[int]:
        return self._values[self._starts[row] : self._starts[row + 1]]
