"""Several results files in one table, in which what cannot be compared is marked and explained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negrefine.errors import InputError
from negrefine.evaluation.results import ID, MEAN, Result
from negrefine.evaluation.submission import ID_POSITIVE, Submission, read_submission
from negrefine.evaluation.tables import FPR95_NOTE, METRICS, Cell
from negrefine.text_tables import console_table

if TYPE_CHECKING:
    import os

    from rich.table import Table
    from rich.text import Text

SHOWN = METRICS[:2]
"""The metrics of a comparison: AUROC and FPR95."""
_LISTED = 3


@dataclass(frozen=True, slots=True)
class Mark:
    """Why some numbers of a file cannot be compared with those of the first one.

    Attributes:
        number: What stands beside these numbers.
        text: A sentence for people.
        file: Index of the file.
        sets: The OOD sets, or "mean", whose numbers it is about; empty for all of them.
        metrics: The metrics that it is about.
    """

    number: int
    text: str
    file: int
    sets: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("auroc", "fpr95")


@dataclass(frozen=True, slots=True)
class MarkedCell:
    """One number of one method on one OOD set, with the numbers of the marks that concern it."""

    cell: Cell
    marks: tuple[int, ...] = ()

    @property
    def signs(self) -> str:
        """The marks as text, such as "[1][3]"; "" for a number that can be compared."""
        return "".join(f"[{number}]" for number in self.marks)


@dataclass(frozen=True, slots=True)
class Row:
    """One method of one file: `cells` has for each set that it was measured on those of `SHOWN`."""

    file: int
    method: str
    title: str
    cells: dict[str, tuple[MarkedCell, ...]]


@dataclass(frozen=True)
class Comparison:
    """Several results files beside each other.

    Attributes:
        files: The files, the first being what the others are compared with.
        labels: For each file how it is called: its title if no other has it, or else its path.
        sets: The OOD sets of all files, "mean" the last.
        rows: The methods of all files.
        marks: What must not be compared, and why.
        notes: What else differs, such as encoders.
    """

    files: Sequence[Submission]
    labels: list[str]
    sets: list[str]
    rows: list[Row]
    marks: list[Mark]
    notes: list[str]

    def label_of(self, row: Row) -> str:
        """Return how the file of a row is called."""
        return self.labels[row.file]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON, numbers as fractions."""
        files = [
            {
                "label": label,
                "path": str(each.path),
                "title": each.title,
                "encoder": each.encoder,
                "encoder_fingerprint": each.fingerprint,
                "fpr95": each.fpr95,
                "provenance": each.provenance.as_dict(),
            }
            for label, each in zip(self.labels, self.files, strict=True)
        ]
        rows = [
            {"file": self.label_of(row), "method": row.method, "ood_set": name}
            | {
                metric.name: asdict(each.cell.measured) | {"marks": list(each.marks)}
                for metric, each in zip(SHOWN, cells, strict=True)
            }
            for row in self.rows
            for name, cells in row.cells.items()
        ]
        marks = [asdict(mark) | {"file": self.labels[mark.file]} for mark in self.marks]
        return {"files": files, "rows": rows, "marks": marks, "notes": self.notes}

    def _repr_html_(self) -> str:
        """Return what notebooks show: all numbers with their marks, and what differs."""
        from negrefine.evaluation.html import comparison_html

        return comparison_html(self)


def compare(paths: Sequence[str | os.PathLike[str]]) -> Comparison:
    """Read results files, or their folders, and put their numbers beside each other.

    The first file is what the others are compared with. Numbers on other images, class names or
    sets, and of the other convention of FPR95, are in the table with a mark and never the best.

    Raises InputError for fewer than two files, one that is given twice, or one that is not a
    results file.
    """
    if isinstance(paths, str) or len(paths) < 2:
        raise InputError("A comparison needs two or more results files: give another one.")
    files = [read_submission(Path(path)) for path in paths]
    resolved = [each.path.resolve() for each in files]
    for i, path in enumerate(resolved):
        if path in resolved[:i]:
            raise InputError(f"{str(files[i].path)!r} is given twice: give each file once.")
    labels = _labels(files)
    found = [
        (file, *difference)
        for file, each in enumerate(files[1:], 1)
        for difference in _differences(files[0], each, labels[0], labels[file])
    ]
    marks = [
        Mark(number, text, file, sets, metrics)
        for number, (file, text, sets, metrics) in enumerate(found, 1)
    ]
    named = dict.fromkeys(each.name for file in files for each in file.provenance.sets[1:])
    sets = [*named, MEAN]
    return Comparison(files, labels, sets, _rows(files, sets, marks), marks, _notes(files, labels))


def rich_table(comparison: Comparison) -> Table:
    """Return a table for a terminal: a section for each OOD set and the mean."""
    from rich.text import Text

    rows: list[list[str | Text]] = []
    sections = []
    for name in comparison.sets:
        heading = "mean over the sets" if name == MEAN else f"against {name}"
        rows.append([Text(heading, style="italic"), "", *[""] * len(SHOWN)])
        for row in comparison.rows:
            if name not in row.cells:
                continue
            rows.append([f"  {row.title}", comparison.label_of(row)])
            for each in row.cells[name]:
                ends = each.cell.interval("\n{} - {}")
                shown = f"{each.cell.value}{each.signs}{ends}"
                rows[-1].append(Text(shown, style="bold" if each.cell.is_best else ""))
        sections.append(len(rows) - 1)
    columns = ["method", "results", *(metric.caption for metric in SHOWN)]
    return console_table(columns, rows, caption=caption(comparison), sections=sections)


