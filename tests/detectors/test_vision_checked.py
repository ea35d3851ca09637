"""NegRefine whose doubtful images a vision model looks at, with an oracle as the model."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from negrefine import CSP, NegRefine, OpenAIVision, VisionChecked, load_detector
from negrefine.detectors.base import Detector
from negrefine.detectors.bundle import read_bundle, write_bundle
from negrefine.detectors.vision_score import (
    checked_score,
    class_seen,
    corrected_margins,
    vision_score,
)
from negrefine.encoders import CLIPEncoder
from negrefine.errors import BundleError, ImageError, InputError, JudgeError
from negrefine.evaluation.image_scores import score_files
from negrefine.judges.vision import ImagesFailedError, image_key

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "vision.py"


@pytest.fixture(scope="module")
def script() -> Any:
    """The benchmark, whose pictures and oracle the tests use."""
    spec = importlib.util.spec_from_file_location("vision_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def base(script: Any, builtin_encoder: CLIPEncoder) -> NegRefine:
    """A detector on the demo's animals, calibrated on pictures of them; do not change it."""
    detector: NegRefine = script.fit(builtin_encoder)
    inside = [each.image for each in script.composites(20, 1) if each.kind != "other"]
    return detector.calibrate(inside, 0.1)


@pytest.fixture(scope="module")
def pictures(script: Any) -> list[Any]:
    """Eight pictures of each kind."""
    made: list[Any] = script.composites(8)
    return made


def images_of(pictures: Sequence[Any]) -> list[Image.Image]:
    return [each.image for each in pictures]


class Plain:
    """A judge whose margins are a function of image and name."""

    name = "plain"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def yes_margins(
        self, images: Sequence[Image.Image], names: Sequence[Sequence[str]]
    ) -> NDArray[np.float64]:
        keys = [image_key(image) for image in images]
        self.asked += [(key, name) for key, row in zip(keys, names, strict=True) for name in row]
        return np.array(
            [[self.margin(k, n) for n in row] for k, row in zip(keys, names, strict=True)]
        )

    def margin(self, key: str, name: str) -> float:
        seed = [int(key[:12], 16), *name.encode()]
        return float(np.random.default_rng(seed).normal(0, 3))


def test_the_formulas_are_those_of_plain_loops() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 5, (50, 2)), rng.normal(0, 5, (50, 3))

    def sigma(x: float) -> float:
        return float(1 / (1 + np.exp(-x)))

    pairs = [max(sigma(x) * sigma(y) for x in p for y in n) for p, n in zip(a, b, strict=True)]
    np.testing.assert_allclose(vision_score(a, b), pairs, rtol=1e-12)
    np.testing.assert_allclose(class_seen(a), [max(map(sigma, row)) for row in a], rtol=1e-12)
    mixed = checked_score(a[:, 0], a[:, 1], b[:, 0], 2.0, 0.25)
    np.testing.assert_allclose(mixed, a[:, 0] + 2 * (0.75 * a[:, 1] + 0.25 * b[:, 0]))


def test_words_alone_are_certain_and_what_is_undecided_stays_so() -> None:
    inf, nan = np.inf, np.nan
    assert vision_score([[inf, -inf]], [[inf]]).tolist() == [1.0]
    assert vision_score([[-inf]], [[inf]]).tolist() == [0.0]
    assert np.isnan(vision_score([[-inf, nan]], [[inf]])).all()
    corrected = corrected_margins([1.0, inf, 1.0, nan], [0.5, 0.5, inf, 0.5])
    np.testing.assert_array_equal(corrected, [0.5, inf, nan, nan])


def test_weight_zero_is_the_published_method_bit_for_bit(
    base: NegRefine, pictures: list[Any]
) -> None:
    judge = Plain()
    checked = VisionChecked.of(base, judge, weight=0.0, band=0.5)
    images = images_of(pictures)
    assert checked.score_samples(images).tobytes() == base.score_samples(images).tobytes()
    assert judge.asked == []
    calibrated = checked.calibrate(images[:16], 0.1)
    assert calibrated.offset_ == base.with_params().calibrate(images[:16], 0.1).offset_


