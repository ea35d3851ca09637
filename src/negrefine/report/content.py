"""Everything that a report says, measured before anything is drawn or written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from negrefine.detectors.base import Detector
from negrefine.detectors.loading import load_detector, load_labels
from negrefine.detectors.parameters import Unsaved
from negrefine.encoders.base import Encoder
from negrefine.errors import BundleError, EncoderError
from negrefine.evaluation.results import MEAN, Evaluation, Scores
from negrefine.evaluation.stream_rows import StreamRow
from negrefine.evaluation.stream_tables import by_setting, stream_caption, summary
from negrefine.evaluation.tables import ResultTable
from negrefine.labels.negatives import NegativeLabel
from negrefine.metrics import OperatingPoint, operating_point
from negrefine.report.curves import class_aurocs, shared_bins
from negrefine.report.mistakes import find_mistakes


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
        streams: Each kind of stream in words, and its rows over all sets; empty without streams.
        stream_caption: What the numbers of streams are, "" without streams.
        stream_fpr: The false-alarm rate that thresholds were calibrated for in streams.
        threshold: The main method's score that as close to 95 % of the ID images as possible reach.
        accepted_ood: OOD images with the highest scores.
        rejected_id: ID images with the lowest scores.
        explanation_problem: Why the mistakes are not explained, "" if they are.
        labels: Method to its mined labels, or to why they cannot be read, for methods with some.
        errors: Set, path and reason of each unreadable image.
    """

    def __init__(
        self,
        evaluation: Evaluation,
        detectors: Mapping[str, Detector],
        encoder: Encoder | None,
        n_mistakes: int,
    ) -> None:
        """Measure everything; arguments are those of `write_report`."""
        self.evaluation = evaluation
        main = main_method(evaluation)
        self.methods = [main, *(method for method in evaluation.methods if method != main)]
        means = [result for result in evaluation.results if result.ood_set == MEAN]
        self.ranking = sorted(means, key=lambda result: -result.auroc.value)
        self.results = ResultTable(evaluation.results)
        self.ablation = ResultTable(evaluation.ablation) if evaluation.ablation else None
        id_set, ood_sets = evaluation.id_set, evaluation.ood_sets
        self.id_scores = {m: id_set.readable_scores(m)[0] for m in self.methods}
        self.curves: list[SetCurves] = []
        for ood_set in ood_sets:
            scores = {m: ood_set.readable_scores(m)[0] for m in self.methods}
            points = {m: operating_point(self.id_scores[m], scores[m]) for m in self.methods}
            self.curves.append(SetCurves(ood_set.name, scores, points))
        all_ood = {m: np.concatenate([c.scores[m] for c in self.curves]) for m in self.methods}
        self.edges = {m: shared_bins([self.id_scores[m], all_ood[m]]) for m in self.methods}
        self.classes = None
        labels = id_set.labels[id_set.readable]
        if (labels >= 0).any():
            sides = [(self.id_scores[m], all_ood[m]) for m in self.methods]
            is_correct = id_set.predictions[id_set.readable] == labels
            self.classes = _part_table("Class", evaluation.class_names, labels, sides, is_correct)
        self.folders = {}
        for ood_set, curves in zip(ood_sets, self.curves, strict=True):
            groups = np.array(ood_set.groups)[ood_set.readable]
            names, parts = np.unique(groups, return_inverse=True)
            if len(names) > 1:
                # Negated, so that the OOD images are the ones that rank higher.
                sides = [(-curves.scores[m], -self.id_scores[m]) for m in self.methods]
                shown = [str(name) or "(no folder)" for name in names]
                self.folders[ood_set.name] = _part_table("Folder", shown, parts, sides)
        self.streams: list[tuple[str, list[StreamRow]]] = []
        self.stream_caption, self.stream_fpr = "", 0.0
        if evaluation.streams:
            settings = evaluation.settings["streams"]
            self.streams = [
                (title, summary(rows)) for title, rows in by_setting(evaluation.streams)
            ]
            self.stream_caption, self.stream_fpr = stream_caption(settings), float(settings["fpr"])
        self.threshold = operating_point(self.id_scores[main], self.id_scores[main]).threshold
        detector, self.explanation_problem = _explaining_detector(
            evaluation, main, detectors, encoder
        )
        if detector is not None:
            detector.offset_ = self.threshold
        self.accepted_ood, self.rejected_id = (
            find_mistakes(evaluation, main, sets, self.threshold, detector, n_mistakes, highest=top)
            for sets, top in ((ood_sets, True), ([id_set], False))
        )
        self.labels: dict[str, list[NegativeLabel] | str] = {}
        for method, directory in evaluation.detectors.items():
            try:
                mined: list[NegativeLabel] | str | None = load_labels(directory)
            except BundleError as error:
                mined = str(error)
            if mined:
                self.labels[method] = mined
        self.errors = [
            (image_set.name, path, error)
            for image_set in evaluation.sets
            for path, error in zip(image_set.paths, image_set.errors, strict=True)
            if error is not None
        ]


def main_method(evaluation: Evaluation) -> str:
    """Return the method whose mistakes are shown: the last one with S_MM, or else the last."""
    parts = evaluation.id_set.parts
    matching = [method for method in evaluation.methods if "multi_match" in parts.get(method, {})]
    return (matching or evaluation.methods)[-1]


def _part_table(
    kind: str,
    names: Sequence[str],
    parts: NDArray[np.int64],
    sides: Iterable[tuple[Scores, Scores]],
    is_correct: NDArray[np.bool_] | None = None,
) -> PartTable:
    """Return the table of the parts with images.

    `parts` (n,) holds for each image the index of its name, or -1; `sides` for each method the
    images' scores (n,) and those to measure them against.
    """
    aurocs = [class_aurocs(scores, parts, against) for scores, against in sides]
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
) -> tuple[Detector | None, str]:
    """Return a detector of the method that may be changed, or None and why there is none."""
    if method in detectors:
        return detectors[method].with_params(), ""
    if encoder is None:
        return None, "The mistakes are not explained: no encoder was given to load the detector."
    try:
        loaded = load_detector(evaluation.detectors[method], encoder)
        if isinstance(getattr(loaded, "vision", None), Unsaved):
            return None, (
                "The mistakes are not explained: a vision judge of one's own is not saved with its "
                "detector."
            )
        return loaded, ""
    except (BundleError, EncoderError) as error:
        return None, f"The mistakes are not explained: {error}"
