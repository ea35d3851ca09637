"""`negrefine sweep`: results over grids of NegRefine's constants."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from negrefine.cli.fit import read_lexicon
from negrefine.cli.judges import parse_judge
from negrefine.cli.options import BatchSize, Device, Dtype
from negrefine.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from negrefine.evaluation.sweep import SweepRow

_LIST = "One or more values, separated by commas."


def sweep(
    classes: Annotated[
        Path, typer.Option(metavar="FILE", help="Text file with one class name per line.")
    ],
    encoder: Annotated[str, typer.Option(metavar="ID_OR_DIR", help="As for 'negrefine fit'.")],
    id_images: Annotated[
        list[str], typer.Option("--id", metavar="DIR", help="In-distribution images.")
    ],
    ood_images: Annotated[
        list[str],
        typer.Option("--ood", metavar="NAME=DIR", help="An OOD set; may be given several times."),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Rows as .parquet, .csv or .jsonl.")
    ] = None,
    alpha: Annotated[str, typer.Option(metavar="LIST", help=_LIST)] = "2",
    k: Annotated[str, typer.Option(metavar="LIST", help=_LIST)] = "5",
    n_candidates: Annotated[str, typer.Option(metavar="LIST", help=_LIST)] = "10",
    n_groups: Annotated[str, typer.Option(metavar="LIST", help=_LIST)] = "100",
    top_fraction: Annotated[str, typer.Option(metavar="LIST", help=_LIST)] = "0.15",
    quantile: Annotated[str, typer.Option(metavar="LIST", help=_LIST)] = "1",
    judge: Annotated[
        str | None, typer.Option(metavar="JUDGE", help="As for 'negrefine fit'.")
    ] = None,
    lexicon: Annotated[
        Path | None, typer.Option(metavar="FILE", help="As for 'negrefine fit'.")
    ] = None,
    min_frequency: Annotated[int, typer.Option(min=0, help="As for 'negrefine fit'.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = 64,
) -> None:
    """Score every combination of NegRefine's constants, encoding each image and text once."""
    from rich.console import Console

    from negrefine.encoders import find_images, load_encoder
    from negrefine.evaluation.images import encode_readable
    from negrefine.evaluation.sweep import sweep as run_sweep
    from negrefine.files import check_target, write_rows
    from negrefine.labels.class_names import read_class_names

    grid = {
        "alpha": _numbers("alpha", alpha),
        "k": _numbers("k", k),
        "n_candidates": _numbers("n-candidates", n_candidates),
        "n_groups": _numbers("n-groups", n_groups),
        "top_fraction": _numbers("top-fraction", top_fraction),
        "quantile": _numbers("quantile", quantile),
    }
    if out is not None:
        check_target(out)
    class_names = read_class_names(classes)
    parsed = parse_judge(judge)
    words = read_lexicon(lexicon, min_frequency)
    files = {"in-distribution": find_images(id_images)}
    for text in ood_images:
        name, _, folder = text.partition("=")
        if not name or not folder or name in files:
            raise InputError(f"--ood takes NAME=DIR with a new NAME each time, not {text!r}.")
        files[name] = find_images([folder])
    loaded = load_encoder(encoder, device=device, dtype=dtype)
    features = {}
    for name, paths in files.items():
        features[name], errors = encode_readable(
            loaded, paths, description=f"Encoding {name}", batch_size=batch_size, progress=True
        )
        if errors:
            typer.echo(
                f"negrefine: warning: {len(errors)} of {len(paths)} images of {name} are left "
                f"out; the first: {errors[0]}",
                err=True,
            )
    id_features = features.pop("in-distribution")
    rows = run_sweep(
        loaded,
        class_names,
        id_features,
        features,
        grid,
        judge=parsed,
        lexicon=words,
        progress=True,
    )
    if out is not None:
        write_rows(out, [_flat(row) for row in rows], _SCHEMA)
    Console(highlight=False).print(
        _table(rows, {n for n, values in grid.items() if len(values) > 1})
    )
    if out is not None:
        typer.echo(f"Wrote {len(rows)} rows to {out}.", err=True)


_SCHEMA = {
    "alpha": "double",
    "k": "int64",
    "n_candidates": "int64",
    "n_groups": "int64",
    "top_fraction": "double",
    "quantile": "double",
    "ood_set": "string",
    "n_labels": "int64",
    "auroc": "double",
    "fpr95": "double",
}


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--{option} takes numbers separated by commas, not {text!r}.") from error


def _flat(row: SweepRow) -> dict[str, object]:
    content = asdict(row)
    setting: dict[str, object] = content.pop("setting")
    return {**setting, **content}


def _table(rows: list[SweepRow], varied: set[str]) -> Table:
    from rich.table import Table

    shown = [name for name in _SCHEMA if name in varied]
    table = Table(title="AUROC/FPR95 in percent")
    for name in [*shown, "labels", "OOD set", "AUROC", "FPR95"]:
        table.add_column(name, justify="left" if name == "OOD set" else "right")
    for row in rows:
        setting = asdict(row.setting)
        table.add_row(
            *(f"{setting[name]:g}" for name in shown),
            str(row.n_labels),
            row.ood_set,
            f"{100 * row.auroc:.2f}",
            f"{100 * row.fpr95:.2f}",
        )
    return table
