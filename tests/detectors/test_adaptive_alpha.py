"""Other weights of S_MM than the published one: by the image's own S_NegLabel, and by class."""

from __future__ import annotations

from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import CLASS_NAMES
from negrefine import EOE, OODD, Detector, NegRefine, load_detector, metrics
from negrefine.adapters.onnx_description import exported_score
from negrefine.detectors.adaptive_alpha import (
    FACTORS,
    factors_by_class,
    relative_spread,
    uncertain_factor,
)
from negrefine.detectors.bundle import read_bundle
from negrefine.errors import BundleError, InputError, NotFittedError
from negrefine.evaluation.sweep import sweep


def ruled(detectors: dict[str, Detector], rule: str, **parameters: Any) -> NegRefine:
    """Return a copy of the fitted NegRefine with a rule, and for "class" with chosen factors."""
    detector = detectors["negrefine"].with_params(alpha_rule=rule, **parameters)
    assert isinstance(detector, NegRefine)
    if rule.startswith("class") and detector.alpha != 0:
        detector.choose_alphas_features(features_of(detector, 99, 200), least=10)
    return detector


def features_of(detector: NegRefine, seed: int, n: int = 6) -> Any:
    """Features near random classes, so that all classes have some."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(len(detector.class_names_), size=n)
    noise = rng.normal(size=(n, detector.class_features_.shape[1])) * 0.1
    return (detector.class_features_[classes] + noise).astype(np.float32)


def test_the_uncertain_factor_is_the_formula() -> None:
    p = np.random.default_rng(0).random(100)
    np.testing.assert_allclose(uncertain_factor(p), 4 * p * (1 - p), rtol=0, atol=1e-15)
    assert uncertain_factor(np.array([-0.5, 0.0, 0.5, 1.0, 7.0])).tolist() == [0, 0, 1, 0, 0]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), alpha=st.sampled_from([2.0, 0.5, -1.0]))
def test_factors_of_classes_have_the_smallest_spread(seed: int, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    classes = rng.choice(4, size=60, p=[0.5, 0.35, 0.1, 0.05])
    s, m = rng.random(60), rng.random(60) * rng.random()
    chosen = factors_by_class(s, m, classes, 5, alpha, least=12)
    counts = np.bincount(classes, minlength=5)
    np.testing.assert_array_equal(chosen.counts, counts)
    few = counts < 12
    assert chosen.n_own == (~few).sum()
    assert chosen.pooled == (counts[few].sum() >= 12)
    groups = [classes == k for k in np.flatnonzero(~few)]
    values = [chosen.factors[k] for k in np.flatnonzero(~few)]
    assert len(set(chosen.factors[few])) == 1
    if chosen.pooled:
        groups.append(few[classes])
        values.append(chosen.factors[few][0])
    else:
        assert set(chosen.factors[few]) == {1.0}
    for members, value in zip(groups, values, strict=True):
        spreads = {f: relative_spread(s[members], m[members], alpha * f) for f in FACTORS}
        assert value in FACTORS
        assert spreads[value] <= min(spreads.values()) + 2e-12


def test_of_equal_spreads_the_published_alpha_is_taken() -> None:
    same = np.full(30, 0.4)
    classes = np.zeros(30, dtype=np.intp)
    assert factors_by_class(same, same, classes, 1, 2.0).factors.tolist() == [1.0]
    wide, narrow = np.linspace(0, 1, 30), np.linspace(0.4, 0.6, 30)
    assert factors_by_class(wide, narrow, classes, 1, 2.0).factors.tolist() == [2.0]
    assert factors_by_class(narrow, wide, classes, 1, 2.0).factors.tolist() == [0.0]
    # Half of one part against the other cancels.
    assert factors_by_class(wide, 1 - wide, classes, 1, 2.0).factors.tolist() == [0.5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"factors": []}, "one or more"),
        ({"factors": [-1.0]}, "from 0 to 1000"),
        ({"factors": [np.nan]}, "from 0 to 1000"),
        ({"factors": [1e308]}, "from 0 to 1000"),
        ({"least": 1}, "least must be"),
    ],
)
def test_bad_choices_are_refused(arguments: dict[str, Any], message: str) -> None:
    s, classes = np.full(30, 0.5), np.zeros(30, dtype=np.intp)
    with pytest.raises(InputError, match=message):
        factors_by_class(s, s, classes, 1, 2.0, **arguments)
    with pytest.raises(InputError, match="no images"):
        factors_by_class(s[:0], s[:0], classes[:0], 1, 2.0)


def test_scores_are_sums_with_the_own_alpha(detectors: dict[str, Detector]) -> None:
    plain = ruled(detectors, "constant")
    features = features_of(plain, 1, 20)
    parts = plain.score_feature_parts(features)
    assert list(parts) == ["neglabel", "multi_match"]
    p, s_mm = parts["neglabel"], parts["multi_match"]
    assert (plain.score_features(features) == p + 2.0 * s_mm).all()
    uncertain = ruled(detectors, "uncertain")
    np.testing.assert_allclose(
        uncertain.score_features(features), p + 2.0 * 4 * p * (1 - p) * s_mm, rtol=0, atol=1e-12
    )
    by_class = ruled(detectors, "class")
    factors = by_class.alpha_factors_
    assert factors is not None
    assert len(set(factors)) > 1
    own = factors[by_class.predicted_classes(features)]
    np.testing.assert_allclose(
        by_class.score_features(features), p + 2.0 * own * s_mm, rtol=0, atol=1e-12
    )
    for rule, factor in (("uncertain-scaled", 4 * p * (1 - p)), ("class-scaled", own)):
        scaled = ruled(detectors, rule).score_features(features)
        mean = (p + 2.0 * factor * s_mm) / (1 + 2.0 * factor)
        np.testing.assert_allclose(scaled, 3.0 * mean, rtol=0, atol=1e-12)
    # The factors multiply alpha, whatever it is.
    np.testing.assert_allclose(
        by_class.with_params(alpha=0.5).score_features(features),
        p + 0.5 * own * s_mm,
        rtol=0,
        atol=1e-12,
    )


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000),
    rule=st.sampled_from(["uncertain", "class", "uncertain-scaled", "class-scaled"]),
    alpha=st.sampled_from([2.0, 0.3, -1.5, 0.0]),
    threshold=st.floats(-1.7, 3.2),
    by_image=st.booleans(),
)
def test_bounds_with_an_alpha_of_each_image_are_true(
    detectors: dict[str, Detector],
    seed: int,
    rule: str,
    alpha: float,
    threshold: float,
    by_image: bool,
) -> None:
    detector = ruled(detectors, rule).with_params(alpha=alpha)
    features = features_of(detector, seed, 12)
    plain = detector.score_features(features)
    thresholds: Any = threshold
    if by_image:
        thresholds = plain + np.random.default_rng(seed).normal(size=12) * 0.3
    bounded = detector.score_features(features, threshold=thresholds)
    np.testing.assert_array_equal(bounded.verdicts, np.where(plain >= thresholds, 1, -1))
    np.testing.assert_allclose(bounded.values[bounded.exact], plain[bounded.exact], atol=1e-9)
    inside = bounded.values >= thresholds
    lower, upper = ~bounded.exact & inside, ~bounded.exact & ~inside
    assert (bounded.values[lower] <= plain[lower] + 1e-9).all()
    assert (bounded.values[upper] >= plain[upper] - 1e-9).all()


@pytest.mark.parametrize("rule", ["uncertain", "class", "uncertain-scaled"])
def test_explanations_use_the_own_alpha(detectors: dict[str, Detector], rule: str) -> None:
    detector = ruled(detectors, rule)
    features = features_of(detector, 5, 12)
    scores = detector.score_features(features)
    neglabel = detector.score_feature_parts(features)["neglabel"]
    most = int(np.argmax(scores - neglabel))
    # Between the ends of the image that owes most to S_MM.
    detector.offset_ = (
        float(scores[most]) - 1e-6 if "-" in rule else float(scores[most] + neglabel[most]) / 2
    )
    found = detector.explain_features(features, unfiltered=True)
    everything = copy(detector)
    everything._hold(detector.mined_, detector.class_names_)
    unfiltered = everything.score_features(features)
    kinds = set()
    for i, each in enumerate(found):
        own = detector.alpha * each.parts["alpha_factor"]
        rest = each.parts["neglabel"]
        if rule.endswith("-scaled"):
            rest, own = (3.0 * term / (1.0 + own) for term in (rest, own))
        assert each.pair is not None
        assert each.pair.added == pytest.approx(own * each.parts["multi_match"], abs=1e-9)
        assert each.score == pytest.approx(rest + each.pair.added, abs=1e-9)
        ends = [rest + w >= detector.offset_ for w in (0.0, own)]
        assert each.decided_by == ("neglabel" if ends[0] == ends[1] else "multi_match")
        kinds.add(each.decided_by)
        assert each.unfiltered is not None
        assert each.unfiltered.score == pytest.approx(unfiltered[i], abs=1e-9)
    assert kinds == {"neglabel", "multi_match"}


def test_alphas_of_classes_must_be_chosen(detectors: dict[str, Detector]) -> None:
    unchosen = detectors["negrefine"].with_params(alpha_rule="class")
    assert isinstance(unchosen, NegRefine)
    features = features_of(unchosen, 0)
    with pytest.raises(NotFittedError, match="choose_alphas"):
        unchosen.score_features(features)
    assert len(unchosen.with_params(alpha=0).score_features(features)) == 6
    for other in (ruled(detectors, "uncertain"), unchosen.with_params(alpha=0)):
        assert isinstance(other, NegRefine)
        with pytest.raises(InputError, match="alpha_rule 'class' with an alpha other than 0"):
            other.choose_alphas_features(features)
    with pytest.raises(InputError, match="alpha_rule must be one of constant, uncertain, class, "):
        detectors["negrefine"].with_params(alpha_rule="adaptive")


def test_a_threshold_keeps_its_rate_with_alphas_chosen_on_other_images(
    detectors: dict[str, Detector],
) -> None:
    detector = ruled(detectors, "constant")
    features = features_of(detector, 4, 1500)
    parts = detector.score_feature_parts(features)
    s, m, classes = parts["neglabel"], parts["multi_match"], detector.predicted_classes(features)
    rng = np.random.default_rng(0)
    rates = []
    for _ in range(200):
        choosing, calibrating, new = np.split(rng.permutation(len(s)), [60, 99])
        found = factors_by_class(s[choosing], m[choosing], classes[choosing], 7, 2.0, least=8)
        scores = s + 2.0 * found.factors[classes] * m
        detector.calibrate_scores(scores[calibrating], fpr=0.1)
        assert detector.offset_ is not None
        rates.append((scores[new] < detector.offset_).mean())
    # Without ties 4 / 40; one deviation of the mean over 200 calibrations is 0.0033.
    assert 0.085 < np.mean(rates) < 0.115


def test_images_that_chose_alphas_do_not_calibrate(
    detectors: dict[str, Detector], tmp_path: Path
) -> None:
    detector = ruled(detectors, "class")
    own, others = features_of(detector, 1, 40), features_of(detector, 2, 40)
    detector.calibrate_features(others)
    detector.choose_alphas_features(own, least=5)
    assert detector.offset_ is None
    mixed = np.concatenate([own[:3], others])
    with pytest.raises(InputError, match=r"3 of the 43 different images to calibrate are images"):
        detector.calibrate_features(mixed)
    detector.calibrate_features(others)
    detector.save(tmp_path / "saved")
    loaded = load_detector(tmp_path / "saved", detector.encoder)
    with pytest.raises(InputError, match="calibrate with others"):
        loaded.calibrate_features(mixed)
    # With the published rule nothing of the choice is left.
    loaded.with_params(alpha_rule="constant").calibrate_features(mixed)


def test_images_that_chose_alphas_are_known_again(
    detectors: dict[str, Detector], demo_pictures: list[Path]
) -> None:
    detector = ruled(detectors, "class")
    detector.choose_alphas(demo_pictures[:20], least=3)
    features = detector.encoder.encode_images(demo_pictures[:20])
    np.testing.assert_array_equal(
        detector.alpha_factors_, detector.class_factors(features, least=3).factors
    )
    with pytest.raises(InputError, match="1 of the"):
        detector.calibrate(demo_pictures[19:])
    # An open file is known, too, and read on where it was.
    with demo_pictures[19].open("rb") as stream:
        stream.seek(7)
        with pytest.raises(InputError, match="1 of the"):
            detector.calibrate([stream, *demo_pictures[20:]])  # type: ignore[list-item]
        assert stream.tell() == 7
    detector.calibrate(demo_pictures[20:], fpr=0.2)
    assert detector.offset_ is not None


def test_a_frozen_stream_on_top_refuses_them_too(
    detectors: dict[str, Detector], demo_pictures: list[Path], tmp_path: Path
) -> None:
    detector = ruled(detectors, "class-scaled")
    detector.choose_alphas(demo_pictures[:8])
    stream = OODD(detector, size=5, k=1)
    stream.update_and_score(features_of(detector, 6))
    frozen = stream.freeze()
    frozen.save(tmp_path / "frozen")
    for each in (frozen, load_detector(tmp_path / "frozen", detector.encoder)):
        with pytest.raises(InputError, match=r"1 of the .* the parameters of its base were chosen"):
            each.calibrate(demo_pictures[7:20], fpr=0.2)
        each.calibrate(demo_pictures[8:20], fpr=0.2)
    plain = OODD(detectors["negrefine"], size=5, k=1)
    plain.update_and_score(features_of(detector, 6))
    plain.freeze().save(tmp_path / "plain")
    assert not any(name.startswith("chosen_on") for name in read_bundle(tmp_path / "plain")[1])


@pytest.mark.parametrize("rule", ["constant", "uncertain", "class-scaled"])
def test_saved_detectors_score_the_same(
    detectors: dict[str, Detector], tmp_path: Path, rule: str
) -> None:
    detector = ruled(detectors, rule)
    features = features_of(detector, 3, 30)
    detector.calibrate_features(features)
    detector.save(tmp_path / "saved")
    loaded = load_detector(tmp_path / "saved", detector.encoder)
    assert isinstance(loaded, NegRefine)
    assert loaded.alpha_rule == rule
    assert loaded.identity() == detector.identity()
    np.testing.assert_array_equal(
        loaded.score_features(features), detector.score_features(features)
    )
    np.testing.assert_array_equal(
        loaded.predict_features(features), detector.predict_features(features)
    )
    saved = (tmp_path / "saved" / "detector.json").read_text()
    assert ("alpha_rule" in saved) is (rule != "constant")


def test_saved_factors_must_fit(detectors: dict[str, Detector], tmp_path: Path) -> None:
    detector = ruled(detectors, "class")
    factors = detector.alpha_factors_
    assert factors is not None
    for wrong in (
        factors[1:],
        factors.astype(np.float32),
        factors - 10,
        factors + 1e4,
        factors * np.nan,
    ):
        detector.alpha_factors_ = wrong
        detector.save(tmp_path / "wrong")
        with pytest.raises(BundleError, match="alpha_factors must be"):
            load_detector(tmp_path / "wrong", detector.encoder)


def test_fitting_again_forgets_the_choice(detectors: dict[str, Detector]) -> None:
    detector = ruled(detectors, "class")
    detector.fit(detector.class_names_[:4])
    assert detector.alpha_factors_ is None


@pytest.mark.parametrize("rule", ["uncertain-scaled", "class"])
def test_other_methods_on_top_use_the_own_alpha(
    detectors: dict[str, Detector], tmp_path: Path, rule: str
) -> None:
    detector = ruled(detectors, rule)
    features = features_of(detector, 6, 20)
    stream = OODD(detector, size=10, k=2, weight=0.5)
    stream.update_and_score(features)
    frozen = stream.freeze()
    parts = frozen.score_feature_parts(features)
    np.testing.assert_array_equal(parts["base"], detector.score_features(features))
    frozen.save(tmp_path / "frozen")
    loaded = load_detector(tmp_path / "frozen", detector.encoder)
    np.testing.assert_array_equal(loaded.score_features(features), frozen.score_features(features))
    labels = EOE.on_labels_of(detector).score_features(features)
    np.testing.assert_array_equal(
        labels, EOE.on_labels_of(detectors["negrefine"]).score_features(features)
    )
    exported = exported_score(detector)
    assert exported.detector.part_names_ == ["neglabel"]
    assert "S_MM is left out" in str(exported.left_out)


def test_a_sweep_keeps_the_rule(detectors: dict[str, Detector]) -> None:
    detector = ruled(detectors, "uncertain")
    inside, outside = features_of(detector, 7, 20), features_of(detector, 8, 20)
    given = {name: getattr(detector, name) for name in ("alpha_rule", "lexicon", "lexicon_files")}
    plain = NegRefine(detector.encoder, judge="none", top_fraction=0.8, n_groups=100, **given)
    detector = plain.set_params(official=False).fit(CLASS_NAMES)
    rows = sweep(
        detector.encoder,
        CLASS_NAMES,
        inside,
        {"x": outside},
        {"alpha": [0.0, 0.5, 2.0], "top_fraction": [0.8]},
        judge="none",
        official=False,
        **given,
    )
    for row in rows:
        single = detector.with_params(alpha=row.setting.alpha)
        scores = single.score_features(inside), single.score_features(outside)
        assert row.auroc == pytest.approx(metrics.auroc(*scores), abs=1e-12)
    assert rows[0].auroc != rows[-1].auroc


def test_a_sweep_has_no_images_to_choose_alphas_on(detectors: dict[str, Detector]) -> None:
    encoder = detectors["negrefine"].encoder
    with pytest.raises(InputError, match="has no images to choose alphas of classes on"):
        sweep(encoder, ["a", "b"], np.eye(2), {"x": np.eye(2)}, {}, alpha_rule="class-scaled")
