"""Word lists that negative labels are mined from."""

from __future__ import annotations

import gc
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import starmap
from pathlib import Path
from types import MappingProxyType

import pyarrow.compute as pc

from negrefine.constraints import Whole
from negrefine.errors import InputError
from negrefine.labels.text_files import read_text
from negrefine.labels.wordnet import WORDNET_NAME, plain_strings, read_columns

FULL = "full"
_NEGLABEL_EXCLUDED = ("noun.animal", "noun.food")
_CSP_EXCLUDED = (*_NEGLABEL_EXCLUDED, "noun.person", "noun.quantity", "noun.group", "adj.pert")

PRESETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"official-neglabel": _NEGLABEL_EXCLUDED, "official-csp": _CSP_EXCLUDED, FULL: ()}
)
"""Preset name -> lexicographer files it leaves out.

"official-neglabel" is the published pool of NegLabel: no animals and no food, because ImageNet's
classes are mostly these. "official-csp" is that of CSP and NegRefine, without persons, quantities,
groups and pertainyms too. "full" is every file, with damaged words repaired or dropped; it is the
one to choose when the images may show animals or food that are not classes.
"""

_COLUMNS = ("word", "lexname", "pos")
_POS = ("noun", "adj")


@dataclass(frozen=True, slots=True)
class LexiconEntry:
    """One word of one lexicographer file.

    Attributes:
        word: The word as mining reads it.
        lexname: Lexicographer file, such as "noun.artifact" or "adj.all".
        pos: "noun" or "adj".
    """

    word: str
    lexname: str
    pos: str


@dataclass(frozen=True, eq=False, repr=False)
class Lexicon:
    """An immutable, ordered word list. The order is the order of mining.

    Attributes:
        entries: The words; a word may occur in several files.
        name: Where they come from: "wordnet-3.1" or the path of a file.
        unlisted: Entries that the published word lists lack, which the official presets leave out.
        min_frequency: That of `wordnet`; 0 if no word was left out for being rare.
        counted: Its words are WordNet's, whose frequencies are known.

    Example:
        >>> words = negrefine.Lexicon.wordnet(min_frequency=20)
        >>> len(words), len(words.select("official-csp")) < len(words)
        (1018, True)
        >>> words.entries[0]
        LexiconEntry(word='object', lexname='noun.Tops', pos='noun')
    """

    entries: tuple[LexiconEntry, ...]
    name: str
    unlisted: frozenset[LexiconEntry] = frozenset()
    min_frequency: int = 0
    counted: bool = False

    def __post_init__(self) -> None:
        if not self.entries:
            raise InputError(f"The lexicon {self.name!r} holds no words: add rows.")

    @classmethod
    def wordnet(cls, *, min_frequency: int = 0) -> Lexicon:
        """Return the shipped nouns and adjectives of WordNet 3.1, lower-cased.

        An entry is the first word of a synset, once per lexicographer file. Files come in the order
        of the published run, animals and food last, words in database order.

        Args:
            min_frequency: Keep words tagged at least this often in the SemCor corpus, counted over
                the word's meanings in one file. 1 keeps about a sixth of the words.

        Raises:
            InputError: A negative `min_frequency`, or one that no word reaches.
        """
        Whole(0)("min_frequency", min_frequency)
        return _wordnet(min_frequency)

    @classmethod
    def from_tsv(cls, path: str | os.PathLike[str]) -> Lexicon:
        """Read a tab-separated file with the columns word, lexname and pos (".gz" is unpacked).

        Words and their order are kept as they stand: quotes, brackets and underscores mean nothing
        to the reader. Blank lines are skipped, further columns are ignored.

        Raises:
            InputError: A missing or unreadable file, a missing column, a bad row, no rows.
        """
        wanted = "a tab-separated file with the columns word, lexname and pos"
        file = Path(path)
        lines = read_text(file, "lexicon", wanted).split("\n")
        header = lines[0].rstrip("\r").split("\t")
        missing = [column for column in _COLUMNS if column not in header]
        if missing:
            raise InputError(
                f"The lexicon {str(file)!r} has no column {missing[0]!r}: "
                "its first line must name word, lexname and pos, separated by tabs."
            )
        return cls(_entries(_rows(lines, header, file)), str(file))

    @cached_property
    def lexnames(self) -> tuple[str, ...]:
        """The lexicographer files that occur, in order of first occurrence."""
        return tuple(dict.fromkeys(entry.lexname for entry in self.entries))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the rows in order, in hex: equal for equal content, whatever the name."""
        text = "".join(f"{e.word}\t{e.lexname}\t{e.pos}\n" for e in self.entries)
        return hashlib.sha256(text.encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"Lexicon({self.name!r}, {len(self)} entries, {len(self.lexnames)} files)"

    def select(self, lexicon_files: str | Sequence[str]) -> Lexicon:
        """Return the entries of some lexicographer files, in this lexicon's order.

        Args:
            lexicon_files: A preset (see `PRESETS`) or files such as ["noun.artifact", "adj.all"],
                as a list or a text with commas.

        Raises:
            InputError: An unknown preset or file, or nothing is left.
        """
        if isinstance(lexicon_files, str) and "." in lexicon_files:
            # The name of every lexicographer file holds a dot.
            lexicon_files = [name.strip() for name in lexicon_files.split(",") if name.strip()]
        entries: Iterable[LexiconEntry]
        if not isinstance(lexicon_files, str):
            wanted = set(lexicon_files)
            unknown = sorted(wanted - set(self.lexnames))
            if unknown:
                raise InputError(
                    f"The lexicon {self.name!r} has no file {unknown[0]!r}: "
                    f"choose from {', '.join(self.lexnames)}."
                )
            entries = (entry for entry in self.entries if entry.lexname in wanted)
        elif lexicon_files not in PRESETS:
            raise InputError(
                f"Unknown lexicon preset {lexicon_files!r}: choose from {', '.join(PRESETS)} or "
                f"give a list of files out of {', '.join(self.lexnames)}."
            )
        elif lexicon_files == FULL:
            entries = filter(None, map(_repaired, self.entries))
        else:
            allowed = (e for e in self.entries if e.lexname not in PRESETS[lexicon_files])
            entries = (e for e in allowed if e not in self.unlisted)
        kept = tuple(entries)
        if not kept:
            raise InputError(
                f"No word of the lexicon {self.name!r} is in the selected files: select others."
            )
        return replace(self, entries=kept)

    def words(self) -> set[str]:
        """Return the different words."""
        return {entry.word for entry in self.entries}

    def most_frequent(self, n: int) -> Lexicon:
        """Return the entries of the `n` most frequent words, in this lexicon's order.

        A word's frequency is how often it is tagged in the SemCor corpus, summed over the entries
        here. Of words with the same frequency those that stand first are taken, so that the words
        for a smaller `n` are among those for a larger one.

        Raises:
            InputError: A lexicon whose frequencies are not known, or `n` below one.
        """
        Whole(1)("max_words", n)
        if not self.counted:
            raise InputError(
                f"The frequencies of the words in the lexicon {self.name!r} are not known, so "
                "max_words cannot say which ones to leave out: shorten the lexicon, or leave "
                "max_words out."
            )
        known = word_frequencies()
        total: Counter[str] = Counter()
        for entry in self.entries:
            total[entry.word] += known.get((entry.word, entry.lexname), 0)
        # Sorting keeps the order of equal ones, which is that of the first entries.
        kept = set(sorted(total, key=total.__getitem__, reverse=True)[:n])
        return replace(self, entries=tuple(e for e in self.entries if e.word in kept))


def _entries(rows: Iterable[tuple[str, str, str]]) -> tuple[LexiconEntry, ...]:
    """Return entries, made without the collector's repeated scans of all that torch has loaded."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        return tuple(starmap(LexiconEntry, rows))
    finally:
        if enabled:
            gc.enable()


