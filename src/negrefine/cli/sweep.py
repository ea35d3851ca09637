"""`negrefine sweep`: results over grids of NegRefine's constants."""

from __future__ import annotations

from dataclasses import asdict, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from negrefine.cli.bundles import option, takes_bundles
from negrefine.cli.judge_options import JudgeOptions
from negrefine.cli.options import (
    BATCH_SIZE,
    CLASS_FILE,
    OOD_SETS,
    EncoderOptions,
    LexiconOptions,
    named_folders,
)
from negrefine.cli.output import print_table, warn_unreadable
from negrefine.detectors import NegRefine
from negrefine.detectors.parameters import Parameter, declared_parameters
from negrefine.errors import InputError
from negrefine.evaluation.sweep import Setting

_SWEPT = {each.name: declared_parameters(NegRefine)[each.name] for each in fields(Setting)}
_COLUMNS = {
    **{name: "int64" if each.option_type is int else "double" for name, each in _SWEPT.items()},
    "ood_set": "string",
    "n_labels": "int64",
    "auroc": "double",
    "fpr95": "double",
}


class Grid:
    """Base of the bundle of the options whose values are combined."""

    def values(self) -> dict[str, list[float]]:
        """Return the values of each constant.

        Raises:
            InputError: A text that is not a list of numbers.
        """
        return {name: _numbers(each, getattr(self, name)) for name, each in _SWEPT.items()}


def _numbers(parameter: Parameter, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(
            f"{parameter.option} takes numbers separated by commas, not {text!r}."
        ) from error


def _list_option(parameter: Parameter) -> Any:
    text = f"{parameter.help} One or more values, separated by commas."
    return option(f"{parameter.default:g}", text, "LIST", name=parameter.option)


_GridOptions = make_dataclass(
    "_GridOptions",
    [(name, str, _list_option(each)) for name, each in _SWEPT.items()],
    bases=(Grid,),
    frozen=True,
    kw_only=True,
)


@takes_bundles
def sweep(
    *,
    classes: Path = CLASS_FILE,
    id_images: list[str] = option(..., "In-distribution images.", "DIR", name="--id"),
    ood_images: list[str] = OOD_SETS,
    new: EncoderOptions,
    out: Path | None = option(None, "Rows as .parquet, .csv or .jsonl.", "FILE"),
    grid: Annotated[Grid, _GridOptions],
    judge: JudgeOptions,
    words: LexiconOptions,
    batch_size: int = BATCH_SIZE,
) -> None:
    """Score every combination of NegRefine's constants, encoding each image and text once."""
    from negrefine.encoders import find_images
    from negrefine.evaluation.images import encode_readable
    from negrefine.evaluation.sweep import sweep as sweep_settings
    from negrefine.evaluation.tables import percent
    from negrefine.files import check_target, write_rows
    from negrefine.labels.class_names import read_class_names

    values = grid.values()
    if out is not None:
        check_target(out)
    class_names = read_class_names(classes)
    given = {**judge.given(new.device), **words.given()}
    folders = named_folders("--ood", ood_images)
    files = {"": find_images(id_images), **{n: find_images([f]) for n, f in folders.items()}}
    encoder = new.load()
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
    if out is not None:
        write_rows(out, [{**asdict(row.setting), **asdict(row)} for row in rows], _COLUMNS)
    varied = [name for name in _SWEPT if len(values[name]) > 1]
    print_table(
        [*varied, "labels", "OOD set", "AUROC", "FPR95"],
        [
            (
                *(f"{getattr(row.setting, name):g}" for name in varied),
                str(row.n_labels),
                row.ood_set,
                percent(row.auroc),
                percent(row.fpr95),
            )
            for row in rows
        ],
        right=[*varied, "labels", "AUROC", "FPR95"],
        title="AUROC/FPR95 in percent",
    )
    if out is not None:
        typer.echo(f"Wrote {len(rows)} rows to {out}.", err=True)
