"""The results of `evaluate`: image sets with their scores, tables of metrics, and their files."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from numpy.typing import NDArray

from negrefine.constraints import Fields, Strings, Text
from negrefine.errors import InputError
from negrefine.evaluation.provenance import Provenance
from negrefine.evaluation.stream_rows import StreamRow
from negrefine.files.reading import read_json, reason
from negrefine.files.records import from_row
from negrefine.files.regular import read_regular
from negrefine.files.writing import write_atomically, write_text
from negrefine.shown_text import json_text

Scores = NDArray[np.float64]

ID, MEAN = "ID", "mean"
"""Names of the in-distribution set, and of the mean over the OOD sets, in tables."""
MANIFEST = "evaluation.json"
_FORMAT = 1
# Attributes of an evaluation that its manifest has as they are, and those that hold metrics.
_PLAIN = ("title", "class_names", "methods", "settings", "titles")
_MEASURED = ("results", "ablation", "accuracy")


@dataclass(frozen=True)
class SetScores:
    """The images of one set, readable and not, and their scores by all methods.

    Attributes:
        name: "ID" for the in-distribution set, otherwise the OOD set's own name.
        labels: int64 (n,), index into `Evaluation.class_names` of the true class, -1 unknown.
        predictions: int64 (n,), index of the most similar class name, -1 for unreadable images.
        errors: Why an image could not be read, None for readable ones; n entries.
        groups: For each image the folder just below the set's root that it is in, "" at the root.
            OOD sets such as NINCO are reported by these, too.
        scores: Method to seed to float64 (n,), NaN for unreadable images; larger is more
            in-distribution. Methods without randomness have the one seed 0.
        parts: Method to component name ("neglabel", "multi_match") to float64 (n,), of the first
            seed.
    """

    name: str
    paths: list[str]
    labels: NDArray[np.int64]
    predictions: NDArray[np.int64]
    errors: list[str | None]
    groups: list[str]
    scores: Mapping[str, Mapping[int, Scores]]
    parts: Mapping[str, Mapping[str, Scores]] = field(default_factory=dict)

    @property
    def readable(self) -> NDArray[np.bool_]:
        """bool (n,): the images with scores."""
        return np.array([error is None for error in self.errors], dtype=np.bool_)

    def readable_scores(self, method: str) -> list[Scores]:
        """Return for each seed the scores of the readable images."""
        return [scores[self.readable] for scores in self.scores[method].values()]


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric, a fraction, averaged over seeds.

    `low` and `high` are the ends of the bootstrap interval over images, of the first seed; None
    without one. `std` is the standard deviation over seeds (n - 1), None with one seed.
    """

    value: float
    low: float | None = None
    high: float | None = None
    std: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One method or ablation variant on one OOD set, or on "mean", the plain mean over the sets.

    AUROC and AUPR-in are in-distribution positive and AUPR-out is OOD positive. FPR95 is the
    papers' definition, `metrics.fpr95`: ID positive. `fpr95_ood_positive` is that of OpenOOD and
    pytorch-ood, `metrics.fpr95_ood_positive`, None in evaluations that did not measure it.
    """

    method: str
    ood_set: str
    auroc: Measured
    fpr95: Measured
    aupr_in: Measured
    aupr_out: Measured
    fpr95_ood_positive: Measured | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """The metrics of one method minus those of a baseline, on one OOD set or "mean".

    Fractions with the 95 % interval of the paired bootstrap: the images are the same for both. A
    method is better where AUROC is above 0 and FPR95 below. `fpr95` is the papers' definition, and
    `fpr95_ood_positive` that of OpenOOD.
    """

    method: str
    baseline: str
    ood_set: str
    auroc: Measured
    fpr95: Measured
    fpr95_ood_positive: Measured


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation, as `evaluate` returns and `load_evaluation` reads it.

    Attributes:
        directory: The folder of features, scores, detectors and tables.
        title: A line for people, such as the benchmark's name.
        methods: Names of the detectors in table order.
        ood_sets: All sets but the in-distribution one, in table order.
        results: Methods x (OOD sets + "mean"), in table order.
        ablation: The same for the detectors of the ablation, empty without it. Their scores are in
            the sets under their names.
        accuracy: ID accuracy of zero-shot classification, a fraction; None without true labels.
        settings: Encoder, parameters of each method, seeds, bootstrap, versions: plain JSON.
        detectors: Method to the directory of the saved detector (`load_detector` reads it).
        titles: Method to its name in tables for people, where it differs.
        streams: What was measured over streams, empty without them; `settings["streams"]` has the
            seeds and the false-alarm rate.
        differences: What `paired.differences_from` returns, empty without a baseline.
        provenance: What the numbers are of: hashes of images, features and labels.
    """

    directory: Path
    title: str
    class_names: list[str]
    methods: list[str]
    id_set: SetScores
    ood_sets: list[SetScores]
    results: list[Result]
    ablation: list[Result]
    accuracy: Measured | None
    settings: dict[str, Any]
    detectors: dict[str, Path]
    titles: Mapping[str, str] = field(default_factory=dict)
    streams: list[StreamRow] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    provenance: Provenance | None = None

    @property
    def sets(self) -> list[SetScores]:
        """The in-distribution set and the OOD sets."""
        return [self.id_set, *self.ood_sets]

    def title_of(self, method: str) -> str:
        """Return the name of a method in tables for people."""
        return self.titles.get(method, method)

    def _repr_html_(self) -> str:
        """Return what notebooks show: AUROC and FPR95 with intervals."""
        from negrefine.evaluation.html import evaluation_html

        return evaluation_html(self)


