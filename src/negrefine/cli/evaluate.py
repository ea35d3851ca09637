"""`negrefine evaluate`: several methods on one in-distribution and several OOD sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from negrefine.cli.judges import parse_judge
from negrefine.cli.options import BatchSize, Device, Dtype
from negrefine.cli.run_detectors import check_methods, fit_ablation, fit_detectors
from negrefine.cli.run_options import (
    Bootstrap,
    LexiconFile,
    Methods,
    MinFrequency,
    Report,
    Resample,
    Seeds,
    parameters_of,
    read_seeds,
    split_list,
)
from negrefine.cli.run_results import check_report, write_results
from negrefine.errors import InputError


def evaluate(
    id_images: Annotated[Path, typer.Option("--id", metavar="DIR", help="In-distribution images.")],
    ood_images: Annotated[
        list[str],
        typer.Option("--ood", metavar="NAME=DIR", help="An OOD set; may be given several times."),
    ],
    classes: Annotated[
        str,
        typer.Option(
            metavar="FILE|PRESET",
            help="Text file with one class name per line, or a list such as 'imagenet-1k'.",
        ),
    ],
    encoder: Annotated[str, typer.Option(metavar="ID_OR_DIR", help="As for 'negrefine fit'.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="New folder, or one to continue.")],
    methods: Methods = "mcm,glmcm,neglabel,csp,negrefine",
    seeds: Seeds = "0",
    bootstrap: Bootstrap = 1000,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Also NegRefine without NegFilter and S_MM.")
    ] = False,
    title: Annotated[str, typer.Option(help="A line above the tables.")] = "",
    judge: Annotated[
        str | None, typer.Option(metavar="JUDGE", help="As for 'negrefine fit'.")
    ] = None,
    lexicon: LexiconFile = None,
    min_frequency: MinFrequency = 0,
    resample: Resample = None,
    report: Report = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = 64,
) -> None:
    """Compare methods: AUROC, FPR95 and AUPR with intervals, from one pass over the images.

    Run it again with the same folder to continue, or to add methods or seeds. Images in a folder
    named like a class also measure the accuracy of classification.
    """
    from negrefine.encoders import load_encoder
    from negrefine.evaluation.experiment import check_evaluation
    from negrefine.evaluation.experiment import evaluate as run
    from negrefine.evaluation.images import find_image_set

    chosen, drawn = split_list("methods", methods), read_seeds(seeds)
    folders: list[tuple[str, str]] = []
    for text in ood_images:
        name, sign, folder = text.partition("=")
        if not (name and sign and folder):
            raise InputError(f"--ood takes NAME=DIR, not {text!r}.")
        folders.append((name, folder))
    with_report = check_report(report)
    check_methods(chosen, ablation=ablation)
    check_evaluation(out, [name for name, _ in folders], drawn)
    names = read_classes(classes)
    parsed = parse_judge(judge)
    parameters = parameters_of(chosen, judge=parsed, lexicon=lexicon, min_frequency=min_frequency)
    inside = find_image_set("ID", id_images, names)
    outside = [find_image_set(name, folder) for name, folder in folders]
    loaded = load_encoder(encoder, device=device, dtype=dtype, resample=resample)
    detectors = fit_detectors(loaded, names, chosen, parameters)
    evaluation = run(
        detectors,
        inside,
        outside,
        out=out,
        ablation=fit_ablation(detectors) if ablation else None,
        seeds=drawn,
        n_bootstrap=bootstrap,
        title=title,
        batch_size=batch_size,
        progress=True,
    )
    write_results(evaluation, loaded, report=with_report)


def read_classes(classes: str) -> list[str]:
    """Return class names from a file, or from one of the lists of the benchmarks.

    Raises:
        InputError: Neither.
    """
    from negrefine.benchmarks import class_list
    from negrefine.labels.class_names import read_class_names

    path = Path(classes)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return read_class_names(path)
    return class_list(classes)