def test_scores_are_the_formula_of_the_answers_about_the_nearest_names(
    base: NegRefine, pictures: list[Any]
) -> None:
    judge = Plain()
    images = images_of(pictures)
    checked = VisionChecked.of(base, judge, weight=0.3, k=2)
    checks = checked.check(images)
    features = base.encoder.encode_images(images)
    parts = base.score_feature_parts(features)
    cosines = features @ base.class_features_.T, features @ base.negatives_.features.T  # type: ignore[union-attr]
    expected = []
    for i, image in enumerate(images):
        key = image_key(image)
        classes = [base.class_names_[j] for j in np.argsort(-cosines[0][i])[:2]]
        labels = [base.negatives_.texts[j] for j in np.argsort(-cosines[1][i])[:2]]  # type: ignore[union-attr]
        s_vlm = max(
            1 / (1 + np.exp(-judge.margin(key, c))) / (1 + np.exp(-judge.margin(key, n)))
            for c in classes
            for n in labels
        )
        mixed = 0.7 * parts["multi_match"][i] + 0.3 * s_vlm
        expected.append(parts["neglabel"][i] + base.alpha * mixed)
    np.testing.assert_allclose(checks.scores, expected, rtol=1e-12)
    assert checks.asked.all()
    assert checks.n_questions == 4 * len(images)
    np.testing.assert_array_equal(checked.score_samples(images), checks.scores)


def test_the_rule_class_asks_about_class_names_alone(
    base: NegRefine, pictures: list[Any], script: Any
) -> None:
    checked = VisionChecked.of(base, script.oracle_of(pictures), rule="class", k=25, weight=1.0)
    checks = checked.check(images_of(pictures))
    # With every class name asked for, the oracle knows which pictures show one.
    shows = np.array([each.kind != "other" for each in pictures])
    expected = np.where(shows, 1 / (1 + np.exp(-4)), 1 / (1 + np.exp(4)))
    np.testing.assert_allclose(checks.parts["vision"], expected)


def test_only_images_in_the_band_are_asked_about_and_all_others_keep_their_score(
    base: NegRefine, pictures: list[Any]
) -> None:
    judge = Plain()
    images = images_of(pictures)
    checked = VisionChecked.of(base, judge, weight=1.0, band=0.2)
    checks = checked.check(images)
    plain = base.score_samples(images)
    assert base.offset_ is not None
    inside = np.abs(plain - base.offset_) < 0.2
    assert 0 < inside.sum() < len(images)
    np.testing.assert_array_equal(checks.asked, inside)
    assert checks.scores[~inside].tobytes() == plain[~inside].tobytes()
    assert (checks.scores[inside] != plain[inside]).all()
    assert np.isnan(checks.parts["vision"][~inside]).all()
    assert len(judge.asked) == 4 * inside.sum() == checks.n_questions
    # Another threshold of the final score moves no band.
    checked.offset_ = 0.0
    np.testing.assert_array_equal(checked.check(images).asked, inside)
    report = checked.report(checks)
    assert (report.n, report.asked, report.questions) == (24, inside.sum(), 4 * inside.sum())
    assert report.changed == ((checks.scores >= 0) != (plain >= base.offset_)).sum()
    confined = VisionChecked.of(base, judge, weight=1.0, band=0.2, confine=True).check(images)
    edges = (base.offset_ - 0.2, base.offset_ + 0.2)
    np.testing.assert_array_equal(
        confined.scores, np.where(inside, np.clip(checks.scores, *edges), plain)
    )


def test_the_band_is_around_the_threshold_of_the_predicted_class(
    base: NegRefine, pictures: list[Any], script: Any
) -> None:
    images = images_of(pictures)
    by_class = base.with_params()
    inside = [each.image for each in script.composites(60, 2) if each.kind == "class"]
    by_class.calibrate(inside, 0.4, by="class")
    assert by_class.class_offsets_ is not None
    assert len(set(by_class.class_offsets_)) > 1
    checks = VisionChecked.of(by_class, Plain(), band=0.3).check(images)
    centre = by_class.class_offsets_[checks.classes]
    np.testing.assert_array_equal(checks.asked, np.abs(checks.base_scores - centre) < 0.3)


def test_decisions_p_values_and_classes_are_those_of_the_final_score(
    base: NegRefine, pictures: list[Any]
) -> None:
    images = images_of(pictures)
    checked = VisionChecked.of(base, Plain(), weight=0.8, band=0.6)
    checked.calibrate(images[:16], 0.2)
    scores = checked.score_samples(images)
    known = np.sort(scores[:16])
    assert checked.offset_ == known[2]
    np.testing.assert_array_equal(checked.predict(images), np.where(scores >= known[2], 1, -1))
    expected = [(1 + (known <= score).sum()) / 17 for score in scores]
    np.testing.assert_allclose(checked.p_values(images), expected)
    flagged = [name is None for name in checked.classify(images)]
    assert flagged == (scores < known[2]).tolist()


