"""How to read the demo's ablation: what each step changes, and which change is within noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from negrefine.benchmarks.catalogue import read_data
from negrefine.evaluation.paired import SameImages, is_better, points
from negrefine.evaluation.results import MEAN, Difference, Evaluation, Measured

N_RESAMPLES = 300
BASE, REFINED = "no filter, no S_MM", "NegFilter + S_MM"
NAMES = {
    "mcm": "MCM",
    BASE: "CSP's score: neither step",
    "NegFilter, no S_MM": "with NegFilter",
    "no filter + S_MM": "with S_MM",
    REFINED: "NegRefine: both steps",
}
"""Row of the evaluation to what the demo calls it, in the order of its table."""
_STEPS = {"NegFilter, no S_MM": "NegFilter", "no filter + S_MM": "S_MM", REFINED: "both steps"}


@dataclass(frozen=True)
class Reading:
    """The demo's means over its OOD sets, and how the rows differ from CSP's score.

    Attributes:
        means: Row to (AUROC, FPR95), each with a 95 % bootstrap interval over pictures.
        differences: One for each step and one for both, against `BASE`, on the same pictures.
        n_pictures: How many pictures were scored.
    """

    means: Mapping[str, tuple[Measured, Measured]]
    differences: tuple[Difference, ...]
    n_pictures: int

    @property
    def sentence(self) -> str:
        """How to read the table."""
        paper = read_data("published.json")["tables"]["ablation"]["cells"]
        values = {(cell["method"], cell["metric"]): cell["value"] for cell in paper}
        auroc, fpr95 = (
            values[REFINED, metric] - values[BASE, metric] for metric in ("auroc", "fpr95")
        )
        return (
            f"How to read it: {self.n_pictures} drawings are few and the encoder is a toy, so look "
            "at the intervals (95 %), and at the differences below, which are on the same "
            "pictures; what both steps are good for shows with CLIP ViT-B/16 on photographs, where "
            f"the paper reports {auroc:+.2f} points of AUROC and {fpr95:+.2f} of FPR95 for them."
        )

    def step_lines(self) -> list[str]:
        """Return for each step what it changes here, and whether that is within noise."""
        return [
            f"{_STEPS[row.method]}: AUROC {points(row.auroc)} ({_said(row, 'auroc')}), "
            f"FPR95 {points(row.fpr95)} ({_said(row, 'fpr95')})"
            for row in self.differences
        ]


def read(evaluation: Evaluation) -> Reading:
    """Measure the rows of the demo's evaluation with intervals; a second or less."""
    values, resampled = {}, {}
    for row in NAMES:
        scores = SameImages(
            evaluation.id_set.readable_scores(row),
            {each.name: each.readable_scores(row) for each in evaluation.ood_sets},
        )
        found, drawn = scores.measured(N_RESAMPLES, seed=0)
        values[row], resampled[row] = found[-1], drawn[:, -1]

    def measured(value: np.ndarray, drawn: np.ndarray) -> list[Measured]:
        low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
        # AUROC, FPR95 and OpenOOD's FPR95 in the order of a `Result`.
        return [Measured(float(value[i]), float(low[i]), float(high[i])) for i in (0, 1, 4)]

    means = {row: measured(values[row], resampled[row])[:2] for row in NAMES}
    differences = [
        Difference(
            row, BASE, MEAN, *measured(values[row] - values[BASE], resampled[row] - resampled[BASE])
        )
        for row in _STEPS
    ]
    n_pictures = sum(len(image_set.paths) for image_set in evaluation.sets)
    return Reading({row: (a, f) for row, (a, f) in means.items()}, tuple(differences), n_pictures)


def _said(row: Difference, metric: str) -> str:
    return {None: "within noise", True: "better", False: "worse"}[is_better(row, metric)]
