"""The stream methods against slow loops that follow the papers' definitions line by line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from negrefine import TANL, AdaNeg, OODDictionary
from negrefine.detectors.scores import eoe_score
from negrefine.streaming.otsu import otsu_threshold
from streaming.features import World, world

Array = NDArray[np.float64]
LOOSE = {"rtol": 0, "atol": 2e-6}  # what is stored is float32


def softmax(values: Array) -> Array:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def grouped(logits: Array, n_classes: int, n_groups: int, seed: int) -> float:
    n = len(logits) - n_classes
    used = n - n % n_groups
    order = torch.randperm(used, generator=torch.Generator().manual_seed(seed)).numpy()
    parts = [
        softmax(np.concatenate([logits[:n_classes], logits[n_classes + group]]))[:n_classes].sum()
        for group in order.reshape(n_groups, -1)
    ]
    return float(np.mean(parts))


class PlainAdaNeg:
    """Slots in one array of zeros, as the released code has them."""

    def __init__(self, w: World, **p: Any) -> None:
        self.p, self.scale, self.n_classes = p, w.scale, len(w.classes)
        self.texts = np.concatenate([w.classes, w.negatives]).astype(np.float64)
        k, d = self.texts.shape
        self.slots = np.zeros((k, p["memory"] + 1, d))
        self.slots[:, 0] = self.texts
        self.count = np.ones(k, dtype=int)
        self.entropy = np.zeros((k, p["memory"] + 1))

    def put(self, k: int, x: Array, h: float) -> None:
        if self.count[k] == self.p["memory"]:
            if (h < self.entropy[k]).any():
                slot = np.argsort(self.entropy[k], kind="stable")[-1]
                self.slots[k, slot], self.entropy[k, slot] = x, h
        else:
            self.slots[k, self.count[k]], self.entropy[k, self.count[k]] = x, h
            self.count[k] += 1

    def prototype(self, k: int, x: Array) -> Array:
        weights = np.ones(len(self.slots[k]))
        if self.p["prototypes"] == "sample":
            weights = np.exp(-self.p["beta"] * (1 - self.slots[k] @ x))
        mean = (weights[:, None] * self.slots[k]).sum(axis=0)
        return mean / np.linalg.norm(mean)

    def step(self, batch: NDArray[Any]) -> tuple[list[float], list[int]]:
        p, c = self.p, self.n_classes
        images = batch.astype(np.float64)
        images /= np.linalg.norm(images, axis=1, keepdims=True)
        groups = p["n_groups"], p["group_seed"]
        logits = [self.scale * (self.texts @ x) for x in images]
        vanilla = [grouped(row, c, *groups) for row in logits]
        high = p["threshold"] + p["gap"] * (1 - p["threshold"])
        low = p["threshold"] - p["gap"] * p["threshold"]
        for inside in (True, False):
            for x, row, s in zip(images, logits, vanilla, strict=True):
                if s > high if inside else s < low:
                    part = row[:c] if inside else row[c:]
                    probability = softmax(part)
                    h = -sum(q * math.log(q + 1e-8) for q in probability)
                    self.put(int(part.argmax()) + (0 if inside else c), x, h)
        scores, classes = [], []
        for x, row, s in zip(images, logits, vanilla, strict=True):
            adapted = np.array(
                [self.scale * (self.prototype(k, x) @ x) for k in range(len(self.texts))]
            )
            scores.append(grouped(adapted, c, *groups) + p["weight"] * s)
            mixed = softmax(row) + p["weight"] * softmax(adapted)
            classes.append(int(mixed[:c].argmax()))
        return scores, classes


@pytest.mark.parametrize(
    ("size", "changed"),
    [
        (7, {}),
        (30, {"prototypes": "sample"}),
        (90, {"memory": 3, "prototypes": "sample", "beta": 5.5}),
        (13, {"memory": 2, "threshold": 0.6, "gap": 0.2, "weight": 0.7, "n_groups": 3}),
        (45, {"memory": 1, "group_seed": 4, "n_groups": 1}),
    ],
)
def test_adaneg(size: int, changed: dict[str, Any]) -> None:
    w = world(size)
    parameters: dict[str, Any] = {
        "n_groups": 5,
        "group_seed": 0,
        "memory": 10,
        "weight": 0.1,
        "threshold": 0.5,
        "gap": 0.5,
        "prototypes": "task",
        "beta": 5,
        **changed,
    }
    stream = AdaNeg.from_features(w.classes, w.negatives, logit_scale=w.scale, **parameters)
    plain = PlainAdaNeg(w, **parameters)
    for batch in w.batches(size):
        expected, classes = plain.step(batch)
        np.testing.assert_allclose(stream.update_and_score(batch), expected, **LOOSE)
        assert stream.classify(batch).tolist() == classes
    assert (plain.count > 1).sum() >= (0 if parameters["memory"] == 1 else 5)
    assert (plain.count == parameters["memory"]).any()


def cumulative(id_logits: Array, chosen: Array, stride: int) -> float:
    m = len(chosen)
    counts = [m] if stride == 0 else sorted({*range(stride, m + 1, stride), m})
    inside = np.exp(id_logits).sum()
    return float(np.mean([inside / (inside + np.exp(chosen[:k]).sum()) for k in counts]))


def plain_otsu(scores: Array) -> float:
    thresholds, spread = [i / 100 for i in range(100)], []
    for t in thresholds:
        low, high = scores[scores < t], scores[scores >= t]
        if not len(low) or not len(high):
            spread.append(math.inf)
        else:
            sides = [np.sort(side) for side in (low, high)]
            spread.append(sum(len(side) * side.var() for side in sides) / len(scores))
    best = [i for i, value in enumerate(spread) if value == min(spread)]
    return thresholds[best[len(best) // 2]]


class PlainTANL:
    """Two lists of activations and one of scores."""

    def __init__(self, w: World, orders: tuple[list[int], list[int]], **p: Any) -> None:
        self.p, self.scale = p, w.scale
        self.classes, self.candidates = (a.astype(np.float64) for a in (w.classes, w.negatives))
        noise = w.noise.astype(np.float64)
        self.inside = [self.activation(self.classes[i]) for i in orders[0]][-p["queue"] :]
        self.outside = [self.activation(noise[i]) for i in orders[1]][-p["queue"] :]
        chosen = self.choose(np.mean(self.inside, axis=0), np.mean(self.outside, axis=0))
        self.scores = [self.score(x, chosen) for x in (*self.classes, *noise)]

    def logits(self, x: Array) -> tuple[Array, Array]:
        return self.scale * (self.classes @ x), self.scale * (self.candidates @ x)

    def activation(self, x: Array) -> Array:
        return softmax(np.concatenate(self.logits(x)))[len(self.classes) :]

    def choose(self, inside: Array, outside: Array) -> list[int]:
        difference = outside - inside
        order = sorted(range(len(difference)), key=lambda i: (-difference[i], i))
        return order[: self.p["n_labels"]]

    def score(self, x: Array, chosen: list[int]) -> float:
        inside, candidates = self.logits(x)
        return cumulative(inside, candidates[chosen], self.p["stride"])

    def step(self, batch: NDArray[Any]) -> list[float]:
        p = self.p
        images = batch.astype(np.float64)
        images /= np.linalg.norm(images, axis=1, keepdims=True)
        means = [np.mean(queue, axis=0) for queue in (self.inside, self.outside)]
        first = np.array([self.score(x, self.choose(*means)) for x in images])
        self.scores += first.tolist()
        t = plain_otsu(np.array(self.scores))
        sides = [first > t + p["gap"] * (1 - t), first < t - p["gap"] * t]
        rows = [[self.activation(x) for x in images[side]] for side in sides]
        mixed = [
            p["alpha"] * mean + (1 - p["alpha"]) * np.mean(found, axis=0) if found else mean
            for mean, found in zip(means, rows, strict=True)
        ]
        scores = [self.score(x, self.choose(*mixed)) for x in images]
        self.inside = [*self.inside, *rows[0]][-p["queue"] :]
        self.outside = [*self.outside, *rows[1]][-p["queue"] :]
        return scores


@pytest.mark.parametrize(
    ("size", "changed"),
    [
        (16, {}),
        (7, {"queue": 4}),
        (30, {"alpha": 0.0, "gap": 0.5, "stride": 2, "n_labels": 9}),
        (1, {"alpha": 0.0, "gap": 0.5, "stride": 0, "queue": 12}),
        (90, {"stride": 40, "n_labels": 100}),
    ],
)
def test_tanl(size: int, changed: dict[str, Any]) -> None:
    w = world(100 + size, n_negatives=60)
    parameters: dict[str, Any] = {
        "n_labels": 20,
        "queue": 300,
        "gap": 0.2,
        "alpha": 0.95,
        "stride": 1,
        **changed,
    }
    rng = np.random.default_rng(size)
    orders = rng.permutation(len(w.classes)).tolist(), rng.permutation(15).tolist()
    stream = TANL.from_features(
        w.classes,
        w.negatives,
        logit_scale=w.scale,
        noise_features=w.noise,
        class_order=orders[0],
        noise_order=orders[1],
        **parameters,
    )
    plain = PlainTANL(w, orders, **parameters)
    for batch in w.batches(size):
        np.testing.assert_allclose(stream.update_and_score(batch), plain.step(batch), **LOOSE)
        nearest = (batch @ w.classes.T).argmax(axis=1)
        np.testing.assert_array_equal(stream.classify(batch), nearest)
    assert len(plain.inside) > 1
    assert len(plain.outside) > 1


@pytest.mark.parametrize("seed", range(5))
def test_otsu(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.concatenate([rng.beta(1, 9, 1 + 40 * seed), rng.beta(9, 1 + seed, 50)])
    assert otsu_threshold(scores) == plain_otsu(scores)
    assert otsu_threshold(np.array([0.2, 0.7])) == plain_otsu(np.array([0.2, 0.7])) == 0.46
    # Everything on one side of every threshold: all are equal.
    assert otsu_threshold(np.array([0.995, 1.0])) == plain_otsu(np.array([0.995, 1.0])) == 0.5


@pytest.mark.parametrize(("size", "k", "n"), [(20, 5, 16), (200, 3, 7), (8, 8, 90)])
def test_oodd(size: int, k: int, n: int) -> None:
    w = world(size)
    rng = np.random.default_rng(size)
    base = np.round(rng.random(len(w.images)), 1 if k == 3 else 8)
    dictionary = OODDictionary(size, k, weight=0.5)
    held: list[tuple[float, int]] = []
    first = 8
    steps = [(0, first), *((i, i + n) for i in range(first, len(base), n))]
    for start, stop in steps:
        rows = slice(start, stop)
        for i in range(start, min(stop, len(base))):
            held.append((base[i], i))
            if len(held) > size:
                # Of equal scores, the latest goes.
                held.remove(max(held))
        images = w.images.astype(np.float64)
        images /= np.linalg.norm(images, axis=1, keepdims=True)
        expected = [
            base[i] - 0.5 * sorted(float(images[j] @ images[i]) for _, j in held)[-k]
            for i in range(start, min(stop, len(base)))
        ]
        found = dictionary.update_and_score(w.images[rows], base[rows])
        np.testing.assert_allclose(found, expected, **LOOSE)


@pytest.mark.parametrize(("temperature", "beta"), [(1.0, 0.25), (0.01, 0.25), (0.3, 1.0)])
def test_eoe(temperature: float, beta: float) -> None:
    rng = np.random.default_rng(3)
    classes, negatives = rng.uniform(-1, 1, (9, 4)), rng.uniform(-1, 1, (9, 7))
    expected = []
    for s, n in zip(classes, negatives, strict=True):
        total = sum(math.exp(v / temperature) for v in (*s, *n))
        best, outlier = (max(math.exp(v / temperature) / total for v in side) for side in (s, n))
        expected.append(best - beta * outlier)
    found = eoe_score(classes, negatives, temperature, beta)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
