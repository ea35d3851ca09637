"""Scored images as a table of pandas, polars or Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pyarrow as pa

from negrefine.errors import InputError
from negrefine.evaluation.scored_image import ScoredImage, score_columns


def to_arrow(scored: Sequence[ScoredImage]) -> pa.Table:
    """Return the rows of `score_files` as a table with the columns of `negrefine score`.

    Columns: path, score, one for each component of the score, p_value (if any row has one),
    verdict, threshold (if any row has one), nearest_class, similarity, runner_up,
    runner_up_similarity, nearest_negative, negative_similarity, error.
    """
    parts = list(dict.fromkeys(name for row in scored for name in row.parts))
    with_p = any(row.p_value is not None for row in scored)
    with_threshold = any(row.threshold is not None for row in scored)
    rows = [row.as_row(parts, p_value=with_p, threshold=with_threshold) for row in scored]
    columns = score_columns(parts, p_value=with_p, threshold=with_threshold)
    schema = pa.schema(columns.items())
    return pa.Table.from_pylist(rows, schema=schema)


def to_pandas(scored: Sequence[ScoredImage]) -> Any:
    """Return a `pandas.DataFrame`; see `to_arrow`. InputError if pandas is not installed."""
    # pyarrow would import pandas itself, but without saying how to install it.
    _import("pandas")
    return to_arrow(scored).to_pandas()


def to_polars(scored: Sequence[ScoredImage]) -> Any:
    """Return a `polars.DataFrame`; see `to_arrow`. InputError if polars is not installed."""
    return _import("polars").from_arrow(to_arrow(scored))


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(f"to_{name} needs {name}: pip install 'negrefine[frames]'.") from error
