"""What `evaluate` found, in memory: the image sets with their scores, and the table of results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class SetScores:
    """The images of one set, readable and not, and every method's scores of them.

    Attributes:
        name: "ID" for the in-distribution set, otherwise the OOD set's own name.
        paths: n image files.
        labels: int64 (n,), index into `Evaluation.class_names` of the true class, -1 unknown.
        predictions: int64 (n,), index of the most similar class name, -1 for unreadable images.
        errors: Why an image could not be read, None for readable ones; n entries.
        groups: For each image the name of the folder it lies in below the set's root, "" at the
            root; n entries. OOD sets such as NINCO are reported by these, too.
        scores: Method to seed to float64 (n,), NaN for unreadable images; larger is more
            in-distribution. Methods without randomness have the one seed 0.
        parts: Method to component name ("neglabel", "multi_match") to float64 (n,), of the first
            seed.
    """

    name: str
    paths: list[str]
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    errors: list[str | None]
    groups: list[str]
    scores: Mapping[str, Mapping[int, Scores]]
    parts: Mapping[str, Mapping[str, Scores]] = field(default_factory=dict)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """bool (n,): the images with scores."""
        return np.array([error is None for error in self.errors], dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric, a fraction, averaged over seeds.

    Attributes:
        value: Mean over the seeds.
        low: Lower end of the bootstrap interval over images, of the first seed; None without one.
        high: Its upper end.
        std: Standard deviation over seeds (n - 1), None with one seed.
    """

    value: float
    low: float | None = None
    high: float | None = None
    std: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One method on one OOD set.

    Attributes:
        method: Name of the method or ablation variant.
        ood_set: Name of the OOD set, or "mean": the plain mean over the sets.
        auroc: In-distribution positive.
        fpr95: The papers' definition, `metrics.fpr95`.
        aupr_in: In-distribution positive.
        aupr_out: OOD positive.
    """

    method: str
    ood_set: str
    auroc: Measured
    fpr95: Measured
    aupr_in: Measured
    aupr_out: Measured


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation, as `evaluate` returns and `load_evaluation` reads it.

    Attributes:
        directory: Where features, scores, detectors and tables lie.
        title: A line for people, such as the benchmark's name.
        class_names: K names.
        methods: Methods in table order.
        id_set: The in-distribution set.
        ood_sets: The others, in table order.
        results: Methods x (OOD sets + "mean"), in table order.
        ablation: The same for NegRefine's ablation, empty without it. Its scores are in the sets
            under the variants' names.
        accuracy: ID accuracy of zero-shot classification, a fraction; None without true labels.
        settings: Encoder, parameters of each method, seeds, bootstrap, versions: plain JSON.
        detectors: Method to the directory of the saved detector (`load_detector` reads it).
    """

    directory: Path
    title: str
    class_names: list[str]
    methods: list[str]
    id_set: SetScores
    ood_sets: list[SetScores]
    results: list[Result]
    ablation: list[Result]
    accuracy: Measured | None
    settings: dict[str, Any]
    detectors: dict[str, Path]