class Sometimes(Plain):
    """Leaves one name undecided, and fails about some images."""

    def __init__(self, undecided: str = "", fails: Sequence[str] = ()) -> None:
        super().__init__()
        self.undecided, self.fails = undecided, set(fails)

    def yes_margins(
        self, images: Sequence[Image.Image], names: Sequence[Sequence[str]]
    ) -> NDArray[np.float64]:
        bad = {i: "no answer" for i, each in enumerate(images) if image_key(each) in self.fails}
        if bad:
            raise ImagesFailedError("some questions failed", bad)
        return super().yes_margins(images, names)

    def margin(self, key: str, name: str) -> float:
        return np.nan if name == self.undecided else super().margin(key, name)


def test_an_undecided_answer_leaves_the_score_and_is_counted(
    base: NegRefine, pictures: list[Any]
) -> None:
    images = images_of(pictures)
    checks = VisionChecked.of(base, Plain()).check(images)
    name = base.class_names_[int(checks.classes[0])]
    checked = VisionChecked.of(base, Sometimes(undecided=name))
    found = checked.check(images)
    assert found.undecided[0]
    assert not found.undecided.all()
    np.testing.assert_array_equal(
        found.scores, np.where(found.undecided, found.base_scores, checks.scores)
    )
    n = int(found.undecided.sum())
    assert checked.report(found).undecided == n
    with pytest.warns(UserWarning, match=f"{n} of 24 images keep the score without"):
        checked.score_samples(images)


def test_a_failing_question_costs_its_image_and_no_other(
    base: NegRefine, pictures: list[Any]
) -> None:
    images = images_of(pictures)
    checked = VisionChecked.of(base, Sometimes(fails=[image_key(images[3]), image_key(images[20])]))
    checks = checked.check(images)
    assert sorted(checks.failed) == [3, 20]
    assert np.flatnonzero(np.isnan(checks.scores)).tolist() == [3, 20]
    whole = VisionChecked.of(base, Plain()).check(images)
    rest = [i for i in range(24) if i not in (3, 20)]
    np.testing.assert_array_equal(checks.scores[rest], whole.scores[rest])
    assert checked.report(checks).failed == 2
    assert not checks.undecided.any()
    with pytest.raises(JudgeError, match=r"2 of 24 images have no score.* no answer"):
        checked.predict(images) if checked.offset_ else checked.score_samples(images)


def test_the_answers_on_a_grey_image_are_subtracted_and_asked_once(
    base: NegRefine, pictures: list[Any]
) -> None:
    judge = Plain()
    images = images_of(pictures)
    checked = VisionChecked.of(base, judge, correct=True)
    checks = checked.check(images)
    grey = image_key(Image.new("RGB", (224, 224), (127, 127, 127)))
    of_grey = [name for key, name in judge.asked if key == grey]
    assert len(of_grey) == len(set(of_grey)) > 4
    plain = VisionChecked.of(base, Plain()).check(images)
    ((key, name), *_) = judge.asked
    assert plain.margins[0, 0] == judge.margin(key, name)
    assert checks.margins[0, 0] == judge.margin(key, name) - judge.margin(grey, name)
    n = len(judge.asked)
    checked.check(images)
    assert len(judge.asked) == n + 4 * len(images)


def test_a_question_that_fails_on_the_grey_image_costs_the_images_that_need_it(
    base: NegRefine, pictures: list[Any]
) -> None:
    images = images_of(pictures)[:18]
    judge = Plain()
    checked = VisionChecked.of(base, judge, correct=True)
    known = checked.check(images[:2])
    failing = Sometimes(fails=[image_key(Image.new("RGB", (224, 224), (127, 127, 127)))])
    checked.set_params(vision=failing)
    # What the first two images need is known.
    checks = checked.check(images)
    assert set(range(18)) - set(checks.failed) >= {0, 1}
    np.testing.assert_allclose(checks.scores[:2], known.scores, rtol=1e-6)
    assert np.isnan(checks.scores[list(checks.failed)]).all()
    assert set(checks.failed.values()) == {"On a grey image: no answer"}
    with pytest.raises(JudgeError, match=r"images have no score.* On a grey image"):
        checked.score_samples(images)


def test_features_alone_are_refused(base: NegRefine, pictures: list[Any]) -> None:
    checked = VisionChecked.of(base, Plain())
    checked.offset_ = 1.0
    features = base.encoder.encode_images(images_of(pictures[:2]))
    for refused in (
        checked.score_features,
        checked.predict_features,
        checked.classify_features,
        checked.explain_features,
        checked.calibrate_features,
    ):
        with pytest.raises(InputError, match="needs the images"):
            refused(features)
    with pytest.raises(InputError, match=r"Fit a NegRefine"):
        checked.fit(["dog", "cat"])


