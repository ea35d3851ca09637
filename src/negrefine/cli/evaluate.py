"""`negrefine evaluate`: several methods on one in-distribution and several OOD sets."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from negrefine.cli.bundles import option
from negrefine.cli.options import (
    ABLATION,
    ID_IMAGES,
    IMAGE_COLUMN,
    OOD_SETS,
    ClassOptions,
    EncoderOptions,
    named_folders,
    pinned_place,
)
from negrefine.cli.output import warn_builtin
from negrefine.cli.runs import RunOptions
from negrefine.cli.stream_options import StreamOptions


def evaluate(
    *,
    id_images: list[str] = ID_IMAGES,
    ood_images: list[str] = OOD_SETS,
    classes: ClassOptions,
    out: Path = option(..., "New folder, or one to continue.", "DIR"),
    new: EncoderOptions,
    options: RunOptions,
    saved: list[str] = option(
        [],
        "Also measure a saved detector, which was fitted on these classes with this encoder, in a "
        "row of its own; may be given several times. '--methods none' measures no others.",
        "NAME=DETECTOR_DIR",
        name="--detector",
    ),
    image_column: str | None = IMAGE_COLUMN,
    ablation: bool = ABLATION,
    streaming: StreamOptions,
    title: str = option("", "A line above the tables."),
) -> None:
    """Compare methods: AUROC, FPR95 and AUPR with intervals, from one pass over the images.

    Run it again with the same folder to continue, or to add methods or seeds. Images in a folder
    named like a class also measure the accuracy of classification.
    --stream adds methods that learn from the images they score, --detector saved detectors, such as
    one whose vision model looks at the images.
    """
    from negrefine.detectors import load_detector
    from negrefine.evaluation import experiment
    from negrefine.evaluation.images import ImageSet, find_source_set
    from negrefine.sources.opening import check_stdin_once

    folders = named_folders("--ood", ood_images)
    places = named_folders("--detector", saved, value="DETECTOR_DIR")
    run = options.prepare(new.device, ablation=ablation, saved=list(places))
    streams = streaming.check()
    experiment.check_evaluation(out, list(folders), run.seeds)
    class_names = classes.read()
    check_stdin_once(id_images, list(folders.values()))
    id_set = find_source_set("ID", id_images, class_names, image_column=image_column)
    ood_sets = [
        find_source_set(name, folder, image_column=image_column) for name, folder in folders.items()
    ]
    measure = partial(experiment.evaluate, id_images=id_set, ood_images=ood_sets, title=title)
    encoder = new.load()
    of_files = [each for each in (id_set, *ood_sets) if isinstance(each, ImageSet)]
    warn_builtin(encoder, [path for each in of_files for path in each.paths])
    detectors = {
        row: load_detector(pinned_place(place), encoder, device=new.device)
        for row, place in places.items()
    }
    done = run.evaluate(encoder, class_names, out, measure, streams=streams, saved=detectors)
    run.write_results(done, encoder)