def set_directory(number: int, name: str) -> str:
    """Return a file name for an image set, safe on every system and different for each number."""
    return f"{number:02}-{_plain(name)}"


def detector_directory(name: str) -> str:
    """Return a file name for a detector, safe on every system and different for each name."""
    plain = _plain(name)
    if plain == name == name.lower():
        return name
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:60] or "set"


def save_evaluation(evaluation: Evaluation) -> None:
    """Write evaluation.json and scores/ to `evaluation.directory`, the manifest last."""
    directory = evaluation.directory
    for number, image_set in enumerate(evaluation.sets):
        _write_set(_scores_file(directory, number, image_set.name), image_set)
    content = {name: getattr(evaluation, name) for name in (*_PLAIN, *_MEASURED)} | {
        "format": _FORMAT,
        "sets": [image_set.name for image_set in evaluation.sets],
        "detectors": {
            name: str(path.relative_to(directory)) for name, path in evaluation.detectors.items()
        },
    }
    if evaluation.streams:
        content["streams"] = evaluation.streams
    if evaluation.differences:
        content["differences"] = evaluation.differences
    if evaluation.provenance is not None:
        content["provenance"] = evaluation.provenance.as_dict()
    text = json_text(content, indent=2, sort_keys=True, default=asdict)
    write_text(directory / MANIFEST, text + "\n")


def load_evaluation(directory: Path) -> Evaluation:
    """Read what `evaluate` wrote; InputError if it is unfinished or its files are damaged."""
    content = read_manifest(directory)
    if content is None:
        raise InputError(
            f"{str(directory)!r} holds no finished evaluation ({MANIFEST} is missing): run "
            "'negrefine evaluate' again, which continues where it stopped."
        )
    try:
        _CONTENT(MANIFEST, content)
        sets = [
            _read_set(_scores_file(directory, number, name), name)
            for number, name in enumerate(content["sets"])
        ]
        accuracy = content["accuracy"]
        return Evaluation(
            directory=directory,
            id_set=sets[0],
            ood_sets=sets[1:],
            detectors={name: directory / path for name, path in content["detectors"].items()},
            **{name: content[name] for name in _PLAIN if name in content},
            results=[from_row(Result, row) for row in content["results"]],
            ablation=[from_row(Result, row) for row in content["ablation"]],
            accuracy=accuracy and from_row(Measured, accuracy),
            streams=[from_row(StreamRow, row) for row in content.get("streams", [])],
            differences=[from_row(Difference, row) for row in content.get("differences", [])],
            provenance=content.get("provenance") and Provenance.of(content["provenance"]),
        )
    except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
        what = reason(error).rstrip(".")[:300]
        raise InputError(
            f"The evaluation in {str(directory)!r} is damaged ({what}): run it again."
        ) from error


_CONTENT = Fields(
    {
        "title": Text(empty=True),
        "class_names": Strings(),
        "methods": Strings(),
        "settings": Fields({}),
        "sets": Strings(),
        "detectors": Fields({}),
    }
)
"""What evaluation.json must hold beside the metrics, whose types are checked one by one."""


def read_manifest(directory: Path) -> dict[str, Any] | None:
    """Return the content of evaluation.json, None where there is none; InputError if damaged."""
    path = directory / MANIFEST
    try:
        content = read_json(path)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"{str(path)!r} cannot be read ({reason(error)}): remove it.") from error
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise InputError(f"{str(path)!r} is of another version: give an empty folder.")
    return content


def _scores_file(directory: Path, number: int, name: str) -> Path:
    return directory / "scores" / f"{set_directory(number, name)}.parquet"


def _write_set(path: Path, image_set: SetScores) -> None:
    columns = {
        "path": pa.array(image_set.paths, pa.string()),
        "group": pa.array(image_set.groups, pa.string()),
        "label": pa.array(image_set.labels, pa.int64()),
        "prediction": pa.array(image_set.predictions, pa.int64()),
        "error": pa.array(image_set.errors, pa.string()),
    }
    for method, seeds in image_set.scores.items():
        columns |= {f"score/{method}/{seed}": pa.array(v) for seed, v in seeds.items()}
    for method, parts in image_set.parts.items():
        columns |= {f"part/{method}/{part}": pa.array(v) for part, v in parts.items()}
    content = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.table(columns), content)
    # Arrow opens no file whose name is not UTF-8.
    write_atomically(path, lambda temporary: temporary.write_bytes(content.getvalue()))


def _read_set(path: Path, name: str) -> SetScores:
    table = pyarrow.parquet.read_table(pa.BufferReader(read_regular(path)))
    scores: dict[str, dict[int, Scores]] = {}
    parts: dict[str, dict[str, Scores]] = {}
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
