"""Answers on disk and in JSON lines."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from negrefine import HFVision, OpenAIJudge, OpenAIProposer, OpenAIVision
from negrefine.cli.app import app
from negrefine.cli.judge_cache import Format, export_answers
from negrefine.encoders.embedding_cache import EmbeddingCache
from negrefine.errors import InputError
from negrefine.judges.base import Answer, Query
from negrefine.judges.prompts import judge_identity
from negrefine.judges.replay import ReplayJudge
from negrefine.judges.store import (
    AnswerStore,
    StoredAnswer,
    as_json_lines,
    default_store,
    read_json_lines,
)
from negrefine.proposers.prompts import similar_query

WORDS = st.text(min_size=1, max_size=12)

QUERIES = st.builds(Query, WORDS, st.lists(WORDS, max_size=3).map(tuple))

ANSWERS = st.builds(
    Answer, st.sampled_from([True, False, None]), st.text(max_size=8), st.none() | st.floats(0, 1)
)


def test_gives_back_what_was_put_by_judge_and_question(store: AnswerStore) -> None:
    proper, dog, several = Query("a"), Query("a", ("dog",)), Query("a", ("dog", "cat"))
    assert store.put("j", [(proper, Answer(True, "x", 0.75)), (dog, Answer(None))]) == 2
    assert store.put("j", [(proper, Answer(False)), (several, Answer(False))]) == 1
    found = store.get("j", [several, Query("b"), dog, proper])
    assert found == {0: Answer(False), 2: Answer(None), 3: Answer(True, "x", 0.75)}
    assert store.get("k", [proper]) == {}
    counts = store.counts()
    assert [(c.proper_noun, c.subcategory, c.yes, c.no, c.undecided) for c in counts] == [
        (1, 2, 1, 1, 1)
    ]
    assert [stored.query for stored in store] == [proper, dog, several]


def test_answers_are_counted_by_what_they_are_about(store: AnswerStore) -> None:
    vision = HFVision("smolvlm/", store=None)
    seeing = judge_identity(vision.prompts, judge="hf-vision", model="smolvlm")
    on_server = OpenAIVision("m", "http://localhost:1/v1", store=None).identity
    proposing = OpenAIProposer("m", "http://localhost:1/v1", store=None).identity
    asked = OpenAIJudge("m", "http://localhost:1/v1", store=None).identity
    about = Query("a" * 64, ("dog",))
    store.put(seeing, [(about, Answer(True))])
    store.put(on_server, [(about, Answer(False)), (Query("b" * 64, ("dog",)), Answer(None))])
    store.put(proposing, [(similar_query("dog", 3), Answer(True, "- fox"))])
    for odd in ("7", "[]", "{", asked):
        store.put(odd, [(Query("a"), Answer(True)), (about, Answer(True))])
    counts = {
        c.identity: (c.proper_noun, c.subcategory, c.image, c.proposal) for c in store.counts()
    }
    assert counts == {
        seeing: (0, 0, 1, 0),
        on_server: (0, 0, 2, 0),
        proposing: (0, 0, 0, 1),
        **dict.fromkeys(("7", "[]", "{", asked), (1, 1, 0, 0)),
    }
    with pytest.raises(InputError, match="answers about images: leave out --format official"):
        export_answers(Path("-"), Format.OFFICIAL, judge=on_server, force=False, answers=store.path)


@settings(deadline=None)
@given(st.dictionaries(QUERIES, ANSWERS, max_size=12))
def test_any_text_survives_the_disk_and_jsonl(
    tmp_path_factory: pytest.TempPathFactory, answers: dict[Query, Answer]
) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = AnswerStore(folder / "a.sqlite")
    storable = {
        query: answer
        for query, answer in answers.items()
        if _is_text("".join((query.word, answer.reason, *query.class_names)))
    }
    store.put("judge", storable.items())
    assert store.get("judge", list(storable)) == dict(enumerate(storable.values()))
    path = folder / "a.jsonl"
    path.write_text("".join(f"{line}\n" for line in as_json_lines(store)), encoding="utf-8")
    assert read_json_lines(path) == [StoredAnswer("judge", *item) for item in storable.items()]
    store.close()


@pytest.mark.parametrize("reason", ["replied '\ud800'", r"replied '\ud800'", r"\\ud800 \x1b"])
def test_reasons_come_back_as_they_were_given(tmp_path: Path, reason: str) -> None:
    answer = StoredAnswer("judge", Query("cat"), Answer(True, reason))
    for name in ("a", "b"):
        store = AnswerStore(tmp_path / f"{name}.sqlite")
        store.put("judge", [(answer.query, answer.answer)])
        assert store.get("judge", [answer.query]) == {0: answer.answer}
        lines = "".join(f"{line}\n" for line in as_json_lines(store))
        store.close()
        (tmp_path / f"{name}.jsonl").write_text(lines, encoding="utf-8")
        (answer,) = read_json_lines(tmp_path / f"{name}.jsonl")
    assert answer.answer.reason == reason


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def test_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    bad = tmp_path / "bad.sqlite"
    bad.write_bytes(b"no database, but long enough to have a header" * 30)
    with pytest.raises(InputError, match=r"bad\.sqlite.*damaged or not an answer store"):
        AnswerStore(bad)
    with pytest.raises(InputError, match="cannot be"):
        AnswerStore(bad / "below" / "a.sqlite")
    with pytest.raises(InputError, match="cannot be used"):
        AnswerStore(tmp_path)
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"judge": "j", "word": 3}\n')
    with pytest.raises(InputError, match=r"Line 1 of .*a\.jsonl"):
        read_json_lines(lines)
    with pytest.raises(InputError, match="does not exist: give what"):
        read_json_lines(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    "line",
    [
        "[" * 200_000,
        '{"judge": ' * 200_000,
        json.dumps({"judge": "j", "word": "w", "class_names": [], "yes": True, "reason": ""})[:-1]
        + ', "confidence": '
        + "[" * 100_000
        + "]" * 100_000
        + "}",
        '{"judge": "j", "judge": "k", "word": "w", "class_names": [], "yes": true, "reason": "", '
        '"confidence": null}',
    ],
)
def test_refuses_lines_that_are_too_deep_or_ambiguous(tmp_path: Path, line: str) -> None:
    (tmp_path / "a.jsonl").write_text(f"{line}\n")
    with pytest.raises(InputError, match=r"Line 1 of .*a\.jsonl' is .* it must be a JSON object"):
        read_json_lines(tmp_path / "a.jsonl")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_pipes_and_devices_with_answers_are_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gz")
    (tmp_path / "answers.jsonl").symlink_to("pipe.gz")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name, what in (("pipe.gz", "pipe"), ("answers.jsonl", "pipe"), ("zero", "device")):
        sentence = rf"{name}' is a .*{what}, not a regular file: give"
        for read in (read_json_lines, ReplayJudge):
            with pytest.raises(InputError, match=sentence):
                read(tmp_path / name)


CAT, BAT = Query("cat", ("animal",)), Query("bat", ("animal",))


def closed(tmp_path: Path) -> Path:
    """Return a store with two answers that no process has open."""
    path = tmp_path / "a.sqlite"
    store = AnswerStore(path)
    store.put("j", [(CAT, Answer(True, "x", 0.75)), (Query("dog"), Answer(False))])
    store.close()
    return path


@pytest.mark.parametrize(
    "change",
    [
        "yes = 'maybe'",
        "yes = 7",
        "yes = 0.5",
        "yes = x'01'",
        "yes = 0",
        "reason = x'ff00'",
        "reason = CAST(x'ff' AS TEXT)",
        "reason = 'y'",
        "confidence = 'high'",
        "confidence = 9",
        "checksum = NULL",
        "checksum = 'x'",
    ],
)
def test_a_damaged_row_is_asked_again_and_replaced(change: str, tmp_path: Path) -> None:
    path = closed(tmp_path)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"UPDATE answers SET {change} WHERE word = 'cat'")  # noqa: S608
    store = AnswerStore(path)
    with pytest.warns(UserWarning, match=r"a\.sqlite' that are damaged: 1; they are asked again"):
        assert store.get("j", [CAT, Query("dog"), BAT]) == {1: Answer(False)}
    with pytest.warns(UserWarning, match="damaged: 1; they are left out"):
        assert [stored.query for stored in store] == [Query("dog")]
    with pytest.warns(UserWarning, match="damaged: 1"):
        assert [(c.yes, c.no, c.undecided) for c in store.counts()] == [(0, 1, 0)]
    assert store.put("j", [(CAT, Answer(None, "z"))]) == 1
    assert store.put("j", [(CAT, Answer(True))]) == 0
    assert store.get("j", [CAT]) == {0: Answer(None, "z")}
    assert len(list(store)) == 2
    store.close()


def test_a_question_that_became_another_does_not_give_it_its_answer(tmp_path: Path) -> None:
    content = closed(tmp_path).read_bytes()
    places = [i for i in range(len(content)) if content[i : i + 3] == b"cat"]
    assert len(places) >= 2
    for place in places:
        changed = tmp_path / f"{place}.sqlite"
        changed.write_bytes(content[:place] + b"b" + content[place + 1 :])
        store = AnswerStore(changed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert store.get("j", [BAT]) == {}
        store.close()


def test_a_damaged_file_is_refused_and_kept(tmp_path: Path) -> None:
    path = closed(tmp_path)
    before = path.read_bytes()
    for content in (before[:5000], before[:50], b"\0" * 9000, before[:4096] + b"\xff" * 9000):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.sqlite' is damaged .*recover"):
            AnswerStore(path).get("j", [CAT])
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    "make",
    ["CREATE TABLE answers (id INTEGER PRIMARY KEY, word TEXT)", "PRAGMA application_id = 5"],
)
def test_the_database_of_another_program_is_not_touched(make: str, tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(make)
    before = path.read_bytes()
    with pytest.raises(
        InputError, match=r"app\.db' cannot be used \(a database of another program"
    ):
        AnswerStore(path)
    # Nor is a cache of embeddings a store of answers.
    cache = tmp_path / "e.sqlite"
    EmbeddingCache(cache).put("m", ["a"], np.ones((1, 4), np.float32))
    with pytest.raises(InputError, match="a database of another program"):
        AnswerStore(cache)
    assert path.read_bytes() == before
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        AnswerStore(tmp_path / "pipe")


_FIRST_VERSION = """
CREATE TABLE judges (
    id INTEGER PRIMARY KEY,
    identity TEXT NOT NULL UNIQUE
);
CREATE TABLE answers (
    id INTEGER PRIMARY KEY,
    judge INTEGER NOT NULL REFERENCES judges (id),
    word TEXT NOT NULL,
    class_names TEXT NOT NULL,
    yes INTEGER,
    reason TEXT NOT NULL,
    confidence REAL,
    UNIQUE (judge, word, class_names)
);
INSERT INTO judges VALUES (1, 'j');
INSERT INTO answers VALUES (1, 1, 'cat', '["animal"]', 1, 'x', 0.75);
INSERT INTO answers VALUES (2, 1, 'dog', '[]', 'what', '', NULL);
"""


def test_answers_of_the_first_version_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(_FIRST_VERSION)
    for _ in range(2):
        store = AnswerStore(path)
        with pytest.warns(UserWarning, match="damaged: 1"):
            assert store.get("j", [CAT, Query("dog")]) == {0: Answer(True, "x", 0.75)}
        store.close()


def test_a_path_in_the_home_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    store = AnswerStore("~/x/a.sqlite")
    assert store.path == tmp_path / "x" / "a.sqlite"
    assert store.path.exists()
    store.close()
    with pytest.raises(InputError, match="home directory in '~nobody-here/a' is not known"):
        AnswerStore("~nobody-here/a")


def test_without_a_home_the_default_store_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for place in ("~nobody-here/x", str(tmp_path / "file" / "x")):
        monkeypatch.setenv("NEGREFINE_CACHE", place)
        with pytest.warns(UserWarning, match="not kept, and asked again by the next run"):
            assert default_store() is None
    monkeypatch.setenv("NEGREFINE_CACHE", str(tmp_path))
    store = default_store()
    assert store is not None
    assert store.path == tmp_path / "answers.sqlite"
    store.close()


def negrefine(*arguments: Any, cache: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "negrefine", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "NEGREFINE_CACHE": str(cache)},
    )


def test_judge_cache_commands(tmp_path: Path) -> None:
    log = tmp_path / "llm_process_noun.txt"
    log.write_text("paris | proper noun \noak | tree | subcategory \nelm | safe | \n")
    cache = tmp_path / "cache"
    done = negrefine("judge-cache", "import", log, "--format", "official", cache=cache)
    assert (done.returncode, done.stdout) == (0, "")
    assert "5 new of 5 answers" in done.stderr
    assert "0 new of 5" in (
        negrefine("judge-cache", "import", log, "--format", "official", cache=cache).stderr
    )
    stats = negrefine("judge-cache", "stats", cache=cache)
    assert stats.stdout.splitlines()[1] == "3\t2\t0\t0\t2\t3\t0\tllm_process_noun.txt"
    out = tmp_path / "out.jsonl"
    assert negrefine("judge-cache", "export", out, cache=cache).returncode == 0
    assert len(read_json_lines(out)) == 5
    other = tmp_path / "other"
    assert "5 new" in negrefine("judge-cache", "import", out, cache=other).stderr
    official = negrefine("judge-cache", "export", "-", "--format", "official", cache=other)
    assert official.stdout.startswith(log.read_text())
    wrong = negrefine("judge-cache", "export", "-", "--judge", "gpt", cache=other)
    assert wrong.returncode == 1
    assert "No judge in" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("stats", "--answers", "none.sqlite"), "There is no store of answers 'none.sqlite'"),
        (("export", "-", "--answers", "none.sqlite"), "There is no store of answers"),
        (("export", "-", "--force"), "--force has no effect on standard output"),
        (("import", "a.jsonl", "--judge", "x"), "--judge has no effect on JSONL files"),
    ],
)
def test_what_judge_cache_cannot_do_is_a_sentence(
    arguments: tuple[str, ...], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["judge-cache", *arguments])
    assert isinstance(result.exception, InputError)
    assert sentence in str(result.exception)
    assert list(tmp_path.iterdir()) == []
