"""Ways of asking fewer questions, and judges put together."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import CLASS_NAMES, LetterJudge
from negrefine import CascadeJudge, HFJudge, Lexicon, NegRefine, WordNetJudge, load_detector
from negrefine.detectors.negfilter import FilterRules, Question, filter_labels
from negrefine.encoders import CLIPEncoder
from negrefine.errors import InputError
from negrefine.judges.base import Answer, Query, Usage, answer_all
from negrefine.judges.wordnet_candidates import WordNetCandidates, with_wordnet_candidates
from negrefine.labels.negatives import NegativeLabel


class Hash:
    """Answers by a hash of the question; several names are a yes where one of them is."""

    name = "hash"
    ranks_per_round = 1

    def __init__(self, one_in: int = 4, undecided: int = 9) -> None:
        self.one_in = one_in
        self.undecided = undecided
        self.usage = Usage()
        self.asked: list[Query] = []

    def answer(self, word: str, name: str) -> Answer:
        value = zlib.crc32(f"{word}|{name}".encode())
        if value % self.undecided == 0:
            return Answer(None)
        return Answer(value % self.one_in == 0, f"{value % 100}", 0.5 + value % 50 / 100)

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        return answer_all(self, [Query(word) for word in words])

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        return answer_all(self, [Query(word, (name,)) for word, name in pairs])

    def iter_answers(self, queries: Sequence[Query]) -> Iterator[list[tuple[int, Answer]]]:
        # The last ones first, and in two parts, as a server might answer.
        for part in (range(len(queries) // 2, len(queries)), range(len(queries) // 2)):
            batch = []
            for i in part:
                query = queries[i]
                self.asked.append(query)
                given_ = [self.answer(query.word, name) for name in query.class_names or ("",)]
                yes = [answer for answer in given_ if answer.yes]
                batch.append((i, yes[0] if yes else given_[-1]))
            yield batch


def label(word: str) -> NegativeLabel:
    return NegativeLabel(word, word, word, "noun", "noun.act", 0.5)


def one_by_one(words: list[str], candidates: list[list[str]], judge: Hash) -> list[str | None]:
    """The published loop: for each word why it goes, or None."""
    causes: list[str | None] = []
    for word, names in zip(words, candidates, strict=True):
        cause = "proper noun" if judge.answer(word, "").yes else None
        for name in names if cause is None else ():
            if name == word:
                cause = "is a class name"
            elif judge.answer(word, name).yes:
                cause = f"subcategory of {name!r}"
            if cause is not None:
                break
        causes.append(cause)
    return causes


TASKS = st.lists(st.sampled_from("abcdefghijklmnop"), max_size=8, unique=True).flatmap(
    lambda words: st.tuples(
        st.just(words),
        st.lists(
            st.lists(st.sampled_from("abcdefuvwxyz"), max_size=7, unique=True),
            min_size=len(words),
            max_size=len(words),
        ),
    )
)


@given(TASKS, st.integers(1, 8), st.integers(1, 8), st.integers(2, 6))
def test_every_way_of_asking_keeps_what_asking_one_by_one_keeps(
    task: tuple[list[str], list[list[str]]], ranks: int, names: int, one_in: int
) -> None:
    words, candidates = task
    judge = Hash(one_in)
    refined, trail = filter_labels(
        [label(word) for word in words],
        candidates,
        judge,
        FilterRules(ranks_per_round=ranks, names_per_question=names),
    )
    expected = one_by_one(words, candidates, Hash(one_in))
    for found, cause in zip(refined, expected, strict=True):
        assert found.kept == (cause is None)
        assert found.reason.partition(":")[0] == (cause or "")
    assert len(trail) == len(judge.asked)
    assert all(question.confidence is None or question.confidence >= 0.5 for question in trail)


def test_several_names_in_one_question_cost_one_question_where_none_applies() -> None:
    words = [f"word{i}" for i in range(50)]
    candidates = [[f"class{i * k % 17}" for k in range(1, 11)] for i in range(50)]
    judge = Hash(one_in=10**9, undecided=10**9)
    filter_labels(
        [label(word) for word in words], candidates, judge, FilterRules(names_per_question=10)
    )
    assert len(judge.asked) == 100
    refined, trail = filter_labels(
        [label("oak")],
        [["tree", "dog"]],
        Hash(one_in=1),
        FilterRules(filters=["subcategory"], names_per_question=2),
    )
    assert not refined[0].kept
    assert [question.class_name for question in trail] == ["tree | dog", "tree", "dog"]


@pytest.mark.parametrize("option", ["names_per_question", "ranks_per_round"])
def test_refuses_numbers_below_one(option: str) -> None:
    with pytest.raises(InputError, match=f"{option} must be a whole number of at least 1, not 0"):
        FilterRules(**{option: 0})  # type: ignore[arg-type]


class Repeats(Hash):
    def iter_answers(self, queries: Sequence[Query]) -> Iterator[list[tuple[int, Answer]]]:  # noqa: ARG002
        yield [(0, Answer(True)), (0, Answer(True))]


class Forgets(Hash):
    def iter_answers(self, queries: Sequence[Query]) -> Iterator[list[tuple[int, Answer]]]:  # noqa: ARG002
        yield [(0, Answer(True))]


@pytest.mark.parametrize(("judge", "match"), [(Repeats(), "twice"), (Forgets(), "left 1 of 2")])
def test_refuses_streams_that_do_not_answer_each_question_once(judge: Hash, match: str) -> None:
    with pytest.raises(InputError, match=match):
        judge.is_proper_noun(["a", "b"])


class Scripted:
    """Gives the answers it was made with."""

    name = "scripted"

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        self.asked += words
        return [self.answers[word] for word in words]

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        return self.is_proper_noun([f"{word}<{name}" for word, name in pairs])


def test_cascade_passes_on_what_the_first_is_unsure_of() -> None:
    first = Scripted(
        {
            "sure": Answer(True, "first", 0.9),
            "plain": Answer(False, "first"),
            "unsure": Answer(True, "first", 0.6),
            "undecided": Answer(None, "first"),
        }
    )
    last = Scripted(
        {
            "unsure": Answer(False, "last", 0.51),
            "undecided": Answer(None, "last"),
            "sure": Answer(False, "last"),
            "plain": Answer(True, "last"),
        }
    )
    words = ["undecided", "sure", "unsure", "plain"]
    cascade = CascadeJudge([first, last], min_confidence=0.8)
    answers = cascade.is_proper_noun(words)
    assert [answer.reason for answer in answers] == ["last", "first", "last", "first"]
    assert last.asked == ["undecided", "unsure"]
    assert cascade.answered == [2, 2]
    assert cascade.name == "scripted+scripted"
    checked = CascadeJudge([first, last], trust=["no"])
    assert [a.reason for a in checked.is_proper_noun(words)] == ["last", "last", "last", "first"]


def test_cascade_may_trust_one_kind_of_question_only() -> None:
    answers = {"w": Answer(False, "first"), "w<c": Answer(False, "first")}
    last = Scripted({"w": Answer(True, "last"), "w<c": Answer(True, "last")})
    cascade = CascadeJudge([Scripted(answers), last], trust={"subcategory": ["no"]})
    assert cascade.is_proper_noun(["w"])[0].reason == "last"
    assert cascade.is_subcategory([("w", "c")])[0].reason == "first"


def test_cascade_says_what_is_wrong() -> None:
    with pytest.raises(InputError, match="at least one judge"):
        CascadeJudge([])
    with pytest.raises(InputError, match="min_confidence"):
        CascadeJudge([WordNetJudge()], min_confidence=2)
    for trust in (["maybe"], {"noun": ["yes"]}, {"proper_noun": "yes"}):
        with pytest.raises(InputError, match="trust must be"):
            CascadeJudge([WordNetJudge()], trust=trust)


def test_candidates_from_hypernyms_and_glosses() -> None:
    lookup = WordNetCandidates(["promontory", "Dog", "tree", "daisy", "animal", "no such word"])
    assert lookup("poodle") == ["Dog", "animal"]
    assert lookup("genus bellis") == ["daisy"]
    assert lookup("gooey tree") == ["tree"]
    assert lookup("qqqq") == []
    merged = with_wordnet_candidates(["poodle"], [["tree", "Dog"]], ["Dog", "animal", "tree"])
    assert merged == [["Dog", "animal", "tree"]]


def test_detector_asks_about_the_added_candidates(
    tiny_encoder: CLIPEncoder, small_lexicon: Lexicon
) -> None:
    def asked(detector: NegRefine) -> set[tuple[str, str | None]]:
        return {(question.text, question.class_name) for question in detector.audit_}

    def detector(**options: Any) -> NegRefine:
        return NegRefine(
            tiny_encoder,
            lexicon=small_lexicon,
            judge=LetterJudge(),
            n_groups=2,
            top_fraction=0.9,
            lexicon_files="full",
            n_candidates=1,
            **options,
        ).fit(CLASS_NAMES)

    few, more = detector(), detector(wordnet_candidates=True)
    assert asked(few) < asked(more)
    added = asked(more) - asked(few)
    assert ("poodle", "dog") in added or ("poodle", "dog") in asked(few)
    assert asked(few.with_filter(LetterJudge(), wordnet_candidates=True)) == asked(more)
    with pytest.raises(InputError, match="no parameter 'alpha'"):
        few.with_filter(None, alpha=3)
    with pytest.raises(InputError, match="names_per_question"):
        few.with_filter(None, names_per_question=0)


def negrefine(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "negrefine", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_refine_command(
    tiny_llm: Path, tiny_encoder: CLIPEncoder, small_lexicon: Lexicon, tmp_path: Path
) -> None:
    fitted = NegRefine(
        tiny_encoder, lexicon=small_lexicon, judge="none", n_groups=2, top_fraction=0.9
    ).fit(CLASS_NAMES)
    fitted.offset_ = 0.5
    # Random weights call nearly everything a proper noun.
    (tmp_path / "keep.txt").write_text("hammer\nlantern\n")
    fitted.save(tmp_path / "det")
    command = (
        "refine",
        tmp_path / "det",
        "--judge",
        f"hf:{tiny_llm}",
        "--out",
        tmp_path / "new",
        "--answers",
        tmp_path / "a.sqlite",
        "--keep",
        tmp_path / "keep.txt",
        "--encoder",
        tiny_encoder.name,
    )
    done = negrefine(*command)
    assert done.returncode == 0, done.stderr
    assert "calibrate it again" in done.stdout
    new = load_detector(tmp_path / "new", tiny_encoder)
    assert isinstance(new, NegRefine)
    assert new.offset_ is None
    assert [n.word for n in new.negative_labels_] == [n.word for n in fitted.negative_labels_]
    expected = fitted.with_filter(HFJudge(tiny_llm, store=None), keep=["hammer", "lantern"])
    assert [(n.text, n.kept) for n in new.negative_labels_] == [
        (n.text, n.kept) for n in expected.negative_labels_
    ]
    assert _rounded(new.audit_) == _rounded(expected.audit_)
    n_asked = len(expected.audit_)
    assert f"asked the model {n_asked}" in " ".join(done.stderr.split())
    again = " ".join(negrefine(*command).stderr.split())
    assert f"asked the model 0 taken from the store {n_asked}" in again


def _rounded(audit: list[Question]) -> str:
    rows = [(q.text, q.class_name, q.yes, round(q.confidence or 0, 4)) for q in audit]
    return json.dumps(rows)


def test_refine_command_says_what_is_wrong(
    tiny_encoder: CLIPEncoder, small_lexicon: Lexicon, tmp_path: Path
) -> None:
    from negrefine import MCM

    MCM(tiny_encoder).fit(CLASS_NAMES).save(tmp_path / "mcm")
    for arguments, sentence in (
        ((tmp_path / "mcm",), "only 'negrefine' has a filter"),
        ((tmp_path / "mcm", "--judge", "gpt"), "--judge must be"),
        ((tmp_path / "mcm", "--judge-url", "http://x"), "--judge-url has no effect"),
        ((tmp_path / "none",), "negrefine fit"),
    ):
        done = negrefine("refine", *arguments)
        assert done.returncode == 1
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
