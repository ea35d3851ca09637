"""Measured numbers beside published ones, with the known reasons for a difference."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from negrefine.benchmarks.catalogue import data_directory, load_benchmark, load_set
from negrefine.errors import InputError
from negrefine.evaluation.results import Evaluation, Result
from negrefine.labels.lexicon import Lexicon

MEAN = "mean"
_NOT_MEASURED = "not measured"


@dataclass(frozen=True, slots=True)
class Cell:
    """One published number and what was measured in its place.

    Attributes:
        table: "main", "ablation" or "seed0".
        method: Method or ablation variant.
        ood_set: Name of the set in the catalogue, or "mean": over the four sets of the main table.
        metric: "auroc" or "fpr95".
        published: In percent.
        measured: In percent, None if it was not measured.
        reasons: Keys of `reason_texts` that can explain a difference, or why nothing was measured.
    """

    table: str
    method: str
    ood_set: str
    metric: str
    published: float
    measured: float | None
    reasons: tuple[str, ...]

    @property
    def difference(self) -> float | None:
        """Measured minus published, in points."""
        return None if self.measured is None else self.measured - self.published


def table_names() -> list[str]:
    """Return the names of the tables of published numbers."""
    return list(_content()["tables"])


def table_title(table: str) -> str:
    """Return a table's caption."""
    title: str = _content()["tables"][table]["title"]
    return title


def table_source(table: str) -> str:
    """Return where a table's numbers come from."""
    source: str = _content()["tables"][table]["source"]
    return source


def reason_texts() -> dict[str, str]:
    """Return key to sentence of all known reasons for a difference."""
    return {key: reason["text"] for key, reason in _content()["reasons"].items()}


def compare_with_published(
    evaluation: Evaluation, facts: Collection[str], tables: Sequence[str] | None = None
) -> list[Cell]:
    """Put measured numbers beside the published ones.

    Args:
        evaluation: Of `benchmarks.locate`'s images, with the ablation if that table is wanted.
        facts: What is true of the run and decides which reasons apply: "lexicon" (the authors'
            words), "replay" (recorded answers), "bilinear" (resize), "ten seeds", "seed 0"
            (alone), "float16", "incomplete" (images missing), "other encoder".
        tables: "main", "ablation", "seed0"; default: all.

    Returns:
        A cell for each published number, in the order of the tables.

    Raises:
        InputError: There is no such table.
    """
    wanted = table_names() if tables is None else list(dict.fromkeys(tables))
    unknown = [table for table in wanted if table not in table_names()]
    if unknown:
        raise InputError(
            f"There is no published table {unknown[0]!r}: there are {', '.join(table_names())}."
        )
    cells = []
    for table in wanted:
        results = evaluation.ablation if table == "ablation" else evaluation.results
        for entry in _content()["tables"][table]["cells"]:
            method, ood_set, metric = entry["method"], entry["ood_set"], entry["metric"]
            measured = _measured(results, method, ood_set, metric)
            cells.append(
                Cell(
                    table,
                    method,
                    ood_set,
                    metric,
                    entry["value"],
                    None if measured is None else 100 * measured,
                    tuple(_reasons(table, method, ood_set, facts, measured is not None)),
                )
            )
    return cells


def _measured(results: Iterable[Result], method: str, ood_set: str, metric: str) -> float | None:
    """Return a fraction; a mean only where all four sets of the main table were measured."""
    values = {r.ood_set: getattr(r, metric).value for r in results if r.method == method}
    if ood_set != MEAN:
        return values.get(load_set(ood_set).title)
    four = [values.get(each.title) for each in load_benchmark("imagenet-1k").ood_sets]
    known = [value for value in four if value is not None]
    return sum(known) / len(known) if len(known) == len(four) else None


def _reasons(
    table: str, method: str, ood_set: str, facts: Collection[str], measured: bool
) -> list[str]:
    """Return what can explain the difference, or why there is none."""
    true = {*facts} if measured else {*facts, _NOT_MEASURED}

    def applies(reason: dict[str, Any]) -> bool:
        return (
            method in reason.get("methods", [method])
            and ood_set in reason.get("ood_sets", [ood_set])
            and table in reason.get("tables", [table])
            and reason.get("unless") not in true
            and ("when" not in reason or reason["when"] in true)
            and (measured or reason.get("when") == _NOT_MEASURED)
        )

    keys = [key for key, reason in _content()["reasons"].items() if applies(reason)]
    # The particular reason says more than that the method was not part of the run.
    return keys if measured else keys[:1]


def is_published_lexicon(lexicon: Lexicon) -> bool:
    """Whether a word list has as many words in each file as the published ones."""
    words: dict[str, int] = _content()["words"]
    return Counter(entry.lexname for entry in lexicon.entries) == Counter(words)


@cache
def _content() -> dict[str, Any]:
    text = (data_directory() / "published.json").read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content
