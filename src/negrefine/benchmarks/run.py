"""Run a benchmark: check its images first, evaluate, and note beside the results what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from negrefine.benchmarks.catalogue import Benchmark
from negrefine.benchmarks.class_lists import Names, class_list
from negrefine.benchmarks.data_check import Finding, Folders, check, locate
from negrefine.benchmarks.group_means import GroupMean, group_means
from negrefine.detectors import Detector
from negrefine.detectors.negrefine import NegRefine
from negrefine.detectors.registry import DETECTORS
from negrefine.encoders.base import Encoder
from negrefine.errors import InputError
from negrefine.evaluation.results import Evaluation
from negrefine.files import write_text
from negrefine.labels.prompts import CSP_SKETCH_PROMPTS

NOT_COMPARABLE = "Not comparable with published numbers:"


@dataclass(frozen=True)
class Ready:
    """A benchmark whose images are there.

    Attributes:
        benchmark: Without the sets that are missing.
        root: Folder that holds the data sets.
        folders: Set name to its folder, for sets that lie elsewhere.
        findings: For every set, the missing ones too.
        warnings: Why its numbers cannot be compared with published ones.
    """

    benchmark: Benchmark
    root: Path | None
    folders: Folders
    findings: list[Finding]
    warnings: list[str]


@dataclass(frozen=True)
class BenchmarkRun:
    """A finished run.

    Attributes:
        ready: What it was of.
        evaluation: The results, whose files lie in `evaluation.directory` with benchmark.json.
        group_means: Means over the classes of the sets whose authors report these (NINCO).
    """

    ready: Ready
    evaluation: Evaluation
    group_means: list[GroupMean]


def make_ready(
    benchmark: Benchmark,
    root: Path | None = None,
    *,
    folders: Folders | None = None,
    allow_incomplete: bool = False,
) -> Ready:
    """Check the images of a benchmark, in seconds, before anything is loaded.

    Args:
        benchmark: From `load_benchmark`.
        root: As for `check`.
        folders: As for `check`.
        allow_incomplete: Go on with the images that are there, and say that the numbers are not
            comparable.

    Raises:
        InputError: As for `check`; something is missing and `allow_incomplete` is false; the
            in-distribution set or all OOD sets are missing.
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
    ood_sets = tuple(s for s in benchmark.ood_sets if s.name in there)
    if benchmark.id_set.name not in there or not ood_sets:
        raise InputError(f"{benchmark.name} cannot be run at all: {broken[0].problem}")
    return Ready(
        benchmark=replace(benchmark, ood_sets=ood_sets),
        root=root,
        folders={k: v for k, v in (folders or {}).items() if k in there},
        findings=findings,
        warnings=[f"{NOT_COMPARABLE} {finding.problem}" for finding in broken],
    )


