"""Word lists that negative labels are mined from."""

from __future__ import annotations

import gc
import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import MappingProxyType

import pyarrow.compute as pc

from negrefine.errors import InputError
from negrefine.labels.wordnet import WORDNET_NAME, plain_strings, read_columns

FULL = "full"
_NEGLABEL_EXCLUDED = ("noun.animal", "noun.food")
_CSP_EXCLUDED = (*_NEGLABEL_EXCLUDED, "noun.person", "noun.quantity", "noun.group", "adj.pert")

PRESETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "official-neglabel": _NEGLABEL_EXCLUDED,
        "official-csp": _CSP_EXCLUDED,
        FULL: (),
    }
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
    """

    entries: tuple[LexiconEntry, ...]
    name: str
    unlisted: frozenset[LexiconEntry] = frozenset()

    def __post_init__(self) -> None:
        """Reject a lexicon without words."""
        if not self.entries:
            raise InputError(f"The lexicon {self.name!r} holds no words: nothing can be mined.")

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
        if not isinstance(min_frequency, int) or min_frequency < 0:
            raise InputError(
                f"min_frequency is {min_frequency!r}: give a whole number of 0 or more."
            )
        return _wordnet(min_frequency)

    @classmethod
    def from_tsv(cls, path: str | os.PathLike[str]) -> Lexicon:
        """Read a tab-separated file with the columns word, lexname and pos (".gz" is unpacked).

        Words and their order are kept as they stand: quotes, brackets and underscores mean nothing
        to the reader. Blank lines are skipped, further columns are ignored.

        Raises:
            InputError: A missing or unreadable file, a missing column, a bad row, no rows.
        """
        file = Path(path)
        lines = _read_text(file).split("\n")
        header = lines[0].rstrip("\r").split("\t")
        missing = [column for column in _COLUMNS if column not in header]
        if missing:
            raise InputError(
                f"The lexicon {str(file)!r} has no column {missing[0]!r}: "
                "its first line must name word, lexname and pos, separated by tabs."
            )
        with _collector_paused():
            entries = tuple(_rows(lines, header, file))
        if not entries:
            raise InputError(f"The lexicon {str(file)!r} is empty: add rows below the header.")
        return cls(entries, str(file))

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
        """Return the number of entries."""
        return len(self.entries)

    def __repr__(self) -> str:
        """Show the name and the size instead of all the words."""
        return f"Lexicon({self.name!r}, {len(self)} entries, {len(self.lexnames)} files)"

    def select(self, lexicon_files: str | Sequence[str]) -> Lexicon:
        """Return the entries of some lexicographer files, in this lexicon's order.

        Args:
            lexicon_files: A preset (see `PRESETS`) or files such as ["noun.artifact", "adj.all"],
                as a list or a text with commas.

        Raises:
            InputError: An unknown preset or file, or nothing is left.
        """
        if isinstance(lexicon_files, str):
            # The name of every lexicographer file holds a dot.
            if "." not in lexicon_files:
                return self._preset(lexicon_files)
            lexicon_files = [name.strip() for name in lexicon_files.split(",") if name.strip()]
        wanted = set(lexicon_files)
        unknown = sorted(wanted - set(self.lexnames))
        if unknown:
            raise InputError(
                f"The lexicon {self.name!r} has no file {unknown[0]!r}: "
                f"choose from {', '.join(self.lexnames)}."
            )
        return self._keep(entry for entry in self.entries if entry.lexname in wanted)

    def _preset(self, preset: str) -> Lexicon:
        if preset not in PRESETS:
            raise InputError(
                f"Unknown lexicon preset {preset!r}: choose from {', '.join(PRESETS)} or give a "
                f"list of files out of {', '.join(self.lexnames)}."
            )
        if preset == FULL:
            return self._keep(entry for e in self.entries if (entry := _repaired(e)) is not None)
        excluded = PRESETS[preset]
        return self._keep(
            entry
            for entry in self.entries
            if entry.lexname not in excluded and entry not in self.unlisted
        )

    def _keep(self, entries: Iterable[LexiconEntry]) -> Lexicon:
        kept = tuple(entries)
        if not kept:
            raise InputError(
                f"No word of the lexicon {self.name!r} is in the selected files: select others."
            )
        return Lexicon(kept, self.name, self.unlisted)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Spare the making of many small objects the repeated scans of everything torch has loaded."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _repaired(entry: LexiconEntry) -> LexiconEntry | None:
    word = " ".join(entry.word.lstrip("[").replace('"', "").split())
    if not any(character.isalpha() for character in word):
        return None
    return entry if word == entry.word else LexiconEntry(word, entry.lexname, entry.pos)


def _read_text(file: Path) -> str:
    try:
        raw = file.read_bytes()
        if file.suffix == ".gz":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(
            f"The lexicon {str(file)!r} does not exist: give a tab-separated file with the columns "
            "word, lexname and pos."
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"The lexicon {str(file)!r} is not UTF-8 text: save it so.") from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(
            f"The lexicon {str(file)!r} is not a complete gzip file: compress it again."
        ) from error
    except OSError as error:
        raise InputError(f"The lexicon {str(file)!r} cannot be read: {error.strerror}.") from error


def _rows(lines: Sequence[str], header: Sequence[str], file: Path) -> Iterator[LexiconEntry]:
    word_at, lexname_at, pos_at = (header.index(column) for column in _COLUMNS)
    for number, line in enumerate(lines[1:], start=2):
        row = line.rstrip("\r")
        if not row:
            continue
        fields = row.split("\t")
        if len(fields) != len(header):
            raise InputError(
                f"Line {number} of the lexicon {str(file)!r} has {len(fields)} fields and the "
                f"header has {len(header)}: separate them by single tabs."
            )
        word, lexname, pos = fields[word_at], fields[lexname_at], fields[pos_at]
        if not word.strip() or not lexname.strip():
            raise InputError(
                f"Line {number} of the lexicon {str(file)!r} has a blank word or lexname: "
                "fill it in or remove the line."
            )
        if pos not in _POS:
            raise InputError(
                f"Line {number} of the lexicon {str(file)!r} has the part of speech {pos!r}: "
                "write noun or adj."
            )
        yield LexiconEntry(word, lexname, pos)


@lru_cache(maxsize=4)
def _wordnet(min_frequency: int) -> Lexicon:
    table = read_columns(["lexname", "lemmas", "frequency", "listed"])
    # The frequency is null where an earlier row of the same file holds the same word.
    chosen = table.filter(pc.greater_equal(table["frequency"], min_frequency))
    if not len(chosen):
        raise InputError(
            f"No WordNet word reaches min_frequency {min_frequency}: the commonest is tagged "
            f"{pc.max(table['frequency']).as_py()} times."
        )
    words = pc.utf8_lower(pc.list_element(chosen["lemmas"], 0)).to_pylist()
    lexnames = plain_strings(chosen["lexname"])
    pos_of = {name: name.partition(".")[0] for name in set(lexnames)}
    with _collector_paused():
        entries = tuple(map(LexiconEntry, words, lexnames, map(pos_of.__getitem__, lexnames)))
    # The scripts behind the published lists lost the line that opens a pair of antonyms in adj.all
    # ("abaxial" of abaxial/adaxial), so those words are missing from the official pools.
    listed = chosen["listed"].to_pylist()
    unlisted = frozenset(entry for entry, flag in zip(entries, listed, strict=True) if not flag)
    name = f"{WORDNET_NAME} (min_frequency {min_frequency})" if min_frequency else WORDNET_NAME
    return Lexicon(entries, name, unlisted)
