"""Official logs, read and written."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from negrefine.errors import NegrefineError
from negrefine.judges.base import Answer
from negrefine.judges.replay import ReplayJudge, as_official_log, read_official_log
from negrefine.judges.store import AnswerStore

LOG = (
    "oslo | proper noun \n"
    "biosafety level  | maze | \n"
    "biosafety level  | face mask | \n"
    "tabby | dog | \n"
    "tabby | cat | subcategory \n"
    "orange | lemon | \n"
    "orange | orange | the same \n" + "-" * 45 + "\nn_proper: 1\nn_same: 1\nn_subcatgeory: 1\n"
)


@pytest.fixture
def log(tmp_path) -> Path:
    path = tmp_path / "llm_process_noun.txt"
    path.write_text(LOG, encoding="utf-8")
    return path


def test_replay_repeats_the_log(log):
    replay = ReplayJudge(log)
    assert replay.name == "replay(llm_process_noun.txt)"
    assert replay.recorded == ("oslo", "biosafety level ", "tabby", "orange")
    assert [a.yes for a in replay.is_proper_noun(replay.recorded)] == [True, False, False, False]
    pairs = [("tabby", "dog"), ("tabby", "cat"), ("biosafety level ", "maze")]
    assert [a.yes for a in replay.is_subcategory(pairs)] == [False, True, False]
    assert dict(replay.candidates) == {
        "oslo": [],
        "biosafety level ": ["maze", "face mask"],
        "tabby": ["dog", "cat"],
        "orange": ["lemon", "orange"],
    }
    assert replay.n_questions == 4 + 5


def test_replay_is_undecided_about_what_was_not_asked(log):
    replay = ReplayJudge(log)
    unknown = Answer(None, "not recorded")
    assert replay.is_proper_noun(["biosafety level"]) == [unknown]
    assert replay.is_subcategory([("tabby", "fox"), ("orange", "orange")]) == [unknown, unknown]


def test_replay_reads_several_logs_first_one_wins(log, tmp_path):
    other = tmp_path / "llm_process_adj.txt.gz"
    other.write_bytes(
        gzip.compress(b"tabby | proper noun \r\nsafe space | safe | subcategory \r\n")
    )
    replay = ReplayJudge(log, other)
    assert replay.recorded[-1] == "safe space"
    assert replay.is_proper_noun(["tabby"])[0].yes is False
    assert replay.candidates["tabby"] == ["dog", "cat"]
    assert replay.is_subcategory([("safe space", "safe")])[0].yes is True


def test_a_name_asked_about_twice_counts_if_one_answer_was_yes(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("atlas | missile | \natlas | missile | subcategory \n", encoding="utf-8")
    replay = ReplayJudge(path)
    assert replay.candidates["atlas"] == ["missile", "missile"]
    assert replay.is_subcategory([("atlas", "missile")])[0].yes is True
    assert replay.n_questions == 3


@pytest.mark.parametrize(
    "line",
    ["tabby", "tabby | cat", "tabby | cat | subcategory", "tabby | proper noun", "a | b | c | "],
)
def test_replay_names_the_bad_line(tmp_path, line):
    path = tmp_path / "log.txt"
    path.write_text(f"oslo | proper noun \n{line}\n", encoding="utf-8")
    with pytest.raises(NegrefineError, match="Line 2 of the log"):
        ReplayJudge(path)


def test_replay_explains_unusable_files(tmp_path):
    with pytest.raises(NegrefineError, match="at least one log"):
        ReplayJudge()
    sentence = "The log .* does not exist: give an llm_process"
    with pytest.raises(NegrefineError, match=sentence):
        ReplayJudge(tmp_path / "none.txt")
    with pytest.raises(NegrefineError, match="is a folder, not a regular file: give an"):
        ReplayJudge(tmp_path)
    (tmp_path / "log.txt.gz").write_bytes(b"not gzip")
    with pytest.raises(NegrefineError, match="not a complete gzip file"):
        ReplayJudge(tmp_path / "log.txt.gz")


def test_reference_log_counts(shared):
    reference = shared / "reference" / "negrefine_imagenet_seed0"
    noun = ReplayJudge(reference / "llm_process_noun.txt.gz")
    adj = ReplayJudge(reference / "llm_process_adj.txt.gz")
    for replay, words, proper, subcategory, kept, calls in (
        (noun, 7021, 1748, 275, 4998, 57_813),
        (adj, 1404, 0, 32, 1372, 15_224),
    ):
        assert len(replay.recorded) == words
        assert replay.n_questions == calls
        yes = [a.yes for a in replay.is_proper_noun(replay.recorded)]
        assert yes.count(True) == proper
        dropped = [
            word
            for word in replay.recorded
            if any(
                a.yes for a in replay.is_subcategory([(word, n) for n in replay.candidates[word]])
            )
        ]
        assert len(dropped) == subcategory
        assert words - proper - subcategory == kept
    assert "biosafety level " in noun.recorded


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
