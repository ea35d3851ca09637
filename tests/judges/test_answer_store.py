"""Answers on disk: what is stored, by whom, and what survives kills and neighbours."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from negrefine.errors import InputError
from negrefine.judges.answer_files import (
    as_json_lines,
    as_official_log,
    read_json_lines,
    read_official_log,
)
from negrefine.judges.base import Answer, Query, Usage
from negrefine.judges.prompts import PUBLISHED_PROMPTS, JudgePrompts, judge_identity
from negrefine.judges.replay import ReplayJudge
from negrefine.judges.store import AnswerStore, StoredAnswer, answer_through_store

WORDS = st.text(min_size=1, max_size=12)
QUERIES = st.builds(Query, WORDS, st.lists(WORDS, max_size=3).map(tuple))
ANSWERS = st.builds(
    Answer, st.sampled_from([True, False, None]), st.text(max_size=8), st.none() | st.floats(0, 1)
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[AnswerStore]:
    opened = AnswerStore(tmp_path / "deep" / "answers.sqlite")
    yield opened
    opened.close()


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


def test_asks_each_missing_question_once_and_stores_it_before_handing_it_on(
    store: AnswerStore,
) -> None:
    queries = [Query("a"), Query("b"), Query("a"), Query("c", ("dog",))]
    store.put("j", [(Query("b"), Answer(True, "old"))])
    asked: list[Query] = []

    def ask(missing: Sequence[Query]) -> Iterator[list[tuple[int, Answer]]]:
        for position in reversed(range(len(missing))):
            asked.append(missing[position])
            yield [(position, Answer(False, missing[position].word))]

    usage = Usage()
    given_: dict[int, Answer] = {}
    for batch in answer_through_store(store, "j", queries, ask, usage):
        for position, answer in batch:
            assert store.get("j", [queries[position]]) == {0: answer}
            given_[position] = answer
    assert Counter(asked) == Counter([Query("a"), Query("c", ("dog",))])
    assert [given_[i].reason for i in range(4)] == ["a", "old", "a", "c"]
    assert usage.cached == 1
    again = dict(
        item for batch in answer_through_store(store, "j", queries, ask, usage) for item in batch
    )
    assert again == given_
    assert len(asked) == 2
    assert usage.cached == 5


def test_identity_depends_on_every_fact_and_on_the_wording() -> None:
    base = judge_identity(PUBLISHED_PROMPTS, model="m", revision=None, mode="probability")
    assert json.loads(base)["model"] == "m"
    others = [
        judge_identity(PUBLISHED_PROMPTS, model="m", revision="r", mode="probability"),
        judge_identity(PUBLISHED_PROMPTS, model="m", revision=None, mode="official"),
        judge_identity(JudgePrompts(system=""), model="m", revision=None, mode="probability"),
    ]
    assert len({base, *others}) == 4


@pytest.mark.parametrize("template", ["Is it?", "Is {word}{other} a {class_name}?", "{word} {"])
def test_refuses_prompts_that_do_not_name_the_question(template: str) -> None:
    with pytest.raises(InputError, match="subcategory"):
        JudgePrompts(subcategory=template)


def test_published_wording() -> None:
    assert PUBLISHED_PROMPTS.question(Query("{oak}", ("safe",))) == (
        "Is '{oak}' a subcatgeory of 'safe'?"
    )
    messages = PUBLISHED_PROMPTS.messages(Query("oak", ("safe", "tree")))
    assert [message["role"] for message in messages] == ["system", "user"]
    assert "'safe', 'tree'" in messages[1]["content"]


def test_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    bad = tmp_path / "bad.sqlite"
    bad.write_bytes(b"no database, but long enough to have a header" * 30)
    with pytest.raises(InputError, match=r"bad\.sqlite.*damaged or no answer store"):
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


def test_official_log_round_trip(shared: Path, store: AnswerStore, tmp_path: Path) -> None:
    log = shared / "reference" / "negrefine_imagenet_seed0" / "llm_process_adj.txt.gz"
    read = read_official_log(log, "qwen")
    store.put("qwen", [(stored.query, stored.answer) for stored in read])
    written = tmp_path / "log.txt"
    written.write_text("".join(f"{line}\n" for line in as_official_log(store)), encoding="utf-8")
    before, after = ReplayJudge(log), ReplayJudge(written)
    assert after.recorded == before.recorded
    assert len(after.recorded) == 1404
    for word in before.recorded:
        names = list(dict.fromkeys(before.candidates[word]))
        assert list(after.candidates[word]) == names
        pairs = [(word, name) for name in names]
        assert after.is_subcategory(pairs) == before.is_subcategory(pairs)
    assert "n_subcatgeory: 32" in written.read_text()


# A run that a signal can end at any moment: a slow judge, whose every question is noted in a file
# of its own before it is answered.
_RUN = """
import os, sys, time, zlib
from pathlib import Path
from negrefine.judges.store import AnswerStore, answer_through_store
from negrefine.judges.base import Answer, Query, Usage, answer_all
from negrefine.labels.negatives import NegativeLabel
from negrefine.detectors.negfilter import filter_labels