def _repaired(entry: LexiconEntry) -> LexiconEntry | None:
    word = " ".join(entry.word.lstrip("[").replace('"', "").split())
    if not any(character.isalpha() for character in word):
        return None
    return entry if word == entry.word else LexiconEntry(word, entry.lexname, entry.pos)


def _rows(
    lines: Sequence[str], header: Sequence[str], file: Path
) -> Iterator[tuple[str, str, str]]:
    """Yield word, lexname and pos of each line below the header."""
    word_at, lexname_at, pos_at = (header.index(column) for column in _COLUMNS)
    for number, line in enumerate(lines[1:], start=2):
        row = line.rstrip("\r")
        if not row:
            continue
        fields = row.split("\t")
        if len(fields) == len(header):
            word, lexname, pos = fields[word_at], fields[lexname_at], fields[pos_at]
            blank = not word.strip() or not lexname.strip()
            if not blank and pos in _POS:
                yield word, lexname, pos
                continue
            problem = f"the part of speech {pos!r}: write noun or adj"
            if blank:
                problem = "a blank word or lexname: fill it in or remove the line"
        else:
            problem = f"{len(fields)} fields and the header has {len(header)}: use single tabs"
        raise InputError(f"Line {number} of the lexicon {str(file)!r} has {problem}.")


@lru_cache(maxsize=4)
def _wordnet(min_frequency: int) -> Lexicon:
    table = read_columns(["lexname", "pos", "lemmas", "frequency", "listed"])
    # The frequency is null where an earlier row of the same file holds the same word.
    chosen = table.filter(pc.greater_equal(table["frequency"], min_frequency))
    if not len(chosen):
        raise InputError(
            f"No WordNet word reaches min_frequency {min_frequency}: the commonest is tagged "
            f"{pc.max(table['frequency']).as_py()} times."
        )
    words = pc.utf8_lower(pc.list_element(chosen["lemmas"], 0)).to_pylist()
    lexnames = plain_strings(chosen["lexname"])
    entries = _entries(zip(words, lexnames, plain_strings(chosen["pos"]), strict=True))
    # The scripts behind the published lists lost the line that opens a pair of antonyms in adj.all
    # ("abaxial" of abaxial/adaxial), so those words are missing from the official pools.
    listed = chosen["listed"].to_pylist()
    unlisted = frozenset(entry for entry, flag in zip(entries, listed, strict=True) if not flag)
    name = f"{WORDNET_NAME} (min_frequency {min_frequency})" if min_frequency else WORDNET_NAME
    return Lexicon(entries, name, unlisted, min_frequency, counted=True)


@lru_cache(maxsize=1)
def word_frequencies() -> dict[tuple[str, str], int]:
    """Return how often the word of each WordNet entry, (word, lexname), is tagged."""
    table = read_columns(["lexname", "lemmas", "frequency"])
    table = table.filter(pc.is_valid(table["frequency"]))
    words = pc.utf8_lower(pc.list_element(table["lemmas"], 0)).to_pylist()
    keys = zip(words, plain_strings(table["lexname"]), strict=True)
    return dict(zip(keys, table["frequency"].to_pylist(), strict=True))
