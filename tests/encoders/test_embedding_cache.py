"""Prompt embeddings on disk: nothing encoded twice, and nothing broken by a broken file."""

from __future__ import annotations

import copy
import os
import runpy
import signal
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import CLASS_NAMES
from negrefine import CSP, Lexicon, NegLabel, Prompts, load_encoder
from negrefine.encoders import CLIPEncoder
from negrefine.encoders.base import FloatArray
from negrefine.encoders.embedding_cache import EmbeddingCache
from negrefine.errors import InputError
from negrefine.labels.embedding import embed, ensemble

TEMPLATES = ("a photo of {}", "{}")


def counted(encoder: CLIPEncoder) -> list[str]:
    """Note every text that an encoder is asked for from now on."""
    asked: list[str] = []
    encode = encoder.encode_texts

    def noting(texts: Sequence[str], batch_size: int = 1024) -> FloatArray:
        asked.extend(texts)
        return encode(texts, batch_size)

    encoder.encode_texts = noting  # type: ignore[method-assign, assignment]
    return asked


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., CLIPEncoder]:
    def loading(**options: object) -> CLIPEncoder:
        options.setdefault("cache", tmp_path / "cache" / "e.sqlite")
        return load_encoder("builtin", device="cpu", **options)  # type: ignore[arg-type]

    return loading


def test_a_second_fit_encodes_nothing_it_has_seen(
    load: Callable[..., CLIPEncoder], small_lexicon: Lexicon
) -> None:
    first = CSP(load(), lexicon=small_lexicon, lexicon_files="full", n_groups=2).fit(CLASS_NAMES)
    encoder = load()
    asked = counted(encoder)
    second = CSP(encoder, lexicon=small_lexicon, lexicon_files="full", n_groups=2).fit(CLASS_NAMES)
    assert asked == []
    assert second.identity() == first.identity()
    other = CSP(
        encoder, lexicon=small_lexicon, lexicon_files="full", n_groups=3, top_fraction=0.5
    ).fit([*CLASS_NAMES, "hammerhead"])
    assert {text for text in asked if "hammerhead" not in text} == set()
    assert asked
    plain = CSP(
        load(cache=False), lexicon=small_lexicon, lexicon_files="full", n_groups=3, top_fraction=0.5
    ).fit([*CLASS_NAMES, "hammerhead"])
    np.testing.assert_allclose(other.class_features_, plain.class_features_, atol=1e-6)
    assert [n.text for n in other.negative_labels_] == [n.text for n in plain.negative_labels_]


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.text("ab é", min_size=1, max_size=4), max_size=8),
    st.lists(st.text("ab é", min_size=1, max_size=4), max_size=8),
)
def test_equals_the_plain_ensemble_whatever_is_known(
    tmp_path_factory: pytest.TempPathFactory,
    builtin_encoder: CLIPEncoder,
    before: list[str],
    names: list[str],
) -> None:
    encoder = load_encoder("builtin", device="cpu", cache=tmp_path_factory.mktemp("c") / "e.sqlite")
    embed(encoder, before, TEMPLATES)
    found = embed(encoder, names, TEMPLATES)
    expected = ensemble(builtin_encoder.encode_texts, names, TEMPLATES)
    assert found.dtype == np.float32
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-6)
    asked = counted(encoder)
    np.testing.assert_array_equal(embed(encoder, names, TEMPLATES), found)
    assert not any(asked)


