"""Streams of images: their order, what is measured of them, and the tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from negrefine import OODD, AdaNeg, Detector, NegLabel
from negrefine.detectors.conformal import conformal_threshold
from negrefine.errors import InputError
from negrefine.evaluation.results import Evaluation, load_evaluation
from negrefine.evaluation.stream_orders import ORDERS, StreamSetting, make_stream
from negrefine.evaluation.stream_rows import Spread, StreamRow
from negrefine.evaluation.stream_tables import write_stream_tables
from negrefine.evaluation.streams import StreamPlan, evaluate_streams
from negrefine.metrics import auroc, fpr95
from negrefine.report.page import write_report
from negrefine.streaming.given import detector_of_features

Floats = NDArray[np.float32]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("ratio", "counts"),
    [("natural", (50, 70)), ("none", (50, 0)), ("1:1", (50, 50)), ("100:1", (50, 1))],
)
def test_a_stream_has_each_image_once(order: str, ratio: str, counts: tuple[int, int]) -> None:
    setting = StreamSetting(order, ratio, burst=10)
    assert setting.counts(50, 70) == counts
    stream = make_stream(setting, 50, (40, 30), (0, 1), seed=3)
    pairs = list(zip(stream.sets.tolist(), stream.images.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs) == sum(counts)
    assert Counter(s > 0 for s, _ in pairs)[True] == counts[1]
    assert all(image < (50, 40, 30)[number] for number, image in pairs)
    again = make_stream(setting, 50, (40, 30), (0, 1), seed=3)
    assert again.sets.tolist() == stream.sets.tolist()
    assert again.images.tolist() == stream.images.tolist()
    other = make_stream(setting, 50, (40, 30), (0, 1), seed=4)
    assert other.images.tolist() != stream.images.tolist()


def test_ratios_leave_out_images_of_the_larger_side() -> None:
    assert StreamSetting(ratio="1:1").counts(100, 30) == (30, 30)
    assert StreamSetting(ratio="3:2").counts(300, 500) == (300, 200)
    assert StreamSetting(ratio="2:3").counts(30, 3) == (2, 3)
    left_out = np.arange(0, 40, 2)
    stream = make_stream(StreamSetting(), 40, (5,), (0,), seed=0, left_out=left_out)
    assert set(stream.images[stream.sets == 0].tolist()) == set(range(1, 40, 2))


def test_bursts_are_runs() -> None:
    def run_lengths(order: str) -> list[int]:
        stream = make_stream(StreamSetting(order, burst=8), 200, (40,), (0,), seed=1)
        text = "".join("o" if number else "i" for number in stream.sets)
        return [len(run) for run in text.split("i") if run]

    # Two bursts may touch.
    assert all(length % 8 == 0 for length in run_lengths("bursts"))
    assert max(run_lengths("shuffled")) < 8


def test_settings_that_mean_nothing_are_refused() -> None:
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: StreamSetting("sorted"), "order must be one of shuffled, mixed, bursts"),
        (lambda: StreamSetting(ratio="1:0"), "ratio must be 'natural', 'none', or ID to OOD"),
        (lambda: StreamSetting(batch_size=0), "batch_size must be a whole number"),
        (lambda: StreamPlan({}, settings=()), "at least one setting and one seed"),
        (lambda: StreamPlan({}, seeds=(1, 1)), "must be different whole numbers"),
        (lambda: StreamPlan({}, fpr=1.5), "must lie strictly between 0 and 1"),
    ]
    for make, said in cases:
        with pytest.raises(InputError, match=said):
            make()


class World:
    """An ID set and two OOD sets as features, a base, and its scores."""

    def __init__(self) -> None:
        rng = np.random.default_rng(7)

        def near(rows: NDArray[Any], n: int) -> Floats:
            found = rows[rng.integers(0, len(rows), n)] + 0.35 * rng.normal(size=(n, 12))
            return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

        classes, negatives = rng.normal(size=(5, 12)), rng.normal(size=(20, 12))
        self.base = detector_of_features(classes, negatives, 15.0)
        self.features = [near(classes, 90), near(negatives[:4], 50), near(negatives[4:9], 40)]
        self.names = ["near", "far"]
        self.static = {"static": [self.base.score_features(each) for each in self.features]}

    def run(self, streams: dict[str, Any], *settings: StreamSetting) -> list[StreamRow]:
        plan = StreamPlan(streams, settings, seeds=(0, 1, 2))
        return evaluate_streams(plan, self.features, self.names, self.static)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_rows_are_what_one_measures_by_hand(world: World) -> None:
    stream = AdaNeg(world.base, n_groups=2)
    setting = StreamSetting(batch_size=32)
    rows = world.run({"adaptive": stream}, setting)
    assert [(row.method, row.ood_set) for row in rows] == [
        (method, name) for method in ("static", "adaptive") for name in ("near", "far", "mean")
    ]
    expected: dict[str, list[tuple[float, float, float]]] = {"near": [], "far": []}
    for seed in range(3):
        for i, name in enumerate(world.names):
            order = make_stream(setting, 90, (50, 40), (i,), seed)

            def scored(order: Any) -> Any:
                features = [
                    world.features[s][k] for s, k in zip(order.sets, order.images, strict=True)
                ]
                starts = list(range(0, len(features), 32))
                # Fewer than 16 left over join the batch before.
                if len(features) - starts[-1] < 16:
                    starts.pop()
                stops = [*starts[1:], len(features)]
                return np.concatenate(
                    [
                        stream.update_and_score(features[a:b])
                        for a, b in zip(starts, stops, strict=True)
                    ]
                )

            stream.reset()
            scores = scored(order)
            sides = scores[order.sets == 0], scores[order.sets > 0]
            stream.reset()
            drawn = np.random.default_rng([seed, 0]).permutation(90)[:45]
            first = type(order)(np.zeros(45, np.int64), drawn)
            threshold = conformal_threshold(np.sort(scored(first)), 0.05)
            later = make_stream(setting, 90, (50, 40), (i,), seed, left_out=drawn)
            assert not set(later.images[later.sets == 0]) & set(drawn)
            alarms = (scored(later)[later.sets == 0] < threshold).mean()
            expected[name].append((auroc(*sides), fpr95(*sides), float(alarms)))
    for row in rows[3:5]:
        assert row.learns
        for spread, values, worst in zip(
            (row.auroc, row.fpr95, row.false_alarms),
            np.array(expected[row.ood_set]).T,
            (min, max, max),
            strict=True,
        ):
            assert spread is not None
            wanted = Spread(float(values.mean()), float(values.std(ddof=1)), worst(values))
            assert (spread.mean, spread.std, spread.worst) == pytest.approx(
                (wanted.mean, wanted.std, wanted.worst), abs=1e-12
            )
    static = rows[0]
    assert not static.learns
    assert static.auroc is not None
    inside, outside = world.static["static"][:2]
    assert static.auroc.mean == static.auroc.worst == pytest.approx(auroc(inside, outside))
    assert static.auroc.std == pytest.approx(0)
    means = [np.mean([rows[i].auroc.mean for i in pair]) for pair in ((0, 1), (3, 4))]  # type: ignore[union-attr]
    assert [rows[2].auroc.mean, rows[5].auroc.mean] == pytest.approx(means)  # type: ignore[union-attr]


def test_a_mixed_stream_is_one_stream_and_no_ood_leaves_false_alarms(world: World) -> None:
    rows = world.run(
        {"oodd": OODD(world.base, weight=0.2)},
        StreamSetting("mixed", "1:1", 50),
        StreamSetting("mixed", "none", 50),
        StreamSetting("bursts", "none", 50),
    )
    mixed = [row for row in rows if row.ratio == "1:1"]
    near, far, mean = (row for row in mixed if row.method == "oodd")
    assert (mean.n_id, mean.n_ood, near.n_ood + far.n_ood) == (90, 90, 90)
    assert near.false_alarms == far.false_alarms == mean.false_alarms
    none = [row for row in rows if row.ratio == "none"]
    # Without OOD images every order is the same.
    assert [(row.method, row.order, row.n_id, row.n_ood) for row in none] == [
        ("static", "shuffled", 90, 0),
        ("oodd", "shuffled", 90, 0),
    ]
    assert all(row.auroc is None and row.fpr95 is None and row.false_alarms for row in none)


def test_few_images_have_no_threshold(world: World) -> None:
    small = World()
    small.features = [each[:30] for each in world.features]
    small.static = {"static": [each[:30] for each in world.static["static"]]}
    rows = small.run({}, StreamSetting())
    assert all(row.false_alarms is None and row.auroc is not None for row in rows)
    with pytest.raises(InputError, match="is both static and a stream"):
        small.run({"static": AdaNeg(small.base)}, StreamSetting())


def test_an_evaluation_has_streams_beside_its_tables(
    run: Callable[..., Evaluation], fit: Callable[..., dict[str, Detector]], tmp_path: Path
) -> None:
    detectors = fit("mcm", "neglabel")
    base = detectors["neglabel"]
    assert isinstance(base, NegLabel)
    settings = (StreamSetting(batch_size=8), StreamSetting(ratio="none", batch_size=8))
    plan = StreamPlan({"AdaNeg + <b>": AdaNeg(base, n_groups=2)}, settings, (0, 1), fpr=0.2)
    evaluation = run(tmp_path, detectors, streams=plan, n_bootstrap=0)
    assert load_evaluation(tmp_path).streams == evaluation.streams
    methods = ["mcm", "neglabel", "AdaNeg + <b>"]
    assert [row.method for row in evaluation.streams if row.ood_set == "mean"] == methods
    by_set = {r.ood_set: r.auroc.value for r in evaluation.results if r.method == "neglabel"}
    for row in evaluation.streams:
        if row.method == "neglabel" and row.ood_set:
            assert row.auroc is not None
            assert row.auroc.mean == pytest.approx(by_set[row.ood_set])
    paths = write_stream_tables(evaluation)
    assert [path.name for path in paths] == ["streams.json", "streams.md"]
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    assert len(content["rows"]) == len(evaluation.streams)
    assert content["settings"] == {"seeds": [0, 1], "fpr": 0.2}
    text = paths[1].read_text(encoding="utf-8")
    assert text.count("| NegLabel |") == 4
    assert "AdaNeg + &lt;b>" in text
    assert "With fewer than five seeds the spread means little." in text
    first = [path.read_bytes() for path in paths]
    again = run(tmp_path, detectors, streams=plan, n_bootstrap=0)
    write_stream_tables(again)
    assert [path.read_bytes() for path in paths] == first
    page = write_report(evaluation, tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("AUROC over streams: ") == 1
    assert page.count("False alarms over streams: ") == 2
    assert "AdaNeg + &lt;b&gt;" in page
    (tmp_path / "streams.md").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"streams\.md' exists and is not what negrefine writes"):
        run(tmp_path, detectors)