class Slow:
    name = "slow"
    ranks_per_round = 2
    batch = 4

    def __init__(self, folder, delay):
        self.delay = delay
        self.usage = Usage()
        self.store = AnswerStore(folder / "answers.sqlite")
        self.log = (folder / "asked.txt").open("a")

    def is_proper_noun(self, words):
        return answer_all(self, [Query(w) for w in words])

    def is_subcategory(self, pairs):
        return answer_all(self, [Query(w, (n,)) for w, n in pairs])

    def iter_answers(self, queries):
        return answer_through_store(self.store, "slow", queries, self.ask, self.usage)

    def ask(self, queries):
        for start in range(0, len(queries), self.batch):
            some = queries[start:start + self.batch]
            for q in some:
                self.log.write(f"{q.word}|{'|'.join(q.class_names)}\\n")
            self.log.flush()
            time.sleep(self.delay)
            yield [
                (start + i, Answer(zlib.crc32(repr(q).encode()) % 7 == 0, "crc"))
                for i, q in enumerate(some)
            ]

def run(folder, delay):
    words = [f"word{i}" for i in range(60)]
    labels = [NegativeLabel(w, w, w, "noun", "noun.act", 0.5, True, "") for w in words]
    candidates = [[f"class{(i * k) % 11}" for k in range(1, 5)] for i in range(60)]
    kept, trail = refine(labels, candidates, Slow(folder, delay))
    (folder / "kept.txt").write_text("\\n".join(l.text for l in kept if l.kept))

# Every run is a process of its own, forked here because importing takes seconds.
for line in sys.stdin:
    folder, delay = line.split()
    pid = os.fork()
    if pid == 0:
        run(Path(folder), float(delay))
        os._exit(0)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


class Runs:
    """Starts runs, one after the other."""

    def __init__(self) -> None:
        self._parent = subprocess.Popen(
            [sys.executable, "-c", _RUN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, folder: Path, delay: float) -> int:
        """Return the process number."""
        assert self._parent.stdin is not None
        self._parent.stdin.write(f"{folder} {delay}\n")
        self._parent.stdin.flush()
        return self._read()

    def wait(self) -> int:
        """Return the exit status."""
        return self._read()

    def close(self) -> None:
        self._parent.communicate()

    def _read(self) -> int:
        assert self._parent.stdout is not None
        return int(self._parent.stdout.readline())


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
    started = Runs()
    yield started
    started.close()


def test_a_run_killed_at_random_moments_loses_no_more_than_its_last_batch(
    tmp_path: Path, runs: Runs
) -> None:
    plain = tmp_path / "plain"
    plain.mkdir()
    runs.start(plain, 0)
    assert runs.wait() == 0
    killed = tmp_path / "killed"
    killed.mkdir()
    moments = np.random.default_rng(5)
    asked = killed / "asked.txt"
    for _ in range(20):
        before = _size(asked)
        pid = runs.start(killed, 0.02)
        # Waiting for new questions makes the moment fall into the run and not before it.
        while _size(asked) == before:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.06))
        os.kill(pid, signal.SIGKILL)
        assert runs.wait() == -signal.SIGKILL
        assert not (killed / "kept.txt").exists()
    runs.start(killed, 0)
    assert runs.wait() == 0
    assert (killed / "kept.txt").read_bytes() == (plain / "kept.txt").read_bytes()
    once = Counter((plain / "asked.txt").read_text().splitlines())
    often = Counter(asked.read_text().splitlines())
    assert often.keys() == once.keys()
    assert sum(often.values()) - sum(once.values()) <= 20 * 4


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_two_processes_share_a_file(tmp_path: Path, runs: Runs) -> None:
    other = Runs()
    runs.start(tmp_path, 0.001)
    other.start(tmp_path, 0.001)
    assert [runs.wait(), other.wait()] == [0, 0]
    other.close()
    store = AnswerStore(tmp_path / "answers.sqlite")
    (counts,) = store.counts()
    asked = set((tmp_path / "asked.txt").read_text().splitlines())
    assert counts.proper_noun + counts.subcategory == len(asked)
    store.close()


def test_a_finished_run_asks_nothing_again(tmp_path: Path, runs: Runs) -> None:
    for _ in range(2):
        runs.start(tmp_path, 0)
        assert runs.wait() == 0
    lines = (tmp_path / "asked.txt").read_text().splitlines()
    assert len(lines) == len(set(lines)) > 60


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