def test_templates_precision_and_models_do_not_mix(
    load: Callable[..., CLIPEncoder], tiny_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    rows = embed(load(), ["dog"], TEMPLATES)
    assert not np.array_equal(embed(load(), ["dog"], TEMPLATES[:1]), rows)
    half = load(dtype="bfloat16")
    asked = counted(half)
    embed(half, ["dog"], TEMPLATES)
    assert len(asked) == 2
    other = load_encoder(tiny_encoder.name, cache=tmp_path / "cache" / "e.sqlite")
    assert embed(other, ["dog"], TEMPLATES).shape[1] == other.dim != rows.shape[1]


def test_stays_below_its_size_and_keeps_what_was_used_last(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "e.sqlite", max_bytes=400_000)
    rows = np.random.default_rng(0).standard_normal((1200, 128)).astype(np.float32)
    for start in range(0, 1200, 100):
        cache.put("m", [f"word {i}" for i in range(start, start + 100)], rows[start : start + 100])
    found = cache.get("m", [f"word {i}" for i in range(1200)])
    known = [i for i, row in enumerate(found) if row is not None]
    assert 300 < len(known) < 800
    assert known == list(range(1200 - len(known), 1200))
    for i in known:
        np.testing.assert_array_equal(found[i], rows[i])
    with sqlite3.connect(tmp_path / "e.sqlite") as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert (tmp_path / "e.sqlite").stat().st_size <= 450_000


def test_a_changed_row_is_encoded_again(load: Callable[..., CLIPEncoder], tmp_path: Path) -> None:
    expected = embed(load(), ["dog", "cat"], TEMPLATES)
    with sqlite3.connect(tmp_path / "cache" / "e.sqlite") as db:
        (vector,) = db.execute("SELECT vector FROM embeddings WHERE text = 'cat'").fetchone()
        changed = bytes([vector[0] ^ 1]) + vector[1:]
        db.execute("UPDATE embeddings SET vector = ? WHERE text = 'cat'", (changed,))
    db.close()
    encoder = load()
    asked = counted(encoder)
    np.testing.assert_allclose(embed(encoder, ["dog", "cat"], TEMPLATES), expected, atol=1e-6)
    assert asked == ["a photo of cat", "cat"]
    asked.clear()
    embed(load(), ["cat"], TEMPLATES)
    assert asked == []


def test_a_copied_encoder_shares_the_file(load: Callable[..., CLIPEncoder]) -> None:
    encoder = load()
    rows = embed(encoder, ["dog"], TEMPLATES)
    other = copy.deepcopy(encoder)
    asked = counted(other)
    np.testing.assert_array_equal(embed(other, ["dog"], TEMPLATES), rows)
    assert asked == []


def filled(load: Callable[..., CLIPEncoder], tmp_path: Path) -> Path:
    """Return a cache of cat, dog and hat that no process has open."""
    embed(load(), ["cat", "dog", "hat"], TEMPLATES)
    path = tmp_path / "cache" / "e.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


def test_a_text_that_became_another_does_not_give_it_its_embedding(
    load: Callable[..., CLIPEncoder], builtin_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    content = filled(load, tmp_path).read_bytes()
    places = [i for i in range(len(content)) if content[i : i + 3] == b"cat"]
    # In the table and in its index.
    assert len(places) >= 2
    expected = ensemble(builtin_encoder.encode_texts, ["cat", "bat"], TEMPLATES)
    for place in places:
        changed = tmp_path / f"{place}.sqlite"
        changed.write_bytes(content[:place] + b"b" + content[place + 1 :])
        found = embed(load(cache=changed), ["cat", "bat"], TEMPLATES)
        np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize(
    "change",
    [
        "vector = 'abc'",
        "vector = 5",
        "used = 'x'",
        "checksum = 'x'",
        "vector = x'00000000', checksum = 558161692",
        "vector = (SELECT vector FROM embeddings WHERE text = 'dog')",
        "text = CAST(text AS BLOB)",
        "text = CAST(x'ff' || text AS TEXT)",
        "space = 7",
    ],
)
def test_values_of_another_kind_are_computed_again(
    change: str, load: Callable[..., CLIPEncoder], builtin_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    path = filled(load, tmp_path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE embeddings SET {change} WHERE text = 'cat'")  # noqa: S608
    expected = ensemble(builtin_encoder.encode_texts, ["cat", "dog", "hat"], TEMPLATES)
    for _ in range(2):
        found = embed(load(), ["cat", "dog", "hat"], TEMPLATES)
        np.testing.assert_allclose(found, expected, atol=2e-6)


def test_an_embedding_of_another_length_is_computed_again(
    load: Callable[..., CLIPEncoder], builtin_encoder: CLIPEncoder
) -> None:
    encoder = load()
    assert encoder.text_cache is not None
    put = encoder.text_cache.put
    encoder.text_cache.put = lambda space, texts, rows: put(space, texts, rows[:, :5])  # type: ignore[method-assign]
    embed(encoder, ["cat", "dog"], TEMPLATES)
    expected = ensemble(builtin_encoder.encode_texts, ["cat", "dog"], TEMPLATES)
    np.testing.assert_allclose(embed(load(), ["cat", "dog"], TEMPLATES), expected, atol=2e-6)


@pytest.mark.parametrize("size", [50, 2000, 8192])
def test_a_damaged_cache_is_begun_anew(
    size: int, load: Callable[..., CLIPEncoder], builtin_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    path = filled(load, tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    expected = ensemble(builtin_encoder.encode_texts, ["cat", "dog"], TEMPLATES)
    with pytest.warns(UserWarning, match=r"e\.sqlite.* was damaged .* begun anew"):
        found = embed(load(), ["cat", "dog"], TEMPLATES)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    encoder = load()
    asked = counted(encoder)
    np.testing.assert_array_equal(embed(encoder, ["cat", "dog"], TEMPLATES), found)
    assert asked == []


def test_in_the_default_place_anything_damaged_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEGREFINE_CACHE", str(tmp_path))
    (tmp_path / "embeddings.sqlite").write_bytes(b"nothing like a database" * 200)
    with pytest.warns(UserWarning, match="begun anew"):
        EmbeddingCache().put("m", ["a"], np.ones((1, 4), np.float32))
    (row,) = EmbeddingCache().get("m", ["a"])
    np.testing.assert_array_equal(row, np.ones(4))


@pytest.mark.parametrize(
    "make",
    [
        "CREATE TABLE embeddings (id INTEGER PRIMARY KEY, text TEXT)",
        "CREATE TABLE customers (name TEXT)",
        "PRAGMA application_id = 5",
        "PRAGMA user_version = 3",
    ],
)
def test_the_database_of_another_program_is_not_touched(make: str, tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(make)
    before = path.read_bytes()
    cache = EmbeddingCache(path)
    with pytest.warns(
        UserWarning, match=r"app\.db.* cannot be used \(a database of another program"
    ):
        cache.put("m", ["a"], np.ones((1, 4), np.float32))
    assert cache.get("m", ["a"]) == [None]
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["app.db"]


_FIRST_VERSION = """
CREATE TABLE spaces (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE embeddings (
    id INTEGER PRIMARY KEY,
    space INTEGER NOT NULL REFERENCES spaces (id),
    text TEXT NOT NULL,
    vector BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    used INTEGER NOT NULL,
    UNIQUE (space, text)
);
CREATE INDEX by_use ON embeddings (used);
INSERT INTO spaces VALUES (1, 'm');
INSERT INTO embeddings VALUES (1, 1, 'a', x'00000000', 558161692, 1);
"""


def test_a_cache_of_the_first_version_is_emptied_and_says_so_once(tmp_path: Path) -> None:
    path = tmp_path / "e.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(_FIRST_VERSION)
    with pytest.warns(UserWarning, match=r"e\.sqlite' are of an earlier version"):
        assert EmbeddingCache(path).get("m", ["a"]) == [None]
    EmbeddingCache(path).put("m", ["a"], np.ones((1, 4), np.float32))
    (row,) = EmbeddingCache(path).get("m", ["a"])
    np.testing.assert_array_equal(row, np.ones(4))


def test_a_path_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert EmbeddingCache("~/x/e.sqlite").path == tmp_path / "x" / "e.sqlite"
    with pytest.raises(InputError, match="home directory in '~nobody-here/e' is not known"):
        EmbeddingCache("~nobody-here/e")
    with pytest.warns(UserWarning, match=r"'~nobody-here/e'.* No text embedding is kept"):
        assert load_encoder("builtin", device="cpu", cache="~nobody-here/e").text_cache is None


def test_damaged_caches_of_every_kind(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "fuzz" / "caches.py"
    fuzz = runpy.run_path(str(script))["CacheFuzz"](tmp_path, seed=1)
    ends = [fuzz.run(number) for number in range(24)]
    assert set(ends) <= {"used", "begun anew", "not used", "emptied"}
    assert ends.count("used") >= 6
    assert ends.count("begun anew") >= 6


@pytest.mark.parametrize("damage", ["garbage", "folder", "file in the way", "pipe"])
def test_what_cannot_be_used_warns_once_and_is_computed(
    damage: str, builtin_encoder: CLIPEncoder, tmp_path: Path
) -> None:
    path = tmp_path / "place" / "e.sqlite"
    if damage == "file in the way":
        path.parent.write_text("")
    elif damage == "folder":
        path.mkdir(parents=True)
    elif damage == "pipe":
        path.parent.mkdir()
        os.mkfifo(path)
    else:
        path.parent.mkdir()
        path.write_bytes(b"not a database at all " * 100)
    encoder = load_encoder("builtin", device="cpu", cache=path)
    with pytest.warns(UserWarning, match=r"embedding cache .* cannot be used"):
        rows = embed(encoder, CLASS_NAMES, TEMPLATES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = embed(encoder, CLASS_NAMES, TEMPLATES)
    expected = ensemble(builtin_encoder.encode_texts, CLASS_NAMES, TEMPLATES)
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    np.testing.assert_allclose(again, expected, atol=1e-6)


_FULL_DISK = """
import resource, signal, sys, warnings
import numpy as np
from negrefine import load_encoder
from negrefine.errors import InputError
from negrefine.labels.embedding import embed
encoder = load_encoder("builtin", device="cpu", cache=sys.argv[1])
names = [f"word {i}" for i in range(400)]
embed(encoder, names[:10], ("{}",))
# From here on no file may grow beyond 200 kB, as on a disk that is full.
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    rows = embed(encoder, names, ("{}",))
assert rows.shape[0] == 400 and np.isfinite(rows).all()
print(sum("embedding cache" in str(w.message) for w in caught))
"""


def test_a_full_disk_warns_and_loses_nothing_stored(tmp_path: Path) -> None:
    path = tmp_path / "e.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
    encoder = load_encoder("builtin", device="cpu", cache=path)
    asked = counted(encoder)
    embed(encoder, [f"word {i}" for i in range(10)], ("{}",))
    assert asked == []


_WRITER = """
import sys
import numpy as np
from negrefine.encoders.embedding_cache import EmbeddingCache
cache = EmbeddingCache(sys.argv[1])
start = int(sys.argv[2])
for i in range(start, start + 200, 5):
    rows = np.repeat(np.arange(i, i + 5, dtype=np.float32)[:, None], 16, axis=1)
    cache.put("m", [f"word {j}" for j in range(i, i + 5)], rows)
    assert all(row is not None for row in cache.get("m", [f"word {i}"]))
"""


@pytest.mark.filterwarnings("error")
def test_several_processes_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "e.sqlite"
    writers = [
        subprocess.Popen([sys.executable, "-W", "error", "-c", _WRITER, str(path), str(start)])
        for start in (0, 100, 300)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    found = EmbeddingCache(path).get("m", [f"word {i}" for i in range(500)])
    assert [None if row is None else row[0] for row in found] == list(range(500))


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "NEGREFINE_CACHE": str(tmp_path / "place")}


@pytest.mark.parametrize(("options", "exists"), [([], True), (["--no-cache"], False)])
def test_fit_fills_the_cache_where_the_variable_says(
    options: list[str], exists: bool, home: dict[str, str], tmp_path: Path
) -> None:
    names = tmp_path / "names.txt"
    names.write_text("dog\ncat\n")
    subprocess.run(
        [
            *(sys.executable, "-m", "negrefine", "fit", "--method", "mcm", "--encoder", "builtin"),
            *("--classes", str(names), "--out", str(tmp_path / "d"), *options),
        ],
        env=home,
        check=True,
    )
    assert (tmp_path / "place" / "embeddings.sqlite").exists() == exists


KILLED_FIT = """
import sys
from negrefine import Lexicon, NegLabel, Prompts, load_encoder
one = ("{}",)
encoder = load_encoder("builtin", device="cpu", cache=sys.argv[2])
NegLabel(
    encoder,
    lexicon=Lexicon.from_tsv(sys.argv[1]),
    lexicon_files="full",
    prompts=Prompts(class_name=one, noun=one),
).fit(["dog", "cat"])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals of POSIX")
def test_a_killed_fit_continues_where_it_stopped(
    load: Callable[..., CLIPEncoder], tmp_path: Path
) -> None:
    words = [f"{first}{second}" for first in range(100, 200) for second in range(100, 145)]
    lines = ["word\tlexname\tpos", *(f"n{word}\tnoun.shape\tnoun" for word in words)]
    lexicon, path = tmp_path / "words.tsv", tmp_path / "cache" / "e.sqlite"
    lexicon.write_text("\n".join(lines))
    fit = subprocess.Popen([sys.executable, "-c", KILLED_FIT, str(lexicon), str(path)])
    cache = EmbeddingCache(path)
    while fit.poll() is None and not (path.exists() and n_stored(cache) > 2):
        time.sleep(0.02)
    fit.kill()
    assert fit.wait() == -signal.SIGKILL
    known = n_stored(cache)
    assert 1000 < known < len(words)
    encoder = load()
    asked = counted(encoder)
    one = ("{}",)
    NegLabel(
        encoder,
        lexicon=Lexicon.from_tsv(lexicon),
        lexicon_files="full",
        prompts=Prompts(class_name=one, noun=one),
    ).fit(["dog", "cat"])
    assert len(asked) == len(set(asked)) == len(words) + 2 - known


def n_stored(cache: EmbeddingCache) -> int:
    """The rows of a cache that another process may be writing."""
    return sum(space.n for space in cache.spaces())