def benchmark_class_names(
    benchmark: Benchmark, names: Names = "correct", class_names: Sequence[str] | None = None
) -> list[str]:
    """Return the class names of a run.

    Args:
        benchmark: From `load_benchmark`.
        names: As for `class_list`.
        class_names: Names to use instead, in the same order.

    Raises:
        InputError: As for `class_list`, or another number of names.
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


def check_methods(methods: Sequence[str], *, ablation: bool = False) -> None:
    """Raise InputError for methods that cannot be evaluated together.

    Args:
        methods: Names of methods.
        ablation: NegRefine's ablation is wanted, too.
    """
    if not methods:
        raise InputError(f"No method is named: give some of {', '.join(DETECTORS)}.")
    unknown = [method for method in methods if method not in DETECTORS]
    if unknown:
        raise InputError(
            f"There is no method {unknown[0]!r}: give some of {', '.join(sorted(DETECTORS))}."
        )
    if len(set(methods)) < len(methods):
        raise InputError(f"A method is named twice: {', '.join(methods)}.")
    if ablation and "negrefine" not in methods:
        raise InputError("The ablation is NegRefine's: add negrefine to the methods.")


def fit_detectors(
    encoder: Encoder,
    class_names: Sequence[str],
    methods: Sequence[str],
    parameters: Mapping[str, Mapping[str, Any]],
    *,
    progress: bool = False,
) -> dict[str, Detector]:
    """Return a fitted detector for each method, by its name.

    Args:
        encoder: The image-text model.
        class_names: K names.
        methods: Names of methods.
        parameters: Method to keyword arguments of its detector.
        progress: Draw progress bars on a terminal.
    """
    return {
        method: DETECTORS[method](encoder, **parameters.get(method, {})).fit(
            class_names, progress=progress
        )
        for method in methods
    }


def negrefine_ablation(detectors: Mapping[str, Detector]) -> dict[str, Detector]:
    """Return the variants of the detector "negrefine"."""
    from negrefine.evaluation.ablation import ablation_of

    detector = detectors["negrefine"]
    assert isinstance(detector, NegRefine)  # noqa: S101 - its method says so
    return ablation_of(detector)


def run_benchmark(
    ready: Ready,
    out: Path,
    *,
    encoder: Encoder,
    class_names: Sequence[str],
    methods: Sequence[str],
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    seeds: Sequence[int] = (0,),
    ablation: bool = False,
    n_bootstrap: int = 1000,
    batch_size: int = 64,
    progress: bool = False,
) -> BenchmarkRun:
    """Evaluate methods on a benchmark.

    Args:
        ready: From `make_ready`.
        out: Gets everything that `evaluate` writes, and benchmark.json.
        encoder: From `load_encoder`.
        class_names: From `benchmark_class_names`.
        methods: As for `evaluate`, like all arguments that follow.

    Raises:
        InputError: As for `evaluate`.
    """
    from negrefine.evaluation.experiment import check_evaluation, evaluate

    id_images, ood_images = locate(ready.benchmark, ready.root, ready.folders)
    check_methods(methods, ablation=ablation)
    check_evaluation(out, [image_set.name for image_set in ood_images], seeds)
    detectors = fit_detectors(
        encoder,
        class_names,
        methods,
        _with_prompts(ready.benchmark, parameters or {}),
        progress=progress,
    )
    evaluation = evaluate(
        detectors,
        id_images,
        ood_images,
        out=out,
        ablation=negrefine_ablation(detectors) if ablation else None,
        seeds=seeds,
        n_bootstrap=n_bootstrap,
        title=ready.benchmark.title,
        notes=[*ready.warnings, *_notes(ready.benchmark)],
        batch_size=batch_size,
        progress=progress,
    )
    averaged = [s.title for s in ready.benchmark.ood_sets if s.groups is not None]
    means = [row for title in averaged for row in group_means(evaluation, title)]
    content = {
        "benchmark": ready.benchmark.name,
        "title": ready.benchmark.title,
        "warnings": ready.warnings,
        "notes": _notes(ready.benchmark),
        "sets": [
            {"set": f.set_name, "status": f.status, "found": f.found, "expected": f.expected}
            for f in ready.findings
        ],
        "group_means": [asdict(row) for row in means],
    }
    write_text(out / "benchmark.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return BenchmarkRun(ready, evaluation, means)


def _notes(benchmark: Benchmark) -> list[str]:
    contaminated = (f"{s.title}: {s.contamination}" for s in benchmark.sets if s.contamination)
    return [*benchmark.notes, *contaminated]


def _with_prompts(
    benchmark: Benchmark, parameters: Mapping[str, Mapping[str, Any]]
) -> dict[str, Mapping[str, Any]]:
    """Add the prompts that CSP and NegRefine were published with, where no others are given."""
    given = dict(parameters)
    if benchmark.sketches:
        for method in ("csp", "negrefine"):
            given[method] = {"prompts": CSP_SKETCH_PROMPTS, **given.get(method, {})}
    return given
