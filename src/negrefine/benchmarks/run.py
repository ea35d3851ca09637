"""Run a benchmark: check its images first, evaluate, and record what the results are of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from negrefine.benchmarks.catalogue import Benchmark, Names, class_list
from negrefine.benchmarks.data_check import Finding, Folders, check, image_sets
from negrefine.detectors import Detector
from negrefine.errors import InputError
from negrefine.evaluation.experiment import evaluate
from negrefine.evaluation.measure import measure
from negrefine.evaluation.results import Evaluation
from negrefine.files.writing import check_replaceable, write_text
from negrefine.shown_text import json_text

NOT_COMPARABLE = "Not comparable with published numbers:"


@dataclass(frozen=True)
class Ready:
    """A benchmark whose images are there, without the data sets that are missing.

    `findings` are of all its data sets, the missing ones too; `warnings` say why its numbers cannot
    be compared with published ones.
    """

    benchmark: Benchmark
    findings: list[Finding]
    warnings: list[str]

    @property
    def ood_names(self) -> list[str]:
        """Names of the OOD sets in the evaluation."""
        return [dataset.title for dataset in self.benchmark.ood_sets]


@dataclass(frozen=True, slots=True)
class GroupMean:
    """One method on one OOD set, as the mean over seeds and groups with readable images.

    AUROC and FPR95 (the papers' definition) are fractions, in-distribution positive.
    """

    method: str
    ood_set: str
    n_groups: int
    auroc: float
    fpr95: float


def make_ready(
    benchmark: Benchmark,
    root: Path | None = None,
    *,
    folders: Folders | None = None,
    allow_incomplete: bool = False,
) -> Ready:
    """Check the images of a benchmark, in seconds, before anything is loaded.

    Arguments and errors are as for `check`. InputError also if something is missing, unless
    `allow_incomplete`, which warns that the numbers are not comparable, or if the ID set or all OOD
    sets are missing.
    """
    findings = check(benchmark, root, folders)
    broken = [finding for finding in findings if not finding.ok]
    if broken and not allow_incomplete:
        raise InputError(
            f"{len(broken)} of the {len(findings)} image sets of {benchmark.name} are not "
            f"complete; the first: {broken[0].problem} 'negrefine benchmark check "
            f"{benchmark.name}' says how to get them, and --allow-incomplete runs on what is there."
        )
    there = {finding.set_name for finding in findings if finding.found}
    ood_sets = tuple(dataset for dataset in benchmark.ood_sets if dataset.name in there)
    if benchmark.id_set.name not in there or not ood_sets:
        first, *others = (finding for finding in broken if not finding.found)
        more = f" So are {', '.join(each.set_name for each in others)}." if others else ""
        raise InputError(f"{benchmark.name} cannot be run at all: {first.problem}{more}")
    warnings = [f"{NOT_COMPARABLE} {finding.problem}" for finding in broken]
    further = tuple(dataset for dataset in benchmark.further_id if dataset.name in there)
    return Ready(replace(benchmark, ood_sets=ood_sets, further_id=further), findings, warnings)


def benchmark_class_names(
    benchmark: Benchmark, names: Names = "correct", class_names: Sequence[str] | None = None
) -> list[str]:
    """Return the class names of a run: `class_names`, or those that `class_list` gives.

    Raises InputError as `class_list` does, or for another number of names.
    """
    classes = str(benchmark.id_set.classes)
    if class_names is None:
        return class_list(classes, names)
    expected = len(class_list(classes))
    if len(class_names) != expected:
        raise InputError(
            f"{benchmark.name} has {expected} classes, but {len(class_names)} names were given: "
            "give one name for each class, in the order of the class numbers."
        )
    return list(class_names)


def run_benchmark(
    ready: Ready,
    detectors: Mapping[str, Detector],
    *,
    out: Path,
    ablation: Mapping[str, Detector] | None = None,
    seeds: Sequence[int] = (0,),
    n_bootstrap: int = 1000,
    batch_size: int = 64,
    baseline: str | None = None,
    progress: bool = False,
) -> tuple[Evaluation, list[GroupMean]]:
    """Evaluate detectors on a benchmark; `out` gets what `evaluate` writes, and benchmark.json.

    The detectors are fitted on `benchmark_class_names` with the parameters that
    `Benchmark.parameters` gives. Arguments and errors are those of `evaluate`. Also returns means
    over the classes of OOD sets whose authors report these (NINCO).
    """
    check_replaceable(out / "benchmark.json", '"benchmark": ', '"group_means": ')
    benchmark = ready.benchmark
    contaminated = (f"{s.title}: {s.contamination}" for s in benchmark.sets if s.contamination)
    notes = [*benchmark.notes, *contaminated]
    id_images, ood_images = image_sets(benchmark, ready.findings)
    evaluation = evaluate(
        detectors,
        id_images,
        ood_images,
        out=out,
        ablation=ablation,
        seeds=seeds,
        n_bootstrap=n_bootstrap,
        title=benchmark.title,
        notes=[*ready.warnings, *notes],
        batch_size=batch_size,
        baseline=baseline,
        progress=progress,
    )
    averaged = [dataset.title for dataset in benchmark.ood_sets if dataset.groups is not None]
    means = [row for title in averaged for row in group_means(evaluation, title)]
    content = {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "warnings": ready.warnings,
        "notes": notes,
        "sets": [
            {"set": f.set_name, "status": f.status, "found": f.found, "expected": f.expected}
            for f in ready.findings
        ],
        "group_means": [asdict(row) for row in means],
    }
    write_text(out / "benchmark.json", json_text(content, indent=2) + "\n")
    return evaluation, means


def group_means(evaluation: Evaluation, ood_set: str) -> list[GroupMean]:
    """Average AUROC and FPR95 over the groups of an OOD set, as the authors of NINCO report it.

    Returns one row for each method, in table order. Each group is measured against all ID images.
    Raises InputError if the evaluation has no such set.
    """
    by_name = {scores.name: scores for scores in evaluation.ood_sets}
    if ood_set not in by_name:
        raise InputError(f"The evaluation has no OOD set {ood_set!r}: it has {', '.join(by_name)}.")
    outside = by_name[ood_set]
    groups = np.array(outside.groups)
    members = {name: (groups == name) & outside.readable for name in dict.fromkeys(outside.groups)}
    members = {name: rows for name, rows in members.items() if rows.any()}
    means = []
    for method in evaluation.methods:
        by_seed = outside.scores[method].values()
        by_group = {name: [scores[rows] for scores in by_seed] for name, rows in members.items()}
        mean = measure(method, evaluation.id_set.readable_scores(method), by_group)[-1]
        means.append(GroupMean(method, ood_set, len(members), mean.auroc.value, mean.fpr95.value))
    return means
