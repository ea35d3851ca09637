"""Everything that a report says, measured before anything is drawn or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors.base import Detector
from negrefine.detectors.loading import load_detector, load_labels
from negrefine.encoders.base import Encoder
from negrefine.errors import BundleError, EncoderError
from negrefine.evaluation.results import MEAN, Evaluation, Result, Scores, SetScores
from negrefine.evaluation.tables import ResultTable, result_table
from negrefine.labels.negatives import NegativeLabel
from negrefine.metrics import OperatingPoint, operating_point
from negrefine.report.curves import class_aurocs, group_aurocs, shared_bins
from negrefine.report.mistakes import Mistake, find_mistakes


@dataclass(frozen=True, slots=True)
class PartTable:
    """AUROC of parts of a set, classes or folders, the main method's worst first.

    Attributes:
        kind: "Class" or "Folder".
        rows: Name, number of images, AUROC of each method, accuracy or None.
        means: The plain mean over the rows, of each method.
    """

    kind: str
    rows: list[tuple[str, int, list[float], float | None]]
    means: list[float]


@dataclass(frozen=True, slots=True)
class SetCurves:
    """Scores of the readable images of one OOD set.

    Attributes:
        name: Name of the set.
        scores: Method to float64 (m,).
        points: Method to its operating point on this set.
    """

    name: str
    scores: dict[str, Scores]
    points: dict[str, OperatingPoint]


@dataclass(frozen=True, slots=True)
class ReportContent:
    """What a report says; figures, mistakes and AUROC of parts are of each method's first seed.

    Attributes:
        evaluation: What the report is about.
        methods: Methods, the main one first.
        ranking: Each method's means over the OOD sets, the highest AUROC first.
        results: The methods' results.
        ablation: Those of the ablation, None without one.
        id_scores: Method to float64 (n,), of the readable in-distribution images.
        curves: For each OOD set.
        edges: Method to the edges of the bins of its histograms.
        classes: AUROC of each class's ID images against all OOD images, None without labels.
        folders: OOD set to AUROC of all ID images against each of its folders, for sets with some.
        threshold: The main method's score that as close to 95 % of the ID images as possible reach.
        accepted_ood: OOD images with the highest scores.
        rejected_id: ID images with the lowest scores.
        explanation_problem: Why the mistakes are not explained, "" if they are.
        labels: Method to its mined labels, or to why they cannot be read, for methods with some.
        errors: Set, path and reason of each unreadable image.
    """

    evaluation: Evaluation
    methods: list[str]
    ranking: list[Result]
    results: ResultTable
    ablation: ResultTable | None
    id_scores: dict[str, Scores]
    curves: list[SetCurves]
    edges: dict[str, Scores]
    classes: PartTable | None
    folders: dict[str, PartTable]
    threshold: float
    accepted_ood: list[Mistake]
    rejected_id: list[Mistake]
    explanation_problem: str
    labels: dict[str, list[NegativeLabel] | str]
    errors: list[tuple[str, str, str]]


def measure_content(
    evaluation: Evaluation,
    detectors: Mapping[str, Detector],
    encoder: Encoder | None,
    n_mistakes: int,
) -> ReportContent:
    """Measure what a report says; arguments are those of `write_report`."""
    main = main_method(evaluation)
    methods = [main, *(method for method in evaluation.methods if method != main)]
    id_scores = {method: evaluation.id_set.readable_scores(method)[0] for method in methods}
    curves = []
    for ood_set in evaluation.ood_sets:
        scores = {method: ood_set.readable_scores(method)[0] for method in methods}
        points = {method: operating_point(id_scores[method], scores[method]) for method in methods}
        curves.append(SetCurves(ood_set.name, scores, points))
    folders = {
        ood_set.name: _folder_table(ood_set, ood_curves, id_scores)
        for ood_set, ood_curves in zip(evaluation.ood_sets, curves, strict=True)
        if len(set(_readable_groups(ood_set))) > 1
    }
    threshold = operating_point(id_scores[main], id_scores[main]).threshold
    detector, problem = _explaining_detector(evaluation, main, detectors, encoder, threshold)
    accepted_ood, rejected_id = (
        find_mistakes(evaluation, main, sets, threshold, detector, n_mistakes, highest=highest)
        for sets, highest in ((evaluation.ood_sets, True), ([evaluation.id_set], False))
    )
    means = [result for result in evaluation.results if result.ood_set == MEAN]
    labels = {method: _labels(path) for method, path in evaluation.detectors.items()}
    return ReportContent(
        evaluation=evaluation,
        methods=methods,
        ranking=sorted(means, key=lambda result: -result.auroc.value),
        results=result_table(evaluation.results),
        ablation=result_table(evaluation.ablation) if evaluation.ablation else None,
        id_scores=id_scores,
        curves=curves,
        edges={m: shared_bins([id_scores[m], *(c.scores[m] for c in curves)]) for m in methods},
        classes=_class_table(evaluation, id_scores, curves),
        folders=folders,
        threshold=threshold,
        accepted_ood=accepted_ood,
        rejected_id=rejected_id,
        explanation_problem=problem,
        labels={method: rows for method, rows in labels.items() if rows},
        errors=[
            (image_set.name, path, error)
            for image_set in evaluation.sets
            for path, error in zip(image_set.paths, image_set.errors, strict=True)
            if error is not None
        ],
    )


def main_method(evaluation: Evaluation) -> str:
    """Return the method whose mistakes are shown: the last one with S_MM, or else the last."""
    parts = evaluation.id_set.parts
    matching = [method for method in evaluation.methods if "multi_match" in parts.get(method, {})]
    return (matching or evaluation.methods)[-1]


def _labels(directory: Path) -> list[NegativeLabel] | str:
    """Return the mined labels of a saved detector, or why they cannot be read."""
    try:
        return load_labels(directory) or []
    except BundleError as error:
        return str(error)


def _class_table(
    evaluation: Evaluation, id_scores: Mapping[str, Scores], curves: Sequence[SetCurves]
) -> PartTable | None:
    id_set = evaluation.id_set
    labels = id_set.labels[id_set.readable]
    if not (labels >= 0).any():
        return None
    aurocs = [
        class_aurocs(scores, labels, np.concatenate([c.scores[method] for c in curves]))
        for method, scores in id_scores.items()
    ]
    is_correct = id_set.predictions[id_set.readable] == labels
    return _part_table("Class", evaluation.class_names, labels, aurocs, is_correct)


def _folder_table(
    ood_set: SetScores, curves: SetCurves, id_scores: Mapping[str, Scores]
) -> PartTable:
    names, numbers = np.unique(_readable_groups(ood_set), return_inverse=True)
    aurocs = [
        group_aurocs(scores, curves.scores[method], numbers) for method, scores in id_scores.items()
    ]
    return _part_table("Folder", [str(name) or "(no folder)" for name in names], numbers, aurocs)


def _readable_groups(image_set: SetScores) -> list[str]:
    pairs = zip(image_set.groups, image_set.errors, strict=True)
    return [group for group, error in pairs if error is None]


def _part_table(
    kind: str,
    names: Sequence[str],
    parts: NDArray[np.int64],
    aurocs: Sequence[Scores],
    is_correct: NDArray[np.bool_] | None = None,
) -> PartTable:
    """Return the table of P parts with images.

    Args:
        kind: "Class" or "Folder".
        names: Of the parts.
        parts: For each image the index of its part, or -1.
        aurocs: For each method (P,), the AUROC of each part.
        is_correct: For each image whether it was classified correctly.
    """
    known = parts >= 0
    counts = np.bincount(parts[known])
    accuracy: list[float | None] = [None] * len(counts)
    if is_correct is not None:
        correct = np.bincount(parts[known], weights=is_correct[known])
        accuracy = (correct / np.maximum(counts, 1)).tolist()
    order = [i for i in np.argsort(aurocs[0], kind="stable").tolist() if counts[i]]
    rows = [(names[i], int(counts[i]), [float(a[i]) for a in aurocs], accuracy[i]) for i in order]
    return PartTable(kind, rows, [float(each[order].mean()) for each in aurocs])


def _explaining_detector(
    evaluation: Evaluation,
    method: str,
    detectors: Mapping[str, Detector],
    encoder: Encoder | None,
    threshold: float,
) -> tuple[Detector | None, str]:
    """Return a copy of the method's detector with the report's threshold, or None and why."""
    if method in detectors:
        detector = detectors[method].with_params()
    elif encoder is None:
        return None, "The mistakes are not explained: no encoder was given to load the detector."
    else:
        try:
            detector = load_detector(evaluation.detectors[method], encoder)
        except (BundleError, EncoderError) as error:
            return None, f"The mistakes are not explained: {error}"
    detector.offset_ = threshold
    return detector, ""