def test_what_it_cannot_be_made_from_is_refused(
    base: NegRefine, detectors: dict[str, Detector]
) -> None:
    judge: Any = Plain()
    csp = detectors["csp"]
    assert isinstance(csp, CSP)
    with pytest.raises(InputError, match="made from a fitted NegRefine"):
        VisionChecked.of(csp, judge)
    with pytest.raises(InputError, match="beside S_MM"):
        VisionChecked.of(base.with_params(alpha=0.0), judge)
    with pytest.raises(InputError, match="band is around the threshold"):
        VisionChecked.of(base.with_params(), judge, band=0.1)
    with pytest.raises(InputError, match=r"weight must lie in \[0, 1\]"):
        VisionChecked.of(base, judge, weight=1.5)
    with pytest.raises(InputError, match="vision must have a name"):
        VisionChecked.of(base, "a model")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="vision must have a name"):
        VisionChecked.of(base, Plain)  # type: ignore[arg-type]


def test_wrong_numbers_of_a_judge_are_refused(base: NegRefine, pictures: list[Any]) -> None:
    class Wrong(Plain):
        def yes_margins(self, images: Any, names: Any) -> Any:  # noqa: ARG002
            return [1.0] * len(images)

    with pytest.raises(InputError, match=r"'plain' must return .* shape \(2, 4\)"):
        VisionChecked.of(base, Wrong()).score_samples(images_of(pictures[:2]))

    class Words(Plain):
        def margin(self, key: str, name: str) -> Any:
            return super().margin(key, name) > 0

    with pytest.raises(InputError, match=r"must be real numbers, not bool"):
        VisionChecked.of(base, Words()).score_samples(images_of(pictures[:2]))
    with pytest.raises(ImageError, match="missing"):
        VisionChecked.of(base, Plain()).score_samples(["missing.png"])


def test_it_is_saved_and_loaded_with_its_base_and_the_name_of_its_judge(
    base: NegRefine, pictures: list[Any], tmp_path: Path, builtin_encoder: CLIPEncoder
) -> None:
    images = images_of(pictures)
    checked = VisionChecked.of(base, Plain(), weight=0.7, band=0.4, k=3, rule="class")
    checked.calibrate(images[:16], 0.2)
    checked.save(tmp_path / "checked")
    loaded = load_detector(tmp_path / "checked", builtin_encoder)
    assert isinstance(loaded, VisionChecked)
    assert loaded.identity() == checked.identity()
    assert loaded.offset_ == checked.offset_
    assert base.offset_ is not None
    assert loaded.band_thresholds_.tolist() == [base.offset_]
    with pytest.raises(InputError, match=r"'plain' is not part of the saved detector"):
        loaded.score_samples(images)
    # It can be saved again all the same.
    loaded.save(tmp_path / "again")
    loaded.set_params(vision=Plain())
    np.testing.assert_array_equal(loaded.score_samples(images), checked.score_samples(images))
    other = Plain()
    other.name = "other"
    loaded.set_params(vision=other)
    with pytest.raises(InputError, match="'other' is not the one that this detector was saved"):
        loaded.score_samples(images)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda _, tables: tables["vision"].clear(), "do not fit together"),
        (lambda _, tables: tables["vision"][0].update(kind=3), "vision.kind must be a text"),
        (lambda _, tables: tables["vision"][0]["settings"].update(more=1), "vision.settings must"),
        (lambda _, tables: tables["vision"][0]["settings"].update(question="?"), "must be a text"),
        (lambda _, tables: tables["vision"][0]["settings"].update(longest_side=1.5), "whole"),
        (lambda _, tables: tables["vision"][0]["settings"].update(revision={}), "must be a text"),
        (
            lambda _, tables: tables["vision"][0]["settings"].update(question="{name:>99999999}?"),
            "no other field",
        ),
        (lambda _, tables: tables["base"][0]["parameters"].update(alpha=0), "beside S_MM"),
        (lambda arrays, _: arrays.update(band_thresholds=np.array([np.nan])), "must be finite"),
        (lambda arrays, _: arrays.update(band_thresholds=np.array([1])), "must be finite float64"),
        (lambda arrays, _: arrays.update(band_thresholds=np.zeros(0)), "A band is around"),
    ],
)
def test_a_damaged_form_is_refused(
    base: NegRefine,
    tmp_path: Path,
    builtin_encoder: CLIPEncoder,
    damage: Callable[[Any, Any], object],
    problem: str,
) -> None:
    VisionChecked.of(base, OpenAIVision("m", store=None), band=0.1).save(tmp_path)
    manifest, arrays, tables = read_bundle(tmp_path)
    assert "http" not in json.dumps(tables["vision"])
    damage(arrays, tables)
    own = ("format", "format_version", "negrefine_version", "files")
    write_bundle(tmp_path, {n: f for n, f in manifest.items() if n not in own}, arrays, tables)
    with pytest.raises(BundleError, match=problem):
        load_detector(tmp_path, builtin_encoder)


