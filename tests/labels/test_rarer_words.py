"""Lexicons bounded by frequency, and what is said about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from negrefine import CSP, Lexicon, load_detector
from negrefine.detectors.loading import load_left_out
from negrefine.encoders import CLIPEncoder
from negrefine.errors import InputError
from negrefine.labels.lexicon import LexiconEntry
from negrefine.labels.rarer_words import LeftOut, bounded


def test_the_most_frequent_words_stay_in_their_order() -> None:
    full = Lexicon.wordnet().select("official-csp")
    some = {n: full.most_frequent(n) for n in (1, 500, 2000, 10**6)}
    assert some[10**6].entries == full.entries
    assert [len(some[n].words()) for n in (1, 500, 2000)] == [1, 500, 2000]
    assert some[1].words() < some[500].words() < some[2000].words()
    for lexicon in some.values():
        kept = set(lexicon.entries)
        assert lexicon.entries == tuple(entry for entry in full.entries if entry in kept)
    # Every word that is tagged at all comes before those that are not.
    tagged = Lexicon.wordnet(min_frequency=1).select("official-csp").words()
    assert full.most_frequent(len(tagged)).words() == tagged
    assert {"time", "work", "good"} < some[500].words()


def test_a_lexicon_of_ones_own_has_no_frequencies() -> None:
    own = Lexicon((LexiconEntry("oak", "noun.plant", "noun"),), "mine")
    with pytest.raises(InputError, match="'mine' are not known, so max_words cannot"):
        own.most_frequent(1)
    for n in (0, -1, True, 1.5):
        with pytest.raises(InputError, match="max_words must be a whole number"):
            Lexicon.wordnet().most_frequent(n)  # type: ignore[arg-type]


def test_what_is_left_out_is_counted() -> None:
    full = Lexicon.wordnet().select("official-csp").words()
    assert bounded(Lexicon.wordnet(), "official-csp", None)[1] is None
    assert bounded(Lexicon.wordnet(), "official-csp", len(full))[1] is None
    words, left_out = bounded(Lexicon.wordnet(), "official-csp", 20_000)
    assert left_out == LeftOut(len(full) - 20_000, len(full), "max_words 20000")
    assert str(left_out) == (
        f"Left out {len(full) - 20_000:,} rarer words of {len(full):,} (max_words 20000): scores "
        "are not those of the full lexicon."
    )
    frequent = Lexicon.wordnet(min_frequency=1)
    words, left_out = bounded(frequent, "official-csp", None)
    assert left_out == LeftOut(len(full) - len(words.words()), len(full), "min_frequency 1")
    words, left_out = bounded(frequent, "official-csp", 100)
    assert left_out == LeftOut(len(full) - 100, len(full), "min_frequency 1, max_words 100")


def test_a_saved_detector_says_what_was_left_out(
    builtin_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    files = ["noun.shape", "adj.ppl"]
    detector = CSP(builtin_encoder, lexicon_files=files, max_words=60, n_groups=2)
    detector.fit(["dog", "cat"]).save(tmp_path / "d")
    n = len(Lexicon.wordnet().select(files).words())
    expected = LeftOut(n - 60, n, "max_words 60")
    loaded = load_detector(tmp_path / "d", builtin_encoder)
    assert (detector.left_out_, load_left_out(tmp_path / "d")) == (expected, expected)
    assert isinstance(loaded, CSP)
    assert (loaded.left_out_, loaded.max_words) == (expected, 60)
    assert loaded.identity() == detector.identity()
    CSP(builtin_encoder, lexicon_files=files, n_groups=2).fit(["dog", "cat"]).save(tmp_path / "e")
    assert load_left_out(tmp_path / "e") is None
