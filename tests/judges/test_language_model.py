"""What judges ask a model, and what they take from the store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from negrefine.judges.base import Answer, AnswerBatch, Query, Usage
from negrefine.judges.language_model import LanguageModelJudge
from negrefine.judges.store import AnswerStore


class Backwards(LanguageModelJudge):
    """Says no, last question first."""

    name = "backwards"
    identity = "j"

    def __init__(self, store: AnswerStore) -> None:
        self.store = store
        self.usage = Usage()
        self.asked: list[Query] = []

    def _ask(self, queries: Sequence[Query]) -> Iterator[AnswerBatch]:
        for position in reversed(range(len(queries))):
            self.asked.append(queries[position])
            yield [(position, Answer(False, queries[position].word))]


def test_asks_each_missing_question_once_and_stores_it_before_handing_it_on(
    store: AnswerStore,
) -> None:
    queries = [Query("a"), Query("b"), Query("a"), Query("c", ("dog",))]
    store.put("j", [(Query("b"), Answer(True, "old"))])
    judge = Backwards(store)
    answers: dict[int, Answer] = {}
    for batch in judge.iter_answers(queries):
        for position, answer in batch:
            assert store.get("j", [queries[position]]) == {0: answer}
            answers[position] = answer
    assert Counter(judge.asked) == Counter([Query("a"), Query("c", ("dog",))])
    assert [answers[i].reason for i in range(4)] == ["a", "old", "a", "c"]
    assert judge.usage.cached == 1
    again = dict(item for batch in judge.iter_answers(queries) for item in batch)
    assert again == answers
    assert len(judge.asked) == 2
    assert judge.usage.cached == 5


# A run that a signal can end at any moment: a slow judge, whose every question is noted in a file
# of its own before it is answered.
_RUN = """
import os, sys, time, zlib
from pathlib import Path
from negrefine.judges.store import AnswerStore
from negrefine.judges.base import Answer, Usage
from negrefine.judges.language_model import LanguageModelJudge
from negrefine.labels.negatives import NegativeLabel
from negrefine.detectors.negfilter import filter_labels

class Slow(LanguageModelJudge):
    name = identity = "slow"
    ranks_per_round = 2
    batch = 4

    def __init__(self, folder, delay):
        self.delay = delay
        self.usage = Usage()
        self.store = AnswerStore(folder / "answers.sqlite")
        self.log = (folder / "asked.txt").open("a")

    def _ask(self, queries):
        for start in range(0, len(queries), self.batch):
            batch = queries[start:start + self.batch]
            for q in batch:
                self.log.write(f"{q.word}|{'|'.join(q.class_names)}\\n")
            self.log.flush()
            time.sleep(self.delay)
            yield [
                (start + i, Answer(zlib.crc32(repr(q).encode()) % 7 == 0, "crc"))
                for i, q in enumerate(batch)
            ]

def run(folder, delay):
    words = [f"word{i}" for i in range(60)]
    labels = [NegativeLabel(w, w, w, "noun", "noun.act", 0.5) for w in words]
    candidates = [[f"class{(i * k) % 11}" for k in range(1, 5)] for i in range(60)]
    kept, trail = filter_labels(labels, candidates, Slow(folder, delay))
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