def test_rows_of_files_continue_an_interrupted_run(
    base: NegRefine, pictures: list[Any], tmp_path: Path
) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(len(pictures))]
    for path, each in zip(paths, pictures, strict=True):
        each.image.save(path)
    journal = tmp_path / "journal"
    checked = VisionChecked.of(base, Plain(), band=0.2)
    checked.offset_ = 1.0
    rows = score_files(checked, paths, journal=journal)
    checks = checked.check(paths)
    assert [row.score for row in rows] == checks.scores.tolist()
    assert ["vision" in row.parts for row in rows] == checks.asked.tolist()
    judge = Plain()
    again = VisionChecked.of(base, judge, band=0.2)
    again.offset_ = 1.0
    assert score_files(again, paths, journal=journal) == rows
    assert judge.asked == []
    failing = VisionChecked.of(base, Sometimes(fails=[image_key(pictures[5].image)]), weight=0.9)
    (wrong,) = [row for row in score_files(failing, paths) if row.error]
    assert (wrong.path, wrong.error, wrong.score) == (str(paths[5]), "no answer", None)


def test_it_takes_the_alphas_of_its_base_and_refuses_the_images_that_chose_them(
    base: NegRefine, pictures: list[Any], tmp_path: Path, builtin_encoder: CLIPEncoder
) -> None:
    images = images_of(pictures)
    other = base.with_params(alpha_rule="class-scaled").choose_alphas(images[:12], least=2)
    checked = VisionChecked.of(other, Plain(), weight=1.0)
    checks = checked.check(images)
    factor = checks.parts["alpha_factor"]
    assert (factor != 1).any()
    alpha = 2 * factor
    expected = (checks.parts["neglabel"] + alpha * checks.parts["vision"]) * 3 / (1 + alpha)
    np.testing.assert_allclose(checks.scores, expected)
    checked.save(tmp_path)
    loaded = load_detector(tmp_path, builtin_encoder).set_params(vision=Plain())
    for each in (checked, loaded):
        with pytest.raises(InputError, match="alphas of this detector were chosen on"):
            each.calibrate(images, 0.1)
    np.testing.assert_array_equal(loaded.score_samples(images), checks.scores)


def test_an_explanation_says_what_the_model_sees(
    base: NegRefine, pictures: list[Any], script: Any
) -> None:
    from negrefine.detectors.explanation import verdict_sentences

    checked = VisionChecked.of(base, script.oracle_of(pictures), weight=1.0, k=5)
    checked.offset_ = base.offset_
    image = pictures[8].image
    explanation = checked.explain(image)
    assert explanation.score == checked.score_samples([image])[0]
    assert set(explanation.parts) == {"neglabel", "multi_match", "vision"}
    seen = explanation.vision
    assert seen is not None
    assert len(seen.classes) == len(seen.negatives) == 5
    shown = {each.text for each in seen.classes if (each.probability or 0) > 0.5}
    assert shown <= pictures[8].shown
    assert seen.score_without == base.score_samples([image])[0]
    assert any("'oracle' sees" in text for text in verdict_sentences(explanation))
    assert explanation.as_dict()["vision"]["model"] == "oracle"
    far = VisionChecked.of(base, script.oracle_of(pictures), band=1e-9).explain(image)
    assert far.vision is None
    assert set(far.parts) == {"neglabel", "multi_match"}


def test_an_oracle_separates_better_and_the_band_asks_little(base: NegRefine, script: Any) -> None:
    pictures = script.composites(40)
    inside = [each for each in script.composites(24, 1) if each.kind != "other"]
    settings = [
        ("S_MM", {"weight": 0.0}),
        ("V", {"weight": 1.0, "rule": "class", "k": 5}),
        ("band", {"weight": 1.0, "rule": "class", "k": 5, "band": 0.3}),
    ]
    plain, seen, band = script.measure(base.with_params(), pictures, inside, 0.0, settings)
    assert plain.questions == 0
    assert seen.questions == 5
    assert seen.figures["auroc"] > plain.figures["auroc"] + 0.005
    assert seen.flagged_other > plain.flagged_other
    assert band.questions < 1.5
