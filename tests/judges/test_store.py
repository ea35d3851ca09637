"""Answers on disk and in JSON lines."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from negrefine.cli.app import app
from negrefine.errors import InputError
from negrefine.judges.base import Answer, Query
from negrefine.judges.store import (
    AnswerStore,
    StoredAnswer,
    as_json_lines,
    read_json_lines,
)

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
    with pytest.raises(InputError, match="cannot be read"):
        read_json_lines(tmp_path / "none.jsonl")


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
    assert stats.stdout.splitlines()[1] == "3\t2\t2\t3\t0\tllm_process_noun.txt"
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
