"""The guarantee of calibrated thresholds, by simulation through the public interface."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from commands import Commands
from negrefine import MCM, Detector, NegRefine, load_detector
from negrefine.detectors.conformal import (
    conformal_threshold,
    detection_interval,
    images_needed,
    p_values,
    threshold_rank,
)
from negrefine.encoders import CLIPEncoder
from negrefine.errors import BundleError, InputError, NotFittedError

DRAWS = 400


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    commands = Commands(tmp_path_factory.mktemp("commands"))
    yield commands
    commands.close()


@pytest.fixture(scope="module")
def mcm(builtin_encoder: CLIPEncoder) -> MCM:
    return MCM(builtin_encoder).fit(["dog", "cat", "owl"])


def false_alarm_rates(
    detector: Detector, n: int, fpr: float, draw: Any, **options: Any
) -> npt.NDArray[np.float64]:
    """Return the false-alarm rate of each of many calibrations on many fresh scores."""
    rates = []
    for seed in range(DRAWS):
        generator = np.random.default_rng(seed)
        detector.calibrate_scores(draw(generator, n), fpr, **options)
        rates.append(np.mean(draw(generator, 2000) < detector.offset_))
    return np.array(rates)


def continuous(generator: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    return generator.gamma(2.0, size=n)


def tied(generator: np.random.Generator, n: int) -> npt.NDArray[np.float64]:
    return generator.integers(0, 6, size=n).astype(np.float64)


@pytest.mark.parametrize(("n", "fpr"), [(19, 0.05), (50, 0.1), (99, 0.29), (33, 0.5)])
def test_the_rate_holds_and_is_used_up(mcm: MCM, n: int, fpr: float) -> None:
    rates = false_alarm_rates(mcm, n, fpr, continuous)
    error = 4 * rates.std() / math.sqrt(DRAWS)
    assert rates.mean() <= fpr + error
    assert rates.mean() >= fpr - 1 / (n + 1) - error
    # Beta(m, n + 1 - m), whose mean is m / (n + 1).
    assert rates.mean() == pytest.approx(threshold_rank(n, fpr) / (n + 1), abs=error)


@pytest.mark.parametrize(("n", "fpr"), [(19, 0.05), (50, 0.1), (99, 0.29), (33, 0.5)])
def test_the_rate_holds_with_ties(mcm: MCM, n: int, fpr: float) -> None:
    rates = false_alarm_rates(mcm, n, fpr, tied)
    assert rates.mean() <= fpr + 4 * rates.std() / math.sqrt(DRAWS)
    # A whole value is flagged or none of it, so up to a value's share (1/6) goes unused.
    assert rates.mean() >= fpr - 1 / 6 - 1 / (n + 1)


def test_the_rate_holds_for_features(mcm: MCM) -> None:
    detector = copy(mcm)
    dim = detector.class_features_.shape[1]
    flagged = []
    for seed in range(200):
        features = np.random.default_rng(seed).normal(size=(139, dim))
        detector.calibrate_features(features[:39], fpr=0.1)
        flagged.append(np.mean(detector.score_features(features[39:]) < detector.offset_))
        small = detector.p_values_features(features[39:]) <= 0.1
        assert np.mean(small) == flagged[-1]
    error = 4 * np.std(flagged) / math.sqrt(200)
    assert 0.1 - 1 / 40 - error <= np.mean(flagged) <= 0.1 + error


@pytest.mark.parametrize("draw", [continuous, tied])
def test_the_rate_of_one_threshold(mcm: MCM, draw: Any) -> None:
    rates = false_alarm_rates(mcm, 100, 0.1, draw, delta=0.1)
    exceeded = np.mean(rates > 0.1 + 3 * math.sqrt(0.09 / 2000))
    assert exceeded <= 0.1
    if draw is continuous:
        assert rates.mean() > 0.04


@given(
    scores=st.lists(st.integers(-5, 5), min_size=1, max_size=60),
    fpr=st.decimals("0.01", "0.99", places=2).map(float),
    new=st.integers(-6, 6),
)
def test_flagged_exactly_if_the_p_value_is_small(scores: list[int], fpr: float, new: int) -> None:
    array = np.sort(np.array(scores, dtype=np.float64))
    n = len(array)
    if n < images_needed(fpr):
        with pytest.raises(InputError, match=f"at least {images_needed(fpr)} in-distribution"):
            conformal_threshold(array, fpr)
        return
    at_most = sum(score <= new for score in scores)
    assert p_values(array, new) == (1 + at_most) / (n + 1)
    # In whole hundredths, so that rounding decides nothing.
    small = 100 * (1 + at_most) <= round(100 * fpr) * (n + 1)
    assert (new < conformal_threshold(array, fpr)) == small


def test_how_many_images_are_needed() -> None:
    assert [images_needed(fpr) for fpr in (0.5, 0.2, 0.1, 0.05, 0.03, 0.01)] == [
        *(1, 4, 9, 19, 33, 99)
    ]
    assert images_needed(0.05, 0.05) == 59
    assert images_needed(0.01, 0.01) == 459
    for fpr, delta in ((0.05, 0.05), (0.3, 0.2), (0.9, 0.5)):
        n = images_needed(fpr, delta)
        assert threshold_rank(n, fpr, delta) >= 1
        assert threshold_rank(n - 1, fpr, delta) == 0
        assert (1 - fpr) ** n <= delta < (1 - fpr) ** (n - 1)
        rank = threshold_rank(500, fpr, delta)
        assert binom.cdf(rank - 1, 500, fpr) <= delta < binom.cdf(rank, 500, fpr)
    # Numbers at which floating point has no successor do not hang.
    assert images_needed(1e-17, 0.5) == pytest.approx(math.log(2) * 1e17, rel=1e-9)
    with pytest.raises(InputError, match="needs more images than there are: give a larger rate"):
        images_needed(1e-300, 0.5)
    # 0.29 * 100 is a little less than 29 in floating point.
    assert threshold_rank(99, 0.29) == 29


def test_the_interval_of_a_rate() -> None:
    assert detection_interval(0, 10) == (0.0, pytest.approx(1 - 0.025**0.1))
    assert detection_interval(10, 10) == (pytest.approx(0.025**0.1), 1.0)
    low, high = detection_interval(7, 20)
    assert binom.sf(6, 20, low) == pytest.approx(0.025)
    assert binom.cdf(7, 20, high) == pytest.approx(0.025)
    with pytest.raises(InputError, match="n >= 1"):
        detection_interval(0, 0)


def test_bad_calibrations(mcm: MCM, builtin_encoder: CLIPEncoder) -> None:
    detector = copy(mcm).calibrate_scores(np.arange(19.0))
    with pytest.raises(InputError, match=r"at least 19 .* not 18: .* fpr >= 0.0527"):
        detector.calibrate_scores(np.arange(18.0))
    detector.calibrate_scores(np.arange(18.0), 0.0527)
    with pytest.raises(InputError, match=r"with probability 0.95 needs at least 59 .* not 58"):
        detector.calibrate_scores(np.arange(58.0), delta=0.05)
    for scores in ([[1.0, 2.0]], [1.0, math.nan], [1.0, math.inf]):
        with pytest.raises(InputError, match="finite numbers in one dimension"):
            detector.calibrate_scores(scores, 0.5)
    for rate in ("0.1", None, math.nan):
        with pytest.raises(InputError, match="fpr must lie strictly between 0 and 1, not "):
            detector.calibrate_scores(np.arange(60.0), rate)
    with pytest.raises(InputError, match="delta must lie"):
        detector.calibrate_scores(np.arange(60.0), delta=1.0)
    with pytest.raises(NotFittedError, match="no calibration scores"):
        MCM(builtin_encoder).fit(["dog", "cat"]).p_values_features(np.ones((1, 256)))


def test_saved_and_forgotten(
    detectors: dict[str, Detector], demo_pictures: list[Path], tmp_path: Path
) -> None:
    first = detectors["negrefine"]
    assert isinstance(first, NegRefine)
    plain = first.with_filter("none")
    plain.save(tmp_path / "plain")
    assert load_detector(tmp_path / "plain").calibration_scores_ is None
    before = plain.identity()
    plain.calibrate(demo_pictures, 0.1)
    assert plain.identity() != before
    plain.save(tmp_path / "calibrated")
    again = load_detector(tmp_path / "calibrated")
    assert again.offset_ == plain.offset_
    assert again.calibration_scores_ is not None
    assert again.calibration_scores_.dtype == np.float64
    np.testing.assert_array_equal(again.calibration_scores_, plain.calibration_scores_)
    np.testing.assert_array_equal(again.p_values(demo_pictures), plain.p_values(demo_pictures))
    assert plain.with_filter("none").calibration_scores_ is None
    assert plain.calibration_scores_ is not None
    simple = MCM(again.encoder).fit(["dog", "cat"]).calibrate_scores(np.arange(19.0))
    assert simple.fit(["dog", "cat"]).calibration_scores_ is None


def test_scores_that_were_unsorted_by_hand_are_not_saved(mcm: MCM, tmp_path: Path) -> None:
    detector = copy(mcm).calibrate_scores(np.arange(19.0))
    detector.calibration_scores_ = np.array([2.0, 1.0])
    with pytest.raises(BundleError, match="cannot be saved: calibration_scores are not sorted"):
        detector.save(tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_on_the_command_line(
    run: Commands, mcm: MCM, demo_pictures: list[Path], tmp_path: Path
) -> None:
    saved, inside, outside = (tmp_path / name for name in ("detector", "id", "ood"))
    mcm.save(saved)
    for folder, pictures in ((inside, demo_pictures[:10]), (outside, demo_pictures[-8:])):
        folder.mkdir()
        for picture in pictures:
            (folder / picture.name).write_bytes(picture.read_bytes())
    (inside / "broken.png").write_bytes(b"no picture")
    done = run("calibrate", saved, "--id", inside, "--fpr", "0.1", "--ood", outside)
    assert done.code == 0, done.err
    assert "1 of 11 images could not be read and were left out" in done.err
    assert "from 10 images, false-alarm rate <= 0.1 (mean over calibrations)" in done.out
    detector = load_detector(saved)
    scores = np.sort(detector.score_samples(demo_pictures[:10]))
    assert detector.offset_ == pytest.approx(scores[0], abs=1e-7)
    n = int((detector.predict(demo_pictures[-8:]) == -1).sum())
    low, high = detection_interval(n, 8)
    assert f"{n} of 8 flagged, {n / 8:.1%} (95 % interval {low:.1%} to {high:.1%})" in done.out
    report = json.loads(run("calibrate", saved, "--id", inside, "--fpr", "0.1", "--json").out)[
        "calibration"
    ]
    assert (report["n"], report["rank"], len(report["errors"])) == (10, 1, 1)
    # Rows carry p-values, of a run that continues as of one in one go.
    rows = list(csv.DictReader(io.StringIO(run("score", saved, outside).out)))
    expected = detector.p_values(sorted(outside.iterdir()))
    assert [float(row["p_value"]) for row in rows] == expected.tolist()
    # Too few that can be read.
    done = run("calibrate", saved, "--id", inside, "--fpr", "0.085")
    assert "at least 11 in-distribution images to calibrate on, not 10" in done.failed()
    assert "1 of the 11 given could not be read" in done.failed()
    assert "needs at least 19" in run("calibrate", saved, "--id", inside).failed()
    assert load_detector(saved).offset_ == detector.offset_


def test_fit_keeps_what_was_mined_if_calibration_fails(run: Commands, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("dog\ncat\n")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    done = run(
        *("fit", "--classes", tmp_path / "classes.txt", "--out", tmp_path / "d"),
        *("--encoder", "builtin", "--method", "mcm", "--fpr", "0.5"),
        *("--calibrate", tmp_path / "broken.png"),
    )
    assert "without a threshold; 'negrefine calibrate' sets it" in done.failed()
    assert load_detector(tmp_path / "d").offset_ is None
