"""Parameters of a detector with a vision model: candidates from answers that are asked once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from negrefine import Detector, NegRefine, VisionChecked, load_detector, metrics
from negrefine.detectors.card import detector_card
from negrefine.encoders import find_images
from negrefine.encoders.images import read_scored
from negrefine.errors import InputError, JudgeError
from negrefine.evaluation.results import Evaluation
from negrefine.evaluation.tune import TuningResult, tune
from negrefine.evaluation.tune_vision import SeenImages, tune_vision, vision_differences_on_tests
from negrefine.evaluation.tuning_images import TuningImages
from negrefine.judges.vision import image_key
from vision_judges import ScriptedVision

GRID: dict[str, list[Any]] = {
    "band": [0.1, 0.4, None],
    "k": [1, 3],
    "alpha": [2.0, 1.0],
    "weight": [0.0, 0.3, 1.0],
}


@pytest.fixture(scope="module")
def images(folders: Path) -> TuningImages:
    """Animals against food, to be tested on vehicles."""
    animals = [path for path in find_images([folders / "animals"]) if path.name != "broken.png"]
    return TuningImages(
        animals[::2],
        "food",
        find_images([folders / "food"]),
        test_inside=animals[1::2],
        tests={"vehicles": find_images([folders / "vehicles"])},
    )


@pytest.fixture(scope="module")
def base(fit: Callable[..., dict[str, Detector]], images: TuningImages) -> NegRefine:
    detector = fit("negrefine", top_fraction=0.8)["negrefine"]
    assert isinstance(detector, NegRefine)
    return detector.calibrate(images.inside, 0.3)


@pytest.fixture(scope="module")
def seen(base: NegRefine, images: TuningImages) -> list[SeenImages]:
    sets = {"ID": images.inside, "food": images.outside, "test": images.test_inside}
    return [
        SeenImages(base.encoder.encode_images(paths), paths, name) for name, paths in sets.items()
    ]


@pytest.fixture(scope="module")
def tuned(base: NegRefine, seen: list[SeenImages]) -> tuple[TuningResult, ScriptedVision]:
    """Of a detector whose own values are in the grid."""
    judge = ScriptedVision()
    checked = VisionChecked.of(base, judge, weight=0.3, k=3, band=0.4)
    return tune_vision(checked, *seen[:2], GRID, n_bootstrap=20), judge


def key_of(base: NegRefine, path: Any) -> str:
    return image_key(read_scored(base.encoder, path).convert("RGB"))


def test_recombined_candidates_are_those_that_score_by_themselves(
    base: NegRefine, seen: list[SeenImages], tuned: tuple[TuningResult, ScriptedVision]
) -> None:
    result, _ = tuned
    # Weight 0 asks nothing: it differs by alpha alone.
    assert len(result.rows) == 2 + 3 * 2 * 2 * 2
    assert result.rows[0].values == {"band": 0.4, "k": 3, "alpha": 2.0, "weight": 0.3}
    assert len({tuple(row.values.items()) for row in result.rows}) == len(result.rows)
    (threshold,) = (base.offset_,)
    assert threshold is not None
    before = [base.score_features(each.features) for each in seen[:2]]
    n_other = 0
    for row, detector in zip(result.rows, result.detectors, strict=True):
        values = dict(row.values)
        single = base.with_params(alpha=values.pop("alpha"))
        # The band is around the score with as many in-distribution images below it.
        below = int((before[0] < threshold).sum())
        own = np.sort(single.score_features(seen[0].features))[below]
        single.offset_ = threshold if single.alpha == 2 else float(own)
        alone = VisionChecked.of(single, ScriptedVision(), **values)
        checks = [alone.check_features(each.features, each.images) for each in seen[:2]]
        scores = [each.scores for each in checks]
        assert row.auroc.value == pytest.approx(metrics.auroc(*scores), abs=1e-12)
        assert row.fpr95.value == pytest.approx(metrics.fpr95(*scores), abs=1e-12)
        assert row.id_questions == checks[0].n_questions / len(scores[0])
        assert row.ood_questions == checks[1].n_questions / len(scores[1])
        assert isinstance(detector, VisionChecked)
        again = detector.check_features(seen[1].features, seen[1].images)
        np.testing.assert_array_equal(again.scores, scores[1])
        n_other += not np.array_equal(scores[1], before[1])
    assert n_other > 20
    costs = {row.id_questions for row in result.rows}
    assert {0.0, 2.0, 6.0} < costs


def test_every_question_is_asked_once_and_none_that_no_candidate_asks(
    base: NegRefine, seen: list[SeenImages]
) -> None:
    judge = ScriptedVision()
    checked = VisionChecked.of(base, judge, weight=1.0, k=4, band=0.05, confine=True)
    result = tune_vision(checked, *seen[:2], {"band": [0.2], "k": [1, 2]}, n_bootstrap=2)
    assert set(judge.asked.values()) == {1}
    assert result.n_questions == judge.asked.total()
    # Four names where the detector's own narrow band is, two in the wider one.
    expected = 0
    for each in seen[:2]:
        away = np.abs(base.score_features(each.features) - base.offset_)
        expected += 8 * (away < 0.05).sum() + 4 * ((away >= 0.05) & (away < 0.2)).sum()
    assert judge.asked.total() == expected > 20
    for row in result.rows:
        own = {name: value for name, value in row.values.items() if name != "alpha"}
        alone = VisionChecked.of(base, ScriptedVision(), confine=True, **own)
        scores = [alone.check(each.images).scores for each in seen[:2]]
        assert row.auroc.value == pytest.approx(metrics.auroc(*scores), abs=1e-12)


def test_a_failing_question_costs_its_image_in_all_candidates(
    base: NegRefine, seen: list[SeenImages]
) -> None:
    lost = key_of(base, seen[0].images[2])
    checked = VisionChecked.of(base, ScriptedVision(fails=[lost]), weight=1.0, rule="class")
    with pytest.warns(UserWarning, match=r"1 of 8 images of ID are left out of all .* too odd"):
        result = tune_vision(checked, *seen[:2], {"weight": [0.0, 0.5]}, n_bootstrap=2)
    rest = [i for i in range(len(seen[0].images)) if i != 2]
    for row in result.rows:
        single = VisionChecked.of(base, ScriptedVision(), weight=row.values["weight"], rule="class")
        scores = [single.check(each.images).scores for each in seen[:2]]
        assert row.auroc.value == pytest.approx(
            metrics.auroc(scores[0][rest], scores[1]), abs=1e-12
        )
    all_lost = [key_of(base, path) for path in seen[1].images]
    with pytest.raises(JudgeError, match="16 of 16 images of food"):
        tune_vision(
            VisionChecked.of(base, ScriptedVision(fails=all_lost)),
            *seen[:2],
            {"k": [1]},
            n_bootstrap=2,
        )
    undecided = VisionChecked.of(base, ScriptedVision(undecided=all_lost[:3]))
    with pytest.warns(UserWarning, match="3 of 24 images, in the candidate with the most"):
        tune_vision(undecided, *seen[:2], {"k": [1]}, n_bootstrap=2)


def test_a_choice_is_recorded_and_its_images_are_refused(
    base: NegRefine,
    seen: list[SeenImages],
    images: TuningImages,
    tuned: tuple[TuningResult, ScriptedVision],
    run: Callable[..., Evaluation],
    tmp_path: Path,
) -> None:
    result, judge = tuned
    before = VisionChecked.of(base, judge, weight=0.3, k=3, band=0.4)
    position = next(
        i
        for i, row in enumerate(result.rows)
        if row.values == {"band": 0.1, "k": 1, "alpha": 1.0, "weight": 1.0}
    )
    features = [each.features for each in seen[:2]]
    chosen = images.recorded(before, result, position, features)
    chosen.save(tmp_path / "saved")
    loaded = load_detector(tmp_path / "saved", base.encoder).set_params(vision=judge)
    assert isinstance(loaded, VisionChecked)
    tuning = loaded.tuning_
    assert tuning is not None
    assert tuning.chosen == {"band": 0.1, "k": 1, "alpha": 1.0, "weight": 1.0}
    assert str(tuning).startswith("band 0.1, k 1, alpha 1, weight 1: tuned on the validation set")
    assert loaded.base_.tuning_ is None
    assert (loaded.alpha, loaded.offset_) == (1.0, None)
    np.testing.assert_array_equal(
        loaded.check(seen[2].images).scores,
        result.detectors[position].score_samples(seen[2].images),
    )
    for refused in (images.inside, images.outside):
        with pytest.raises(InputError, match="tuned on: calibrate with others"):
            loaded.calibrate([*images.test_inside, refused[0]], 0.2)
        with pytest.raises(InputError, match="tuned on"):
            loaded.check_unseen_images(refused, "test")
    loaded.calibrate(images.test_inside, 0.2)
    # Another value ends the record, but the band stays where these images have placed it.
    other = loaded.with_params(weight=0.5)
    assert other.tuning_ is None
    with pytest.raises(InputError, match="the band of this detector was placed on"):
        other.calibrate(images.inside, 0.2)
    other.with_params(band=None).calibrate(images.inside, 0.2)
    # Nothing chosen: the detector as it was, which says so.
    kept = images.recorded(before, result, 0, features)
    assert kept.tuning_ is not None
    assert kept.tuning_.kept
    assert "band none" in str(images.recorded(before, result, _without_band(result), []).tuning_)


def _without_band(result: TuningResult) -> int:
    return next(i for i, row in enumerate(result.rows) if row.values["band"] is None)


def test_choices_of_the_base_and_of_the_detector_both_count(
    base: NegRefine, seen: list[SeenImages], images: TuningImages, tmp_path: Path
) -> None:
    features = [each.features for each in seen[:2]]
    first = tune(base, *features, {"k": [4, 5]}, n_bootstrap=2)
    tuned_base = images.recorded(base, first, 1, features)
    checked = VisionChecked.of(tuned_base, ScriptedVision(), k=1)
    assert checked.tuning_ == tuned_base.tuning_ is not None
    vehicles = images.tests["vehicles"]
    others = [
        seen[2],
        SeenImages(base.encoder.encode_images(vehicles), vehicles, "vehicles"),
    ]
    second = TuningImages(images.test_inside, "vehicles", vehicles)
    result = tune_vision(checked, *others, {"weight": [0.0, 1.0]}, n_bootstrap=2)
    twice = second.recorded(checked, result, 1, [each.features for each in others])
    twice.save(tmp_path)
    loaded = load_detector(tmp_path, base.encoder)
    assert isinstance(loaded, VisionChecked)
    assert [each.validation for each in loaded.tunings_] == ["food", "vehicles"]
    card = detector_card(tmp_path)
    assert card.index("validation set 'food'") < card.index("validation set 'vehicles'")
    for paths in (images.inside, images.outside, second.inside, second.outside):
        with pytest.raises(InputError, match="tuned on"):
            loaded.check_unseen_images(paths[:1])


def test_a_gain_is_measured_on_other_images(
    base: NegRefine, seen: list[SeenImages], images: TuningImages
) -> None:
    lost = key_of(base, seen[2].images[0])
    judge = ScriptedVision(fails=[lost])
    before = VisionChecked.of(base, judge, weight=0.0)
    after = VisionChecked.of(base, judge, weight=1.0)
    paths = images.tests["vehicles"]
    tests = {"vehicles": SeenImages(base.encoder.encode_images(paths), paths, "vehicles")}
    with pytest.warns(UserWarning, match="1 of 8 images of test are left out of the test"):
        rows = vision_differences_on_tests(before, after, seen[2], tests, 10)
    whole = VisionChecked.of(base, ScriptedVision(), weight=1.0)
    aurocs = [
        metrics.auroc(each.check(seen[2].images).scores[1:], each.check(paths).scores)
        for each in (whole, before)
    ]
    assert rows[0].auroc.value == pytest.approx(aurocs[0] - aurocs[1], abs=1e-12)
    assert aurocs[0] != aurocs[1]


def test_what_cannot_be_tuned(
    base: NegRefine, seen: list[SeenImages], images: TuningImages
) -> None:
    checked = VisionChecked.of(base, ScriptedVision())
    grids: dict[str, dict[str, list[Any]]] = {
        "Nothing named 'rule' can be tuned here, only band, k, alpha, weight": {"rule": ["pair"]},
        r"weight must lie in \[0, 1\]": {"weight": [2.0]},
        "band must be a positive number or None": {"band": [-1.0]},
        "which alpha 0 leaves out": {"alpha": [0.0]},
        "one candidate only": {"weight": [0.5]},
    }
    for problem, grid in grids.items():
        with pytest.raises(InputError, match=problem):
            tune_vision(checked, *seen[:2], grid, n_bootstrap=2)
    with pytest.raises(InputError, match="must see the images: tune it with"):
        tune(checked, *(each.features for each in seen[:2]), n_bootstrap=2)
    without = VisionChecked.of(base.with_params(), ScriptedVision())
    with pytest.raises(InputError, match="A band is around the threshold"):
        tune_vision(without, *seen[:2], {"band": [0.1]}, n_bootstrap=2)
    # By default nothing is tried that the detector cannot have.
    rows = tune_vision(without, *seen[:2], n_bootstrap=2).rows
    assert {row.values["band"] for row in rows} == {None}
    assert {row.values["alpha"] for row in rows} == {1.0, 2.0, 4.0}
    by_class = base.with_params().calibrate(images.test_inside, 0.4, by="class")
    several = VisionChecked.of(by_class, ScriptedVision(), band=0.2)
    with pytest.raises(InputError, match="means nothing for another alpha"):
        tune_vision(several, *seen[:2], {"alpha": [1.0]}, n_bootstrap=2)
    rows = tune_vision(several, *seen[:2], n_bootstrap=2).rows
    assert {row.values["alpha"] for row in rows} == {2.0}
    assert {row.values["band"] for row in rows} == {0.1, 0.2, 0.3, None}
