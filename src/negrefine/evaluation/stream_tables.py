"""Results over streams as text and JSON, in percent for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from negrefine.evaluation.results import MEAN, Evaluation
from negrefine.evaluation.stream_orders import NO_OOD, StreamSetting
from negrefine.evaluation.stream_rows import Spread, StreamRow
from negrefine.evaluation.tables import FPR95_NOTE, percent
from negrefine.files.writing import check_replaceable, write_text
from negrefine.shown_text import json_text
from negrefine.text_tables import console_table, markdown_table, markdown_text

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

COLUMNS = ("AUROC", "worst", "FPR95", "worst", "false alarms", "worst")
"""What is shown of a row, mean and standard deviation before the worst seed."""


def check_stream_tables(directory: Path) -> None:
    """Raise InputError if a file stands where `write_stream_tables` writes that is none of its."""
    check_replaceable(directory / "streams.json", '"false_alarms"')
    check_replaceable(directory / "streams.md", "false alarms")


def write_stream_tables(evaluation: Evaluation) -> list[Path]:
    """Write streams.json and streams.md beside an evaluation with streams; return their paths."""
    target = evaluation.directory / "streams"
    content = {
        "settings": evaluation.settings["streams"],
        "rows": [asdict(row) for row in evaluation.streams],
    }
    texts = {".json": json_text(content, indent=2) + "\n", ".md": _markdown(evaluation)}
    for suffix, text in texts.items():
        write_text(target.with_suffix(suffix), text)
    return [target.with_suffix(suffix) for suffix in texts]


def by_setting(rows: Sequence[StreamRow]) -> list[tuple[str, list[StreamRow]]]:
    """Return the rows of each kind of stream, with the kind in words."""
    groups = groupby(rows, key=lambda row: (row.order, row.ratio, row.batch_size))
    return [(str(StreamSetting(*key)), list(group)) for key, group in groups]


def summary(rows: Sequence[StreamRow]) -> list[StreamRow]:
    """Return the rows of one kind that stand for all sets: "mean", or those of the only set."""
    means = [row for row in rows if row.ood_set == MEAN]
    return means or list(rows)


def cells(row: StreamRow) -> list[str]:
    """Return the texts of `COLUMNS`, "" for what is not measured."""
    return [
        text
        for spread in (row.auroc, row.fpr95, row.false_alarms)
        for text in (shown(spread), "" if spread is None else percent(spread.worst))
    ]


def shown(spread: Spread | None) -> str:
    """Return mean and standard deviation, "" for what is not measured."""
    if spread is None:
        return ""
    return percent(spread.mean) + ("" if spread.std is None else f" ± {percent(spread.std)}")


def stream_caption(settings: Mapping[str, object]) -> str:
    """Say what the cells of the tables hold."""
    seeds = settings["seeds"]
    n = len(seeds) if isinstance(seeds, Sequence) else 0
    text = (
        f"In percent over {n} stream seeds: mean ± standard deviation, and the worst seed. "
        f"False alarms: ID images below a threshold calibrated for "
        f"{100 * float(str(settings['fpr'])):g} % on ID images at the start of the stream, which "
        "only static scores guarantee. A + B is method A, which learns, on the labels of B. "
        f"{FPR95_NOTE}."
    )
    return text if n >= 5 else f"{text} With fewer than five seeds the spread means little."


def rich_stream_tables(evaluation: Evaluation) -> list[Table]:
    """Return a table for a terminal of 80 columns for each kind of stream, the caption last."""
    from rich.text import Text

    kinds = by_setting(evaluation.streams)
    tables = []
    for number, (title, rows) in enumerate(kinds, 1):
        body: list[list[str | Text]] = []
        for row in summary(rows):
            spreads = (row.auroc, row.fpr95, row.false_alarms)
            body.append([evaluation.title_of(row.method)])
            body[-1] += [
                Text("" if each is None else f"{shown(each)}\n{percent(each.worst)}")
                for each in spreads
            ]
        columns = ["method", *COLUMNS[::2]]
        caption = stream_caption(evaluation.settings["streams"]) if number == len(kinds) else None
        tables.append(console_table(columns, body, title=f"Streams: {title}", caption=caption))
    return tables


def _markdown(evaluation: Evaluation) -> str:
    text, caption = "", stream_caption(evaluation.settings["streams"])
    for title, rows in by_setting(evaluation.streams):
        header = ["method", "against", "ID", "OOD", *COLUMNS]
        body = [
            [
                markdown_text(evaluation.title_of(row.method)),
                markdown_text(row.ood_set or NO_OOD),
                str(row.n_id),
                str(row.n_ood),
                *cells(row),
            ]
            for row in rows
        ]
        text += f"{title[0].upper()}{title[1:]}:\n\n{markdown_table(header, body)}\n"
    return f"{text}{caption}\n"
