import gzip
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from negrefine.errors import InputError
from negrefine.labels.lexicon import PRESETS, Lexicon, LexiconEntry

SHARED = Path(__file__).resolve().parents[3] / "shared"
OFFICIAL = SHARED / "reference" / "lexicon_official.tsv.gz"
GOLDEN = SHARED / "golden" / "open" / "lexicon.tsv"

_ORDER = (
    "adj.ppl noun.Tops noun.artifact noun.attribute noun.cognition noun.communication noun.event "
    "noun.feeling noun.location noun.phenomenon noun.plant noun.possession noun.process "
    "noun.relation noun.shape noun.state noun.substance noun.time adj.all noun.act noun.body "
    "noun.object noun.motive adj.pert noun.group noun.person noun.quantity noun.animal noun.food"
)
FILE_ORDER = _ORDER.split()


def write(path: Path, *rows: str, header: str = "word\tlexname\tpos") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def words(lexicon: Lexicon, lexname: str) -> list[str]:
    return [entry.word for entry in lexicon.entries if entry.lexname == lexname]


def test_wordnet_holds_the_first_word_of_each_synset_once_per_file():
    lexicon = Lexicon.wordnet()
    assert len(lexicon) == len(set(lexicon.entries)) == 90_325
    assert lexicon.name == "wordnet-3.1"
    assert list(lexicon.lexnames) == FILE_ORDER
    assert LexiconEntry("mount everest", "noun.object", "noun") not in lexicon.entries
    assert LexiconEntry("everest", "noun.object", "noun") in lexicon.entries
    assert words(lexicon, "noun.Tops")[:3] == ["entity", "physical entity", "abstraction"]
    assert words(lexicon, "adj.ppl")[:2] == ["avenged", "unavenged"]
    assert {e.pos for e in lexicon.entries if e.lexname.startswith("adj.")} == {"adj"}


def test_wordnet_is_read_once_per_process():
    assert Lexicon.wordnet() is Lexicon.wordnet()


@pytest.mark.parametrize(("minimum", "size"), [(1, 14_567), (5, 3_912), (100, 89)])
def test_min_frequency_keeps_common_words(minimum, size):
    lexicon = Lexicon.wordnet(min_frequency=minimum)
    assert len(lexicon) == size
    assert set(lexicon.entries) < set(Lexicon.wordnet().entries)
    assert lexicon.name == f"wordnet-3.1 (min_frequency {minimum})"


def test_min_frequency_is_checked():
    with pytest.raises(
        InputError, match="min_frequency must be a whole number of at least 0, not -1"
    ):
        Lexicon.wordnet(min_frequency=-1)
    with pytest.raises(InputError, match=r"commonest is tagged \d+ times"):
        Lexicon.wordnet(min_frequency=10**6)


def test_official_presets_leave_out_their_files_and_unlisted_adjectives():
    lexicon = Lexicon.wordnet()
    neglabel = lexicon.select("official-neglabel")
    csp = lexicon.select("official-csp")
    assert len(neglabel) == 79_472
    assert len(csp) == 62_855
    assert set(FILE_ORDER) - set(neglabel.lexnames) == {"noun.animal", "noun.food"}
    assert set(neglabel.lexnames) - set(csp.lexnames) == {
        "noun.person",
        "noun.quantity",
        "noun.group",
        "adj.pert",
    }
    assert "abaxial" not in words(csp, "adj.all")
    assert "adaxial" in words(csp, "adj.all")
    assert "abaxial" in words(lexicon.select("full"), "adj.all")


def test_a_preset_of_a_preset_is_itself():
    official = Lexicon.wordnet().select("official-csp")
    assert official.select("official-csp").fingerprint == official.fingerprint


@pytest.mark.skipif(not OFFICIAL.is_file(), reason="reference material is not here")
def test_wordnet_agrees_with_the_published_word_lists():
    published = Lexicon.from_tsv(OFFICIAL)
    ours = Lexicon.wordnet().select("official-neglabel")
    assert len(published) == 79_455
    assert ours.lexnames == published.lexnames
    assert len(set(ours.entries) & set(published.entries)) == 79_347
    debris = [e for e in published.entries if '"' in e.word or "[" in e.word]
    missing = set(published.entries) - set(ours.entries) - set(debris)
    assert {e.word for e in missing} == {"pound1", "edward1"}


@pytest.mark.skipif(not OFFICIAL.is_file(), reason="reference material is not here")
def test_official_presets_keep_the_published_lists_verbatim():
    published = Lexicon.from_tsv(OFFICIAL)
    assert published.select("official-neglabel").entries == published.entries
    csp = published.select("official-csp")
    assert len(csp) == 79_455 - 3_400 - 2_407 - 9_619 - 1_195
    assert sum(word.startswith("[") for word in words(csp, "adj.all")) == 39
    assert 'y2"k compliant' in words(csp, "adj.all")
    full = published.select("full")
    assert "y2k compliant" in words(full, "adj.all")
    assert not any("[" in e.word or '"' in e.word for e in full.entries)


@pytest.mark.skipif(not GOLDEN.is_file(), reason="reference material is not here")
def test_golden_lexicon_is_read_row_by_row():
    lexicon = Lexicon.from_tsv(GOLDEN)
    lines = GOLDEN.read_text(encoding="utf-8").splitlines()[1:]
    assert [f"{e.word}\t{e.lexname}\t{e.pos}" for e in lexicon.entries] == lines
    assert len(lexicon) == 1800