def caption(comparison: Comparison) -> str:
    """Say what the cells of a table hold."""
    text = f"In percent, with the files' own 95 % intervals. {FPR95_NOTE}."
    if comparison.marks:
        text += " Numbers with a mark cannot be compared with the others."
    return text


def _labels(files: Sequence[Submission]) -> list[str]:
    titles = Counter(each.title for each in files)
    return [
        each.title if each.title and titles[each.title] == 1 else str(each.path) for each in files
    ]


def _differences(
    first: Submission, other: Submission, first_label: str, label: str
) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Yield sentence, sets and metrics of what makes numbers of one file unlike the first's."""
    both = ("auroc", "fpr95")
    inside, *outside = first.provenance.sets
    other_inside, *other_outside = other.provenance.sets
    if inside.images != other_inside.images:
        counts = f"{other_inside.n_images} instead of {inside.n_images}"
        text = f"{label} was measured on other {ID} images than {first_label} ({counts})."
        yield text, (), both
    elif inside.n_readable != other_inside.n_readable:
        text = f"{label} could read {other_inside.n_readable} of the {ID} images, {first_label} "
        yield f"{text}{inside.n_readable}.", (), both
    if first.provenance.class_names != other.provenance.class_names:
        yield f"{label} has other class names than {first_label}, or in another order.", (), both
    known = {each.name: each for each in outside}
    for each in other_outside:
        if each.name not in known:
            continue
        same = known[each.name]
        if each.images != same.images:
            text = f"The images of {each.name} in {label} are not those in {first_label} "
            yield f"{text}({each.n_images} and {same.n_images}).", (each.name, MEAN), both
        elif each.n_readable != same.n_readable:
            text = f"{label} could read {each.n_readable} images of {each.name}, {first_label} "
            yield f"{text}{same.n_readable}.", (each.name, MEAN), both
    names = {each.name for each in other_outside}
    if names != set(known):
        unlike = sorted(names ^ set(known))
        more = " ..." if len(unlike) > _LISTED else ""
        text = f"The mean of {label} is over other OOD sets than that of {first_label} (one of the"
        yield f"{text} two lacks {', '.join(unlike[:_LISTED])}{more}).", (MEAN,), both
    if first.fpr95 != other.fpr95:
        kinds = {ID_POSITIVE: "in-distribution positive"}
        kind, first_kind = (kinds.get(each.fpr95, "OOD positive") for each in (other, first))
        text = f"FPR95 of {label} is {kind}, and that of {first_label} is {first_kind}: two"
        yield f"{text} different quantities.", (), ("fpr95",)


def _notes(files: Sequence[Submission], labels: Sequence[str]) -> list[str]:
    notes = []
    if len({each.fingerprint for each in files}) > 1:
        named = [f"{each.encoder} in {label}" for each, label in zip(files, labels, strict=True)]
        notes.append(f"The encoders are not the same: {'; '.join(named)}.")
    if len({len(each.seeds) for each in files}) > 1:
        counts = [f"{len(f.seeds)} in {label}" for f, label in zip(files, labels, strict=True)]
        notes.append(f"The numbers of seeds are not the same: {'; '.join(counts)}.")
    if files[0].fpr95 != ID_POSITIVE:
        notes.append(f"FPR95 of {labels[0]} is OOD positive, OpenOOD's, and not the papers'.")
    notes.append(
        "Intervals of two methods that overlap do not show that the methods are alike: 'negrefine "
        "evaluate --baseline' measures the difference on the same images."
    )
    return notes


def _rows(files: Sequence[Submission], sets: Sequence[str], marks: Sequence[Mark]) -> list[Row]:
    measured: list[tuple[int, str, dict[str, Result]]] = []
    for file, each in enumerate(files):
        by_method: dict[str, dict[str, Result]] = {}
        for result in each.results:
            by_method.setdefault(result.method, {})[result.ood_set] = result
        measured += [(file, method, found) for method, found in by_method.items()]

    def numbers(file: int, name: str, metric: str) -> tuple[int, ...]:
        return tuple(
            mark.number
            for mark in marks
            if mark.file == file and metric in mark.metrics and (not mark.sets or name in mark.sets)
        )

    best: dict[tuple[str, str], float] = {}
    for file, _, found in measured:
        for name, result in found.items():
            for metric in SHOWN:
                if numbers(file, name, metric.name):
                    continue
                shown = round(100 * getattr(result, metric.name).value, 2)
                key, choose = (name, metric.name), max if metric.larger_is_better else min
                best[key] = choose(best.get(key, shown), shown)
    rows = []
    for file, method, found in measured:
        cells: dict[str, tuple[MarkedCell, ...]] = {}
        for name in sets:
            if name not in found:
                continue
            marked = []
            for metric in SHOWN:
                value = getattr(found[name], metric.name)
                signs = numbers(file, name, metric.name)
                is_best = not signs and round(100 * value.value, 2) == best[name, metric.name]
                marked.append(MarkedCell(Cell(value, is_best), signs))
            cells[name] = tuple(marked)
        rows.append(Row(file, method, files[file].titles.get(method, method), cells))
    return rows
