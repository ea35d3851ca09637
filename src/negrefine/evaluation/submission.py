"""results.json: the numbers of an evaluation with all that they depend on, for others to read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from negrefine.constraints import Fields, OneOf, Strings, Text, Whole
from negrefine.errors import InputError
from negrefine.evaluation.provenance import Provenance
from negrefine.evaluation.results import MEAN, Evaluation, Measured, Result
from negrefine.files.reading import read_json, reason
from negrefine.files.records import from_row

ID_POSITIVE, OOD_POSITIVE = "id-positive", "ood-positive"
"""The two conventions of FPR95: the papers', and OpenOOD's."""
_FORMAT = 1
_FILE = "results.json"
# More than any table has, and longer than any name that a table can show.
_MAX_ROWS, _MAX_NAME = 10_000, 300


def submission(evaluation: Evaluation) -> dict[str, Any]:
    """Return the content of results.json, whose dataclasses `dataclasses.asdict` makes plain."""
    provenance = evaluation.provenance
    return {
        "format": _FORMAT,
        "title": evaluation.title,
        "conventions": {
            "scores": "larger is more in-distribution",
            "auroc": ID_POSITIVE,
            "fpr95": ID_POSITIVE,
            "fpr95_ood_positive": OOD_POSITIVE,
        },
        "results": [*evaluation.results, *evaluation.ablation],
        "differences": evaluation.differences,
        "id_accuracy": evaluation.accuracy,
        "titles": dict(evaluation.titles),
        "settings": evaluation.settings,
        "provenance": None if provenance is None else provenance.as_dict(),
    }


@dataclass(frozen=True)
class Submission:
    """A results.json that somebody may have written.

    Attributes:
        path: The file.
        title: The line for people that was given to the evaluation.
        encoder: Name of the encoder, and `fingerprint` the hash of its weights and options.
        fpr95: Convention of the `fpr95` of `results`, "id-positive" or "ood-positive".
        results: Methods x (OOD sets + "mean").
        titles: Method to its name in tables for people, where it differs.
        provenance: What was measured.
        seeds: Seeds of the methods' draws.
    """

    path: Path
    title: str
    encoder: str
    fingerprint: str
    fpr95: str
    results: list[Result]
    titles: Mapping[str, str]
    provenance: Provenance
    seeds: list[int]


def read_submission(path: Path) -> Submission:
    """Read a results.json, or the one in a folder.

    Raises:
        InputError: It cannot be read, is too large, or a field is missing or not what it must be.
    """
    file = path / _FILE if path.is_dir() else path
    try:
        return _checked(file, read_json(file))
    except (OSError, ValueError, InputError) as error:
        raise InputError(
            f"{str(file)!r} is no results file ({reason(error).rstrip('.')}): give a results.json "
            "that 'negrefine evaluate' wrote, or its folder."
        ) from error


def _checked(file: Path, content: Any) -> Submission:
    if isinstance(content, dict) and "results" in content and "format" not in content:
        raise ValueError(
            "it is of an older version and does not say what it was measured on; 'negrefine "
            "evaluate' into the same folder writes it again"
        )
    _CONTENT("the file", content)
    if content["format"] != _FORMAT:
        raise ValueError("it is of another version")
    if content.get("provenance") is None:
        raise ValueError("it does not say what it was measured on")
    provenance = Provenance.of(content["provenance"])
    rows = content.get("results")
    if not isinstance(rows, list) or not 0 < len(rows) <= _MAX_ROWS:
        raise ValueError(f"its results are not a list of 1 to {_MAX_ROWS} rows")
    results = [from_row(Result, row) for row in rows]
    sets = [each.name for each in provenance.sets]
    _check_results(results, sets[1:])
    titles, settings = content["titles"], content["settings"]
    if not all(isinstance(text, str) for text in titles.values()):
        raise ValueError("a title is not a text")
    seeds = settings.get("seeds")
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
        raise ValueError("its seeds are not a list of whole numbers")
    names = [content["title"], settings["encoder"]["name"], *titles.values(), *sets]
    names.append(settings["encoder"]["fingerprint"])
    names += [name for row in results for name in (row.method, row.ood_set)]
    if any(len(name) > _MAX_NAME for name in names):
        raise ValueError(f"it has a name of more than {_MAX_NAME} characters")
    return Submission(
        file,
        content["title"],
        settings["encoder"]["name"],
        settings["encoder"]["fingerprint"],
        content["conventions"]["fpr95"],
        results,
        titles,
        provenance,
        seeds,
    )


def _check_results(results: list[Result], sets: list[str]) -> None:
    """Raise ValueError unless each method has a row for each set and the mean, of fractions."""
    by_method: dict[str, list[str]] = {}
    for row in results:
        by_method.setdefault(row.method, []).append(row.ood_set)
        for each in (row.auroc, row.fpr95, row.aupr_in, row.aupr_out, row.fpr95_ood_positive):
            if each is not None and not _is_fraction(each):
                raise ValueError(f"a number of {row.method!r} is no fraction from 0 to 1")
    for method, names in by_method.items():
        if sorted(names) != sorted([*sets, MEAN]):
            raise ValueError(f"the rows of {method!r} are not one for each OOD set and the mean")


def _is_fraction(each: Measured) -> bool:
    ends = (each.low, each.high)
    if (each.low is None) != (each.high is None):
        return False
    known = [end for end in ends if end is not None]
    numbers = [each.value, *known, *([] if each.std is None else [each.std])]
    return all(0 <= number <= 1 for number in numbers) and known == sorted(known)


_CONTENT = Fields(
    {
        "format": Whole(1),
        "title": Text(empty=True),
        "conventions": Fields({"fpr95": OneOf((ID_POSITIVE, OOD_POSITIVE))}),
        "titles": Fields({}),
        "settings": Fields(
            {
                "encoder": Fields({"name": Text(), "fingerprint": Text(empty=True)}),
                "notes": Strings(),
            }
        ),
    }
)
"""What a results file must hold beside its rows and provenance, which are checked one by one."""
