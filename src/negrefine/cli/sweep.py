"""`negrefine sweep`: results over grids of NegRefine's constants."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated

from negrefine.cli.bundles import option
from negrefine.cli.given import Given
from negrefine.cli.judge_options import JudgeOptions
from negrefine.cli.method_options import MethodOptions, method_options
from negrefine.cli.options import (
    BATCH_SIZE,
    VALIDATION_TEXT,
    ClassOptions,
    EncoderOptions,
    LabelOptions,
    named_folders,
)
from negrefine.cli.output import counted, print_table, say, warn_builtin, warn_unreadable
from negrefine.detectors import NegRefine
from negrefine.detectors.negrefine import FILTER_PARAMETERS
from negrefine.errors import InputError
from negrefine.evaluation.sweep import Setting, chosen_setting
from negrefine.evaluation.sweep import sweep as sweep_settings

_GRID = method_options([NegRefine], only=[each.name for each in fields(Setting)], lists=True)
_FILTER = method_options(
    [NegRefine], only=[name for name in FILTER_PARAMETERS if name not in _GRID.declared]
)
# What a table says about the choice of a setting, if there is a validation set.
_CHOICE = {
    "validation_set": "string",
    "validation_images": "string",
    "role": "string",
    "is_chosen": "int64",
}
_COLUMNS = {
    **{n: "int64" if p.option_type is int else "double" for n, p in _GRID.declared.items()},
    "ood_set": "string",
    "n_labels": "int64",
    "auroc": "double",
    "fpr95": "double",
}


def sweep(
    *,
    classes: ClassOptions,
    id_images: list[str] = option(
        ...,
        "In-distribution images: files, folders or quoted patterns; may be given several times.",
        "IMAGES",
        name="--id",
    ),
    ood_images: list[str] = option(
        ...,
        "An OOD set: a folder, file or quoted pattern; may be given several times.",
        "NAME=IMAGES",
        name="--ood",
    ),
    validation: str | None = option(None, VALIDATION_TEXT, "NAME=IMAGES"),
    new: EncoderOptions,
    out: Path | None = option(None, "Rows as .parquet, .csv or .jsonl.", "FILE"),
    grid: Annotated[MethodOptions, _GRID],
    judge: JudgeOptions,
    labels: LabelOptions,
    filtering: Annotated[MethodOptions, _FILTER],
    batch_size: int = BATCH_SIZE,
) -> None:
    """Score every combination of NegRefine's constants, encoding each image and text once."""
    from negrefine.encoders import find_images
    from negrefine.evaluation.images import encode_readable
    from negrefine.evaluation.overlap import check_apart
    from negrefine.evaluation.provenance import images_digest
    from negrefine.evaluation.tables import FPR95_NOTE, percent
    from negrefine.files.writing import check_target, write_rows

    values = {name: _numbers(each) for name, each in grid.given().items()}
    chosen_on = {} if validation is None else named_folders("--validation", [validation])
    columns = _COLUMNS | (_CHOICE if chosen_on else {})
    if out is not None:
        check_target(out, _COLUMNS, _CHOICE)
    class_names = classes.read()
    given = {**judge.given(new.device), **labels.given(), **filtering.given()}
    folders = named_folders("--ood", ood_images)
    for name in chosen_on:
        if name in folders:
            raise InputError(
                f"{name!r} is a test set (--ood): a setting that is chosen on it looks better "
                "there than it is. Give another validation set."
            )
    tests, folders = list(folders), {**chosen_on, **folders}
    files = {"": find_images(id_images), **{n: find_images([f]) for n, f in folders.items()}}
    check_apart(files[""], {name: paths for name, paths in files.items() if name})
    for name in chosen_on:
        check_apart(files[name], {test: files[test] for test in tests}, "validation")
    encoder = new.load()
    warn_builtin(encoder, [path for paths in files.values() for path in paths])
    features = {}
    for name, paths in files.items():
        shown = name or "in-distribution"
        features[name], errors = encode_readable(
            encoder, paths, description=f"Encoding {shown}", batch_size=batch_size, progress=True
        )
        warn_unreadable(errors, len(paths), shown)
    rows = sweep_settings(
        encoder,
        class_names,
        features.pop(""),
        features,
        values,
        **{name: each.value for name, each in given.items()},
        progress=True,
    )
    choice = {name: chosen_setting(rows, name) for name in chosen_on}
    if out is not None:
        table = [{**asdict(row.setting), **asdict(row)} for row in rows]
        for name, setting in choice.items():
            about = {"validation_set": name, "validation_images": images_digest(files[name])}
            for row, each in zip(rows, table, strict=True):
                role = "validation" if row.ood_set == name else "test"
                each.update(about, role=role, is_chosen=int(row.setting == setting))
        write_rows(out, table, columns)
    varied = [name for name in _GRID.declared if len(values.get(name, ())) > 1]
    shown_rows = [
        [f"{getattr(row.setting, name):g}" for name in varied]
        + [str(row.n_labels), row.ood_set, percent(row.auroc), percent(row.fpr95)]
        for row in rows
        # All settings on the test sets would be a temptation.
        if not choice or row.ood_set in choice or row.setting in choice.values()
    ]
    shown_columns = [*varied, "labels", "OOD set", "AUROC", "FPR95"]
    print_table(shown_columns, shown_rows, title="AUROC/FPR95 in percent", caption=f"{FPR95_NOTE}.")
    for name, setting in choice.items():
        constants = ", ".join(f"{each} {getattr(setting, each):g}" for each in varied)
        say(
            f"Chosen on the validation set {name}: {constants or 'the only setting'}. The test "
            "sets are shown for it alone."
        )
    if out is not None:
        say(f"Wrote {counted(len(rows), 'row')} to {out}.", err=True)


def _numbers(given: Given) -> list[float]:
    try:
        return [float(part) for part in given.value.split(",")]
    except ValueError as error:
        raise InputError(
            f"{given.option} takes numbers separated by commas, not {given.value!r}."
        ) from error
