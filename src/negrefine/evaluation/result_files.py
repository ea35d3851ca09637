"""An evaluation on disk: evaluation.json and one Parquet file of scores for each image set."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from negrefine.errors import InputError
from negrefine.evaluation.results import Evaluation, Measured, Result, SetScores
from negrefine.files import write_rows, write_text

MANIFEST = "evaluation.json"
_FORMAT = 1
_METRICS = ("auroc", "fpr95", "aupr_in", "aupr_out")
_FACTS = {
    "path": "string",
    "group": "string",
    "label": "int64",
    "prediction": "int64",
    "error": "string",
}


def set_directory(number: int, name: str) -> str:
    """Return a file name for an image set, safe on every system and different for each."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "set"
    return f"{number:02}-{plain[:60]}"


def save_evaluation(evaluation: Evaluation) -> None:
    """Write evaluation.json and scores/ to `evaluation.directory`, the manifest last."""
    sets = [evaluation.id_set, *evaluation.ood_sets]
    for number, one in enumerate(sets):
        _write_set(
            evaluation.directory / "scores" / f"{set_directory(number, one.name)}.parquet", one
        )
    content = {
        "format": _FORMAT,
        "title": evaluation.title,
        "class_names": evaluation.class_names,
        "methods": evaluation.methods,
        "sets": [one.name for one in sets],
        "results": [asdict(row) for row in evaluation.results],
        "ablation": [asdict(row) for row in evaluation.ablation],
        "accuracy": None if evaluation.accuracy is None else asdict(evaluation.accuracy),
        "settings": evaluation.settings,
        "detectors": {
            name: str(path.relative_to(evaluation.directory))
            for name, path in evaluation.detectors.items()
        },
    }
    text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
    write_text(evaluation.directory / MANIFEST, text)


def load_evaluation(directory: Path) -> Evaluation:
    """Read what `evaluate` wrote.

    Raises:
        InputError: There is no finished evaluation, or its files are damaged.
    """
    content = read_manifest(directory)
    if content is None:
        raise InputError(
            f"{str(directory)!r} holds no finished evaluation ({MANIFEST} is missing): run "
            "'negrefine evaluate' again, which continues where it stopped."
        )
    try:
        sets = [
            _read_set(directory / "scores" / f"{set_directory(number, name)}.parquet", name)
            for number, name in enumerate(content["sets"])
        ]
        accuracy = content["accuracy"]
        return Evaluation(
            directory,
            content["title"],
            content["class_names"],
            content["methods"],
            sets[0],
            sets[1:],
            [_result(row) for row in content["results"]],
            [_result(row) for row in content["ablation"]],
            None if accuracy is None else Measured(**accuracy),
            content["settings"],
            {name: directory / path for name, path in content["detectors"].items()},
        )
    except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"The evaluation in {str(directory)!r} is damaged ({error}): run it again."
        ) from error


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """Return the content of evaluation.json, None where there is none.

    Raises:
        InputError: It cannot be read.
    """
    path = directory / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read ({error}): remove it.") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f"{str(path)!r} is of another version: give an empty folder.")
    return content


def _result(row: dict[str, Any]) -> Result:
    return Result(row["method"], row["ood_set"], *(Measured(**row[metric]) for metric in _METRICS))


def _write_set(path: Path, one: SetScores) -> None:
    columns: dict[str, list[Any]] = {
        "path": one.paths,
        "group": one.groups,
        "label": one.labels.tolist(),
        "prediction": one.predictions.tolist(),
        "error": list(one.errors),
    }
    for method, seeds in one.scores.items():
        for seed, values in seeds.items():
            columns[f"score/{method}/{seed}"] = values.tolist()
    for method, parts in one.parts.items():
        for part, values in parts.items():
            columns[f"part/{method}/{part}"] = values.tolist()
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    write_rows(path, rows, {name: _FACTS.get(name, "double") for name in columns})


def _read_set(path: Path, name: str) -> SetScores:
    table = pyarrow.parquet.read_table(path)
    scores: dict[str, dict[int, np.ndarray]] = {}
    parts: dict[str, dict[str, np.ndarray]] = {}
    for column in table.column_names:
        kind, _, rest = column.partition("/")
        method, _, last = rest.rpartition("/")
        if kind == "score":
            scores.setdefault(method, {})[int(last)] = table[column].to_numpy()
        elif kind == "part":
            parts.setdefault(method, {})[last] = table[column].to_numpy()
    return SetScores(
        name,
        table["path"].to_pylist(),
        table["label"].to_numpy(),
        table["prediction"].to_numpy(),
        table["error"].to_pylist(),
        table["group"].to_pylist(),
        scores,
        parts,
    )
