"""Several judges on the same labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from conftest import LetterJudge
from negrefine import NegRefine, ReplayJudge, WordNetJudge
from negrefine.detectors.negfilter import FilterRules, filter_labels
from negrefine.errors import InputError
from negrefine.evaluation.judge_comparison import FilterTask, JudgeComparison, compare_judges
from negrefine.evaluation.judge_scores import compare_judge_scores
from negrefine.judges.base import Answer, Judge
from negrefine.labels.lexicon import Lexicon
from negrefine.labels.negatives import NegativeLabel
from negrefine.metrics import auroc


class Noisy:
    """Draws an answer for each question, always the same one, and counts how often it is asked."""

    def __init__(self, seed: int, share: float) -> None:
        self.name, self._seed, self._share = f"noisy-{seed}", seed, share
        self.asked: dict[str, int] = {}

    def answer(self, text: str) -> Answer:
        self.asked[text] = self.asked.get(text, 0) + 1
        draw = np.random.default_rng([self._seed, *text.encode()]).random()
        return Answer(None if draw > 0.97 else bool(draw < self._share))

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        return [self.answer(word) for word in words]

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        return [self.answer(f"{word}<{name}") for word, name in pairs]


class Corrected:
    """The plain formula of an effect: the first judge with one kind of error of the other."""

    name = "corrected"

    def __init__(self, first: Noisy, other: Noisy, kind: str, says_yes: bool) -> None:
        self._first, self._other, self._kind, self._says_yes = first, other, kind, says_yes

    def answer(self, text: str) -> Answer:
        mine, theirs = self._first.answer(text), self._other.answer(text)
        of_kind = ("<" in text) == (self._kind == "subcategory")
        takes = of_kind and bool(theirs.yes) == self._says_yes != bool(mine.yes)
        return theirs if takes else mine

    def is_proper_noun(self, words: Sequence[str]) -> list[Answer]:
        return [self.answer(word) for word in words]

    def is_subcategory(self, pairs: Sequence[tuple[str, str]]) -> list[Answer]:
        return [self.answer(f"{word}<{name}") for word, name in pairs]


def task() -> FilterTask:
    words = [f"word {i}" for i in range(80)]
    labels = [NegativeLabel(w, w, w, "noun", "", 0.0) for w in words]
    names = [f"class {k}" for k in range(12)]
    candidates = [[names[(i + 5 * k) % 12] for k in range(4)] for i in range(len(words))]
    rules = FilterRules(keep=["word 3"], drop=["word 4"], names_per_question=3)
    return FilterTask(labels, candidates, rules)


def test_each_effect_is_that_of_filtering_everything_again() -> None:
    a, b, c = Noisy(1, 0.1), Noisy(2, 0.12), Noisy(3, 0.2)
    compared = compare_judges({"a": a, "b": b, "c": c}, task(), n_bootstrap=0)
    for judge in (a, b, c):
        assert set(judge.asked.values()) == {1}
    plain = task()
    kept = [label.kept for label in compared.labels["a"]]
    by_name = {"b": b, "c": c}
    for effect in compared.effects:
        corrected = Corrected(a, by_name[effect.judge], effect.kind, effect.says_yes)
        rules = FilterRules(keep=["word 3"], drop=["word 4"])
        again, _ = filter_labels(plain.labels, plain.candidates, corrected, rules)
        changes = [(x, y.kept) for x, y in zip(kept, again, strict=True)]
        assert effect.removed == changes.count((True, False)), effect
        assert effect.kept == changes.count((False, True)), effect
    assert sum(each.removed + each.kept for each in compared.effects) > 20
    pairs = [(each.first, each.second, each.kind) for each in compared.agreements]
    assert pairs == [
        (*names, kind)
        for names in (("a", "b"), ("a", "c"), ("b", "c"))
        for kind in ("proper_noun", "subcategory")
    ]
    flipped = {flip.text: flip.reasons for flip in compared.flips}
    for labels in zip(*compared.labels.values(), strict=True):
        states = {label.kept for label in labels}
        assert (labels[0].text in flipped) == (len(states) == 2)
    assert "word 3" not in flipped
    differences = [
        each.first_only + each.other_only for each in compared.classes if each.judge == "b"
    ]
    assert differences == sorted(differences, reverse=True)
    assert (
        sum(differences) == compared.agreements[1].first_only + compared.agreements[1].second_only
    )


def test_scores_follow_the_labels(
    tiny_encoder_detector: NegRefine,
) -> None:
    detector = tiny_encoder_detector
    rng = np.random.default_rng(0)
    inside, outside = (rng.normal(size=(30, detector.class_features_.shape[1])) for _ in range(2))
    inside, outside = (f / np.linalg.norm(f, axis=1, keepdims=True) for f in (inside, outside))
    inside, outside = inside.astype(np.float32), outside.astype(np.float32)
    judges: dict[str, Judge] = {"letters": LetterJudge(), "wordnet": WordNetJudge()}
    task = FilterTask.of_detector(detector)
    compared = compare_judges(judges, task, n_bootstrap=0)
    rows = compare_judge_scores(detector, judges, inside, {"far": outside}, n_bootstrap=50)
    own = detector.with_filter(WordNetJudge())
    assert [label.text for label in own.negatives_.kept] == [
        label.text for label in compared.labels["wordnet"] if label.kept
    ]
    assert [row.n_labels for row in rows] == [
        sum(label.kept for label in labels) for labels in compared.labels.values()
    ]
    scores = [
        (d.score_features(inside), d.score_features(outside))
        for d in (detector.with_filter(LetterJudge()), own)
    ]
    values = [auroc(*each) for each in scores]
    assert [row.auroc.value for row in rows] == pytest.approx(values, abs=1e-12)
    change = rows[1].auroc_change
    assert rows[0].auroc_change is None
    assert change is not None
    assert change.value == pytest.approx(values[1] - values[0], abs=1e-12)
    assert change.low is not None
    assert change.low <= change.value
    moved = np.abs(np.concatenate(scores[1]) - np.concatenate(scores[0])).mean()
    assert rows[1].score_change == pytest.approx(moved)
    with pytest.raises(InputError, match="nothing to score"):
        compare_judge_scores(detector, judges, inside, {})


@pytest.fixture(scope="module")
def tiny_encoder_detector(builtin_encoder, lexicon_file) -> NegRefine:  # type: ignore[no-untyped-def]
    return NegRefine(
        builtin_encoder,
        judge="none",
        lexicon=Lexicon.from_tsv(lexicon_file),
        lexicon_files="full",
        top_fraction=1.0,
        n_groups=2,
    ).fit(["dog", "oak", "Roman fort", "goblet"])


def test_one_judge_is_no_comparison() -> None:
    with pytest.raises(InputError, match="at least two judges"):
        compare_judges({"a": Noisy(1, 0.1)}, task())


def test_wordnet_against_the_published_run(shared: Path) -> None:
    reference = shared / "reference" / "negrefine_imagenet_seed0"
    log = ReplayJudge(*(reference / f"llm_process_{pos}.txt.gz" for pos in ("noun", "adj")))
    found: JudgeComparison = compare_judges(
        {"qwen": log, "wordnet": WordNetJudge()}, FilterTask.of_log(log)
    )
    nouns, subcategories = found.agreements
    counts = (nouns.both_yes, nouns.first_only, nouns.second_only, nouns.both_no)
    assert counts == (1491, 257, 95, 6582)
    assert (nouns.kappa, nouns.low, nouns.high) == pytest.approx((0.868, 0.855, 0.881), abs=6e-4)
    assert (subcategories.both_yes, subcategories.first_only, subcategories.second_only) == (
        178,
        125,
        82,
    )
    assert subcategories.kappa == pytest.approx(0.631, abs=6e-4)
    assert {name: sum(label.kept for label in each) for name, each in found.labels.items()} == {
        "qwen": 6370,
        "wordnet": 6581,
    }
    assert [(e.n_questions, e.removed, e.kept) for e in found.effects] == [
        (95, 90, 0),
        (257, 0, 257),
        (82, 81, 0),
        (129, 0, 129),
    ]
    assert len(found.flips) == 553
    top = [(e.class_name, e.both_yes, e.first_only, e.other_only) for e in found.classes[:4]]
    assert top == [
        ("daisy", 101, 9, 65),
        ("safe", 0, 16, 0),
        ("mushroom", 67, 9, 6),
        ("bolete", 0, 5, 0),
    ]
