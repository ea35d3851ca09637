"""`negrefine evaluate`: several methods on one in-distribution and several OOD sets."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from negrefine.cli.bundles import option
from negrefine.cli.options import ABLATION, OOD_SETS, EncoderOptions, named_folders
from negrefine.cli.runs import RunOptions
from negrefine.labels.class_names import read_class_names


def evaluate(
    *,
    id_images: list[str] = option(
        ...,
        "In-distribution images: files, folders or patterns; may be given several times.",
        "IMAGES",
        name="--id",
    ),
    ood_images: list[str] = OOD_SETS,
    classes: str = option(
        ...,
        "Text file with one class name per line, or a list such as 'imagenet-1k'.",
        "FILE|PRESET",
    ),
    out: Path = option(..., "New folder, or one to continue.", "DIR"),
    new: EncoderOptions,
    options: RunOptions,
    ablation: bool = ABLATION,
    title: str = option("", "A line above the tables."),
) -> None:
    """Compare methods: AUROC, FPR95 and AUPR with intervals, from one pass over the images.

    Run it again with the same folder to continue, or to add methods or seeds. Images in a folder
    named like a class also measure the accuracy of classification.
    """
    from negrefine.evaluation import experiment
    from negrefine.evaluation.images import find_image_set

    folders = named_folders("--ood", ood_images)
    run = options.prepare(new.device, ablation=ablation)
    experiment.check_evaluation(out, list(folders), run.seeds)
    class_names = _read_classes(classes)
    id_set = find_image_set("ID", id_images, class_names)
    ood_sets = [find_image_set(name, folder) for name, folder in folders.items()]
    measure = partial(experiment.evaluate, id_images=id_set, ood_images=ood_sets, title=title)
    encoder = new.load()
    run.write_results(run.evaluate(encoder, class_names, out, measure), encoder)


def _read_classes(classes: str) -> list[str]:
    """Return class names from a file, or from one of the lists of the benchmarks."""
    from negrefine.benchmarks import class_list

    path = Path(classes)
    if path.exists() or path.suffix or len(path.parts) > 1:
        return read_class_names(path)
    return class_list(classes)
