"""Mining and NegFilter against the published ImageNet-1K run, without any model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from negrefine import Lexicon, ReplayJudge
from negrefine.detectors.negfilter import clean_labels, filter_labels
from negrefine.labels.lexicon import LexiconEntry
from negrefine.labels.mining import (
    MiningRule,
    NegativeLabel,
    candidate_pool,
    class_similarity,
    select_least_similar,
)

CSP_RULE = MiningRule(exclude_class_names="off")
NEGLABEL_RULE = MiningRule(superclasses=(), clean_underscores=False, exclude_class_names="off")
SKIPPED_CLASS_WORDS = 434


@pytest.fixture(scope="module")
def official(shared: Path) -> Lexicon:
    return Lexicon.from_tsv(shared / "reference" / "lexicon_official.tsv.gz")


@pytest.fixture(scope="module")
def published(shared: Path) -> Path:
    return shared / "reference" / "negrefine_imagenet_seed0"


def read_lines(path: Path) -> list[str]:
    # Trailing spaces belong to the labels.
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line]


def count(pool: list[NegativeLabel]) -> tuple[int, int]:
    nouns = sum(label.pos == "noun" for label in pool)
    return nouns, len(pool) - nouns


def test_phrases_of_the_published_run(official: Lexicon, published: Path) -> None:
    pool = candidate_pool(official.select("official-csp"), [], CSP_RULE, seed=0)
    phrases = {label.text for label in pool if label.pos == "adj"}
    released = read_lines(published / "initial_neg_labels_adj.txt")
    assert len(released) == 1404
    assert set(released) <= phrases
    nouns = {label.text for label in pool if label.pos == "noun"}
    assert set(read_lines(published / "initial_neg_labels_noun.txt")) <= nouns


def test_another_seed_draws_other_phrases(official: Lexicon, published: Path) -> None:
    pool = candidate_pool(official.select("official-csp"), [], CSP_RULE, seed=1)
    phrases = {label.text for label in pool}
    released = read_lines(published / "initial_neg_labels_adj.txt")
    assert sum(phrase in phrases for phrase in released) < len(released) / 5


def test_pool_counts_in_the_published_order(official: Lexicon) -> None:
    csp = official.select("official-csp")
    assert count(candidate_pool(csp, [], CSP_RULE, 0)) == (46_826 + SKIPPED_CLASS_WORDS, 9_360)
    neglabel = official.select("official-neglabel")
    assert len(candidate_pool(neglabel, [], NEGLABEL_RULE, 0)) == 70_000


@pytest.mark.parametrize(
    ("nouns_first", "expected"), [(False, (46_132 + 428, 10_060)), (True, (46_893, 9_293))]
)
def test_file_order_decides_what_a_homograph_is(
    official: Lexicon, *, nouns_first: bool, expected: tuple[int, int]
) -> None:
    entries = official.select("official-csp").entries

    def key(entry: LexiconEntry) -> tuple[bool, str]:
        return (nouns_first and entry.pos == "adj", entry.lexname)

    pool = candidate_pool(Lexicon(tuple(sorted(entries, key=key)), "sorted"), [], CSP_RULE, 0)
    nouns, adjectives = count(pool)
    if nouns_first:
        # The class words among the nouns were skipped when these counts were made.
        nouns -= SKIPPED_CLASS_WORDS
    assert (nouns, adjectives) == expected


def test_replayed_answers_keep_the_published_labels(published: Path) -> None:
    kept_total = 0
    for pos, kept_count in (("noun", 4_998), ("adj", 1_372)):
        initial = read_lines(published / f"initial_neg_labels_{pos}.txt")
        judge = ReplayJudge(published / f"llm_process_{pos}.txt.gz")
        labels = clean_labels(
            [NegativeLabel(word, word, word, pos, f"{pos}.all", 0.0) for word in initial]
        )
        candidates = [judge.candidates.get(label.text, []) for label in labels]
        refined, trail = filter_labels(labels, candidates, judge)
        kept = [label.text for label in refined if label.kept]
        assert len(kept) == kept_count
        assert sorted(kept) == sorted(read_lines(published / f"neg_labels_{pos}.txt"))
        order = {x.text: i for i, x in enumerate(labels) if x.kept}
        assert kept == sorted(kept, key=order.__getitem__)
        assert all(question.yes is not None for question in trail)
        kept_total += len(kept)
    assert kept_total == 6_370


def entry(word: str, pos: str = "noun") -> LexiconEntry:
    return LexiconEntry(word, f"{pos}.x", pos)


def pool_texts(entries: list[LexiconEntry], class_names: list[str], rule: MiningRule) -> list[str]:
    pool = candidate_pool(Lexicon(tuple(entries), "test"), class_names, rule, 0)
    return [label.text for label in pool]


def test_class_names_are_excluded_from_nouns_as_asked() -> None:
    entries = [entry("daisy"), entry("Rose"), entry("orange", "adj"), entry("tulip")]
    names = ["daisy", "rose", "orange"]
    bare = {"superclasses": ()}
    exact = MiningRule(exclude_class_names="exact", **bare)
    assert pool_texts(entries, names, exact) == ["Rose", "orange", "tulip"]
    casefold = MiningRule(exclude_class_names="casefold", **bare)
    assert pool_texts(entries, names, casefold) == ["orange", "tulip"]
    off = MiningRule(exclude_class_names="off", **bare)
    assert pool_texts(entries, names, off) == ["daisy", "Rose", "orange", "tulip"]


def test_an_excluded_class_name_still_hides_the_adjective_behind_it() -> None:
    entries = [entry("orange"), entry("orange", "adj")]
    assert pool_texts(entries, ["orange"], MiningRule()) == []


def test_underscores_become_spaces_before_words_are_compared() -> None:
    entries = [entry("guide dog"), entry("guide_dog"), entry(" guide_dog ")]
    assert pool_texts(entries, [], MiningRule()) == ["guide dog"]
    assert pool_texts(entries, [], NEGLABEL_RULE) == ["guide dog", "guide_dog"]


similarities = arrays(
    np.float64, st.integers(0, 60), elements=st.floats(-1, 1).map(lambda x: round(x, 2))
)


@given(similarities, st.floats(0.01, 1))
def test_selection_is_a_stable_sort(values: np.ndarray, fraction: float) -> None:
    expected = sorted(range(len(values)), key=lambda i: (values[i], i))
    chosen = select_least_similar(values, fraction)
    assert chosen.tolist() == expected[: int(len(values) * fraction)]


@given(st.integers(1, 30), st.integers(1, 25), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_similarity_is_the_quantile_over_classes(
    n_candidates: int, n_classes: int, quantile: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    candidates, classes = (
        (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
        for x in (rng.normal(size=(n, 4)) for n in (n_candidates, n_classes))
    )
    rule = MiningRule(quantile=quantile, similarity_cap=0.8)
    cosines = candidates.astype(np.float64) @ classes.astype(np.float64).T
    place = quantile * (n_classes - 1)
    low, high = int(np.floor(place)), int(np.ceil(place))
    ordered = np.sort(cosines, axis=1)
    expected = ordered[:, low] + (place - low) * (ordered[:, high] - ordered[:, low])
    expected[cosines.max(axis=1) > 0.8] = 1
    np.testing.assert_allclose(class_similarity(candidates, classes, rule), expected, atol=1e-12)


@pytest.mark.parametrize("cap", [None, 0.3])
def test_the_largest_cosine_is_the_quantile_at_one(cap: float | None) -> None:
    rng = np.random.default_rng(0)
    candidates = rng.standard_normal((300, 16)).astype(np.float32) / 4
    classes = rng.standard_normal((7, 16)).astype(np.float32) / 4
    cosines = candidates.astype(np.float64) @ classes.astype(np.float64).T
    expected = np.quantile(cosines, 1.0, axis=1)
    if cap is not None:
        expected[cosines.max(axis=1) > cap] = 1.0
    rule = MiningRule(quantile=1.0, similarity_cap=cap)
    assert class_similarity(candidates, classes, rule).tolist() == expected.tolist()
