"""Parameters tuned on a validation set: what is best, how clearly, and what is recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from negrefine import OODD, Detector, NegRefine, load_detector, metrics
from negrefine.detectors.tuning import Tuning
from negrefine.encoders import find_images
from negrefine.errors import BundleError, InputError
from negrefine.evaluation.images import encode_readable
from negrefine.evaluation.provenance import images_digest
from negrefine.evaluation.results import Evaluation
from negrefine.evaluation.tune import TuningResult, tune
from negrefine.evaluation.tuning_images import TuningImages, differences_on_tests


class Counting(NegRefine):
    """Counts which parts of its score are computed."""

    computed: ClassVar[Counter[str]] = Counter()

    def compute_part(self, name: str, images: Any) -> Any:
        self.computed[name] += 1
        return super().compute_part(name, images)


@pytest.fixture(scope="module")
def refine(fit: Callable[..., dict[str, Detector]]) -> NegRefine:
    detector = fit("negrefine", top_fraction=0.8)["negrefine"]
    assert isinstance(detector, NegRefine)
    return detector


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


def encoded(detector: NegRefine, paths: Any) -> Any:
    return encode_readable(detector.encoder, list(paths))[0]


@pytest.fixture(scope="module")
def features(refine: NegRefine, images: TuningImages) -> list[Any]:
    return [encoded(refine, each) for each in (images.inside, images.outside, images.test_inside)]


@pytest.fixture(scope="module")
def turned(refine: NegRefine, features: list[Any]) -> TuningResult:
    """Of a detector with a rule under which the images of the classes have the lowest scores."""
    base = refine.with_params(alpha_rule="uncertain")
    return tune(base, *features[:2], {"alpha_rule": ["uncertain", "constant"]}, n_bootstrap=200)


def test_candidates_are_scored_as_by_themselves(refine: NegRefine, features: list[Any]) -> None:
    inside, outside, choosing = features
    counting = refine.with_params()
    counting.__class__ = Counting
    grid = {
        "alpha_rule": ["constant", "uncertain-scaled", "class-scaled"],
        "k": [1, 5],
        "alpha": [0.5, 2.0],
    }
    Counting.computed.clear()
    result = tune(counting, inside, outside, grid, alpha_features=choosing, n_bootstrap=20)
    # Two sets; alphas are chosen for four candidates, and "uncertain" computes S_NegLabel again.
    assert Counting.computed["neglabel"] == 2 * 2 + 4
    assert Counting.computed["multi_match"] == 2 * 2 + 4
    assert len(result.rows) == 12
    own = {"alpha_rule": "constant", "k": 5, "alpha": 2.0}
    assert result.rows[0].values == own
    assert result.rows[0].auroc_gain is None
    assert len({tuple(row.values.items()) for row in result.rows}) == 12
    base = refine.score_features(inside), refine.score_features(outside)
    for row, tuned in zip(result.rows, result.detectors, strict=True):
        single = refine.with_params(**row.values)
        if single.chooses_alphas:
            single.choose_alphas_features(choosing)
        scores = single.score_features(inside), single.score_features(outside)
        assert row.auroc.value == pytest.approx(metrics.auroc(*scores), abs=1e-12)
        assert row.fpr95.value == pytest.approx(metrics.fpr95(*scores), abs=1e-12)
        np.testing.assert_array_equal(tuned.score_features(inside), scores[0])
        if row.auroc_gain is not None and row.fpr95_gain is not None:
            gain = metrics.auroc(*scores) - metrics.auroc(*base)
            assert row.auroc_gain.value == pytest.approx(gain, abs=1e-12)
            gain = metrics.fpr95(*scores) - metrics.fpr95(*base)
            assert row.fpr95_gain.value == pytest.approx(gain, abs=1e-12)
    best = result.rows[result.best]
    assert best.auroc.value == max(row.auroc.value for row in result.rows)


def test_parts_that_no_feature_tells_are_given(refine: NegRefine, features: list[Any]) -> None:
    inside, outside, _ = features
    known = (np.linspace(0, 1, len(inside)), np.linspace(0.5, 0.2, len(outside)))
    result = tune(
        refine, inside, outside, {"alpha": [3.0]}, known_parts={"multi_match": known}, n_bootstrap=5
    )
    scores = [
        refine.score_feature_parts(each, only=["neglabel"])["neglabel"] + 3.0 * part
        for each, part in zip((inside, outside), known, strict=True)
    ]
    assert result.rows[1].auroc.value == pytest.approx(metrics.auroc(*scores), abs=1e-12)


def test_a_better_candidate_is_told_from_a_lucky_one(
    refine: NegRefine, features: list[Any], turned: TuningResult
) -> None:
    assert turned.best == 1
    assert turned.improved
    assert turned.p_value == pytest.approx(1 / 201)
    gain = turned.rows[1].auroc_gain
    assert gain is not None
    assert gain.low is not None
    assert gain.low > 0
    # Equal candidates: the values of the detector stay.
    inside, outside, _ = features
    same = tune(refine, inside, outside, {"alpha": [2.0, 2.0 + 1e-9, 2.0 - 1e-9]}, n_bootstrap=50)
    assert (same.best, same.improved) == (0, False)
    # Images of one kind on both sides: nothing can be better, whatever luck there is.
    rng = np.random.default_rng(0)
    both = np.concatenate([inside, outside])
    lucky = 0
    for _ in range(20):
        order = rng.permutation(len(both))
        half = len(both) // 2
        sides = both[order[:half]], both[order[half:]]
        lucky += tune(
            refine, *sides, {"alpha": [0, 0.3, 1, 5], "k": [1, 5]}, n_bootstrap=60
        ).improved
    assert lucky <= 4


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (
            {"n_groups": [5]},
            "Nothing named 'n_groups' can be tuned here, only alpha_rule, k, alpha",
        ),
        ({"alpha": []}, "no values for 'alpha'"),
        ({"alpha": 3.0}, "no values for 'alpha'"),
        ([("alpha", [1.0])], "The grid must have lists of values by parameter"),
        ({"alpha_rule": "class"}, "no values for 'alpha_rule'"),
        ({"k": [0]}, "k must be a whole number of at least 1"),
        ({"alpha": [2.0]}, "one candidate only"),
        ({"alpha_rule": ["class"]}, "alpha_rule 'class' needs in-distribution images of its own"),
    ],
)
def test_grids_that_cannot_be_tuned(
    refine: NegRefine, features: list[Any], grid: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        tune(refine, *features[:2], grid, n_bootstrap=5)
    with pytest.raises(InputError, match="needs resamples"):
        tune(refine, *features[:2], n_bootstrap=0)
    with pytest.raises(InputError, match="n_bootstrap must be a whole number"):
        tune(refine, *features[:2], n_bootstrap=2.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="There are no validation images"):
        tune(refine, features[0], features[1][:0], n_bootstrap=5)


def test_parameters_that_mean_something_else_cannot_be_tuned(
    refine: NegRefine, features: list[Any]
) -> None:
    stream = OODD(refine)
    stream.update_and_score(features[1])
    with pytest.raises(InputError, match="Nothing named 'k' can be tuned here, only nothing"):
        tune(stream.freeze(), *features[:2], {"k": [1, 5]})


def test_numbers_of_numpy_are_recorded_as_numbers(
    refine: NegRefine, images: TuningImages, features: list[Any], tmp_path: Path
) -> None:
    grid = {"alpha": np.linspace(0.5, 1.5, 3), "k": [np.int64(2)]}
    result = tune(refine.with_params(alpha=np.float64(3.0)), *features[:2], grid, n_bootstrap=5)
    assert len(result.rows) == 4
    chosen = images.recorded(refine, result, 2, features[:2])
    chosen.save(tmp_path / "numpy")
    tuning = load_detector(tmp_path / "numpy", refine.encoder).tuning_  # type: ignore[attr-defined]
    assert tuning.chosen == {"alpha_rule": "constant", "k": 2, "alpha": 1.0}
    assert tuning.instead_of["alpha"] == 3.0


def test_a_tuned_detector_says_so_and_refuses_the_same_images(
    turned: TuningResult,
    images: TuningImages,
    features: list[Any],
    run: Callable[..., Evaluation],
    tmp_path: Path,
) -> None:
    images.check()
    before = turned.detectors[0]
    chosen = images.recorded(before, turned, 1, features[:2])
    chosen.save(tmp_path / "saved")
    loaded = load_detector(tmp_path / "saved", before.encoder)
    assert isinstance(loaded, NegRefine)
    tuning = loaded.tuning_
    assert tuning is not None
    assert tuning == chosen.tuning_
    assert (tuning.validation, tuning.n_validation, tuning.candidates) == ("food", 16, 2)
    assert tuning.validation_images == images_digest(images.outside)
    assert (tuning.n_id, tuning.id_images) == (len(images.inside), images_digest(images.inside))
    assert tuning.chosen["alpha_rule"] == "constant"
    assert tuning.instead_of["alpha_rule"] == "uncertain"
    # What is recorded decides no score.
    assert loaded.identity() == before.with_params(alpha_rule="constant").identity()
    with pytest.raises(InputError, match=r"1 of the .* parameters of this detector were tuned on"):
        loaded.calibrate([images.inside[0], *images.test_inside], fpr=0.2)
    with pytest.raises(InputError, match="tuned on: calibrate with others"):
        loaded.calibrate_features(features[0], fpr=0.2)
    loaded.calibrate(images.test_inside, fpr=0.2)
    # Another value than the chosen one is not what was tuned; other parameters say nothing.
    assert loaded.with_params(group_seed=3).tuning_ == tuning
    assert loaded.with_params(alpha=1.0).tuning_ is None
    loaded.with_params(alpha=1.0).calibrate_features(features[0], fpr=0.2)
    with pytest.raises(InputError, match="tuned on: evaluate with others"):
        run(tmp_path / "same", {"tuned": loaded})


def test_images_of_an_earlier_tuning_stay_refused(
    turned: TuningResult, images: TuningImages, features: list[Any]
) -> None:
    once = images.recorded(turned.detectors[0], turned, 1, features[:2])
    assert isinstance(once, NegRefine)
    other = TuningImages(images.test_inside, "vehicles", images.tests["vehicles"])
    second = [features[2], encoded(once, other.outside)]
    result = tune(once, *second, {"alpha": [1.0, 2.0]}, n_bootstrap=5)
    twice = other.recorded(once, result, 1, second)
    assert twice.tuning_ is not None
    assert twice.tuning_.validation == "vehicles"
    for paths in (images.inside, images.outside, other.inside, other.outside):
        with pytest.raises(InputError, match="tuned on"):
            twice.check_unseen_images(paths[:1])


def test_an_evaluation_of_a_tuned_detector_says_so(
    turned: TuningResult,
    images: TuningImages,
    run: Callable[..., Evaluation],
    tmp_path: Path,
) -> None:
    tuning = images.recorded(turned.detectors[0], turned, 1, []).tuning_
    assert tuning is not None
    chosen = turned.detectors[1]
    # Of other images than those of the evaluation.
    chosen.set_tuning(tuning, np.array([1, 2], dtype=np.uint64))
    evaluation = run(tmp_path / "evaluation", {"mine": chosen})
    (note,) = [each for each in evaluation.settings["notes"] if "tuned" in each]
    said = "tuned on the validation set 'food' (16 images, SHA-256 "
    assert note.startswith("mine, alpha_rule constant, k 5, alpha 2: ")
    assert said in note
    assert note.endswith("among 2 candidates.")


def test_a_gain_is_measured_on_other_images(
    turned: TuningResult, images: TuningImages, features: list[Any]
) -> None:
    before, after = turned.detectors
    outside = encoded(before, images.tests["vehicles"])
    rows = differences_on_tests(before, after, features[2], {"vehicles": outside}, 30)
    scores = [each.score_features(x) for each in (before, after) for x in (features[2], outside)]
    gain = metrics.auroc(*scores[2:]) - metrics.auroc(*scores[:2])
    assert rows[0].auroc.value == pytest.approx(gain, abs=1e-12)
    images.check_tests(after)


def test_images_serve_one_purpose(images: TuningImages) -> None:
    inside, outside = images.inside, images.outside
    with pytest.raises(InputError, match="1 of the 1 different images to test are images that the"):
        TuningImages(inside, "food", outside, (), inside[:1], {"a": images.test_inside}).check()
    with pytest.raises(InputError, match="tuned on: test with others"):
        TuningImages(inside, "food", outside, (), images.test_inside, {"a": outside}).check()
    with pytest.raises(InputError, match="tuned on: choose alphas with others"):
        TuningImages(inside, "food", outside, inside[:2]).check()
    with pytest.raises(InputError, match="'food' are in-distribution images too"):
        TuningImages(inside, "food", inside).check()


def test_records_that_are_damaged(
    turned: TuningResult, images: TuningImages, tmp_path: Path
) -> None:
    chosen = images.recorded(turned.detectors[0], turned, 1, [])
    tuning = chosen.tuning_
    assert tuning is not None
    content = asdict(tuning)
    assert Tuning.of(content) == tuning
    wrong = {
        "validation": "",
        "n_validation": 0,
        "validation_images": "a" * 63,
        "candidates": True,
        "chosen": {"alpha": [1]},
        "instead_of": {},
        "gain": float("nan"),
        "p_value": 1.5,
    }
    for name, value in wrong.items():
        with pytest.raises(InputError, match=name):
            Tuning.of({**content, name: value})
    chosen._marks = {"tuning": np.array([2, 1], dtype=np.uint64)}
    chosen.save(tmp_path / "wrong")
    with pytest.raises(BundleError, match=r"chosen_on\.tuning must ascend"):
        load_detector(tmp_path / "wrong", chosen.encoder)