def test_full_repairs_damaged_words(tmp_path):
    path = write(
        tmp_path / "words.tsv",
        "[weekly\tadj.all\tadj",
        'y2"k  compliant\tadj.all\tadj',
        "24/7\tnoun.time\tnoun",
        " new_york \tnoun.animal\tnoun",
    )
    full = Lexicon.from_tsv(path).select("full")
    assert [e.word for e in full.entries] == ["weekly", "y2k compliant", "new_york"]


def test_select_takes_a_list_of_files_in_the_lexicons_order():
    chosen = Lexicon.wordnet().select(["noun.food", "noun.shape"])
    assert chosen.lexnames == ("noun.shape", "noun.food")
    assert len(chosen) == 331 + len(words(Lexicon.wordnet(), "noun.food"))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ("official", "Unknown lexicon preset 'official': choose from official-neglabel"),
        (["noun.animals"], "no file 'noun.animals': choose from adj.ppl, noun.Tops"),
        ([], "No word of the lexicon 'wordnet-3.1' is in the selected files"),
    ],
)
def test_select_rejects_what_it_does_not_know(files, message):
    with pytest.raises(InputError, match=message):
        Lexicon.wordnet().select(files)


def test_preset_that_leaves_nothing_is_an_error(tmp_path):
    lexicon = Lexicon.from_tsv(write(tmp_path / "zoo.tsv", "cat\tnoun.animal\tnoun"))
    with pytest.raises(InputError, match="select others"):
        lexicon.select("official-csp")


def test_presets_are_documented_constants():
    assert set(PRESETS) == {"official-neglabel", "official-csp", "full"}
    with pytest.raises(TypeError):
        PRESETS["mine"] = ()  # type: ignore[index]


printable = st.text(
    st.characters(blacklist_categories=("Cs", "Cc")) | st.sampled_from("[\"_'"), min_size=1
).filter(str.strip)


@given(rows=st.lists(st.tuples(printable, st.sampled_from(("noun", "adj"))), min_size=1))
def test_tsv_round_trip_is_verbatim(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("lexicon") / "words.tsv.gz"
    lines = ["pos\tword\tnote\tlexname", *(f"{pos}\t{word}\t\t{pos}.all" for word, pos in rows)]
    path.write_bytes(gzip.compress("\r\n".join(lines).encode()))
    lexicon = Lexicon.from_tsv(path)
    assert [(e.word, e.pos) for e in lexicon.entries] == rows
    assert lexicon.name == str(path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("cat\tnoun.animal", "Line 3 .* has 2 fields and the header has 3"),
        ("cat\tnoun.animal\tnoun\textra", "Line 3 .* has 4 fields"),
        (" \tnoun.animal\tnoun", "Line 3 .* blank word or lexname"),
        ("cat\t\tnoun", "Line 3 .* blank word or lexname"),
        ("cat\tverb.motion\tverb", "Line 3 .* part of speech 'verb'"),
    ],
)
def test_bad_rows_name_their_line(tmp_path, row, message):
    path = write(tmp_path / "words.tsv", "dog\tnoun.animal\tnoun", row)
    with pytest.raises(InputError, match=message):
        Lexicon.from_tsv(path)


def test_blank_lines_and_a_byte_order_mark_are_harmless(tmp_path):
    path = tmp_path / "words.tsv"
    path.write_bytes(b"\xef\xbb\xbfword\tlexname\tpos\n\ncat\tnoun.animal\tnoun\n\n")
    assert [e.word for e in Lexicon.from_tsv(path).entries] == ["cat"]


def test_unusable_files_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        Lexicon.from_tsv(tmp_path / "none.tsv")
    with pytest.raises(InputError, match="no column 'lexname'"):
        Lexicon.from_tsv(write(tmp_path / "a.tsv", "cat\tnoun", header="word\tpos"))
    with pytest.raises(InputError, match="holds no words: add rows"):
        Lexicon.from_tsv(write(tmp_path / "b.tsv"))
    (tmp_path / "c.tsv").write_bytes(b"word\tlexname\tpos\n\xff\tnoun.animal\tnoun\n")
    with pytest.raises(InputError, match="not UTF-8"):
        Lexicon.from_tsv(tmp_path / "c.tsv")
    whole = gzip.compress(b"word\tlexname\tpos\ncat\tnoun.animal\tnoun\n")
    for name, content in (("d.tsv.gz", b"plain"), ("e.tsv.gz", whole[:-9])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match="not a complete gzip"):
            Lexicon.from_tsv(tmp_path / name)
    with pytest.raises(InputError, match="is a folder, not a regular file"):
        Lexicon.from_tsv(tmp_path)


def test_fingerprint_is_of_the_content_and_its_order(tmp_path):
    rows = ["cat\tnoun.animal\tnoun", "red\tadj.all\tadj"]
    a = Lexicon.from_tsv(write(tmp_path / "a.tsv", *rows))
    b = Lexicon.from_tsv(write(tmp_path / "b.tsv", *rows))
    c = Lexicon.from_tsv(write(tmp_path / "c.tsv", *rows[::-1]))
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert len(a.fingerprint) == 64
    assert repr(a) == f"Lexicon({str(tmp_path / 'a.tsv')!r}, 2 entries, 2 files)"


def test_a_lexicon_cannot_be_changed():
    with pytest.raises(AttributeError):
        Lexicon.wordnet().entries = ()  # type: ignore[misc]
    with pytest.raises(InputError, match="holds no words"):
        Lexicon((), "nothing")


def test_files_follow_each_other_without_gaps():
    lexnames = [entry.lexname for entry in Lexicon.wordnet().entries]
    assert sum(a != b for a, b in pairwise(lexnames)) == len(FILE_ORDER) - 1
