"""Scored images as a table of pandas, polars or Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pyarrow as pa

from negrefine.errors import InputError
from negrefine.evaluation.image_scores import ScoredImage


def to_arrow(scored: Sequence[ScoredImage]) -> pa.Table:
    """Return the rows of `score_files` as a table with the columns of `negrefine score`.

    Columns: path, score, one for each component of the score, p_value (if any row has one),
    verdict, error.
    """
    parts = list(dict.fromkeys(name for row in scored for name in row.parts))
    with_p = any(row.p_value is not None for row in scored)
    rows = [row.as_row(parts, p_value=with_p) for row in scored]
    text = {"path", "verdict", "error"}
    names = ["path", "score", *parts, *(["p_value"] if with_p else []), "verdict", "error"]
    schema = pa.schema([(name, pa.string() if name in text else pa.float64()) for name in names])
    return pa.Table.from_pylist(rows, schema=schema)


def to_pandas(scored: Sequence[ScoredImage]) -> Any:
    """Return a `pandas.DataFrame`; see `to_arrow`.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        import pandas  # noqa: F401 - pyarrow's own message would not say how to get it
    except ImportError as error:
        raise InputError("to_pandas needs pandas: pip install 'negrefine[frames]'.") from error
    return to_arrow(scored).to_pandas()


def to_polars(scored: Sequence[ScoredImage]) -> Any:
    """Return a `polars.DataFrame`; see `to_arrow`.

    Raises:
        InputError: polars is not installed.
    """
    try:
        polars: Any = import_module("polars")
    except ImportError as error:
        raise InputError("to_polars needs polars: pip install 'negrefine[frames]'.") from error
    return polars.from_arrow(to_arrow(scored))
