"""One self-contained HTML file about an evaluation: `write_report`."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from negrefine.detectors.base import Detector
from negrefine.detectors.loading import load_detector
from negrefine.encoders.clip import CLIPEncoder
from negrefine.errors import BundleError, EncoderError, InputError
from negrefine.evaluation.results import Evaluation, SetScores
from negrefine.files import write_text
from negrefine.report import figures, report_tables
from negrefine.report.curves import (
    Scores,
    class_aurocs,
    group_aurocs,
    id_threshold,
    operating_point,
    shared_bins,
)
from negrefine.report.mistakes import Mistake, find_mistakes, first_seed, with_picture
from negrefine.report.removed_labels import MinedLabels, mined_labels
from negrefine.report.report_tables import display_name, main_method, percent

MAX_REMOVED, MAX_ERRORS, MAX_PARTS = 1000, 200, 2000
"""Rows of the longest lists; the report says how many are left out."""

# Neither HTML nor a reader can do anything with control characters and halves of letters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class PartTable:
    """AUROC of parts of a set, classes or folders, the main method's worst first.

    Attributes:
        kind: "Class" or "Folder".
        methods: Captions of the columns.
        rows: Name, number of images, AUROC of each method in percent, accuracy in percent or "".
        mean: The plain mean over the rows, of each method.
        left_out: Rows beyond `MAX_PARTS`.
    """

    kind: str
    methods: list[str]
    rows: list[tuple[str, int, list[str], str]]
    mean: list[str]
    left_out: int


def check_report_packages() -> None:
    """Raise InputError unless the packages of the extra `report` are installed."""
    try:
        for name in ("jinja2", "matplotlib.figure"):
            import_module(name)
    except ImportError as error:
        raise InputError(
            "The HTML report needs matplotlib and Jinja2: pip install 'negrefine[report]'."
        ) from error


def write_report(
    evaluation: Evaluation,
    target: Path,
    *,
    encoder: CLIPEncoder | None = None,
    n_mistakes: int = 12,
) -> Path:
    """Write an evaluation as one HTML file that loads nothing else, atomically.

    The same inputs give the same bytes. Figures, mistakes and AUROC of classes and folders are of
    each method's first seed.

    Args:
        evaluation: From `evaluate` or `load_evaluation`.
        target: The file; one that exists is replaced.
        encoder: What the detectors were fitted with, to explain the mistakes; None leaves the
            explanations out.
        n_mistakes: How many images to show on each side.

    Returns:
        `target`.

    Raises:
        InputError: The extra `report` is not installed, the file cannot be written, or
            `n_mistakes` is negative.
    """
    check_report_packages()
    if n_mistakes < 0:
        raise InputError(f"n_mistakes must be 0 or more, not {n_mistakes}.")
    text = _render(_context(evaluation, encoder, n_mistakes))
    write_text(target, _UNPRINTABLE.sub("\ufffd", text))
    return target


def _context(evaluation: Evaluation, encoder: CLIPEncoder | None, n: int) -> dict[str, Any]:
    method = main_method(evaluation)
    threshold = id_threshold(_finite(evaluation.id_set, method))
    detector, problem = _load(evaluation, method, encoder, threshold)
    sides = [
        ("ood", evaluation.ood_sets, True),
        ("id", [evaluation.id_set], False),
    ]
    galleries = {
        side: [
            with_picture(mistake, evaluation.directory, detector)
            for mistake in find_mistakes(evaluation, method, sets, threshold, n, highest=highest)
        ]
        for side, sets, highest in sides
    }
    return {
        "title": evaluation.title or "Out-of-distribution evaluation",
        "evaluation": evaluation,
        "summary": report_tables.summary(evaluation),
        "sets": [_set_row(scores) for scores in (evaluation.id_set, *evaluation.ood_sets)],
        "accuracy": None
        if evaluation.accuracy is None
        else report_tables.cell(evaluation.accuracy),
        "results": _tables(evaluation.results),
        "ablation": _tables(evaluation.ablation),
        **_figures(evaluation, method),
        "classes": _class_table(evaluation, method),
        "folders": [
            (scores.name, table)
            for scores in evaluation.ood_sets
            if (table := _folder_table(evaluation, scores, method)) is not None
        ],
        "method": display_name(method),
        "threshold": threshold,
        "galleries": galleries,
        "explanation_problem": problem,
        "labels": _labels(evaluation),
        "errors": _errors(evaluation),
        "settings": list(_flat(evaluation.settings)),
        "max_removed": MAX_REMOVED,
        "max_errors": MAX_ERRORS,
        "first_rows": 10,
    }


def _tables(results: Sequence[Any]) -> list[Any]:
    """Return the table of AUROC and FPR95 and that of AUPR, none without results."""
    tables = [
        report_tables.result_table(results, metrics)
        for metrics in (report_tables.AUROC_FPR, report_tables.AUPR)
    ]
    return [table for table in tables if table is not None]


def _set_row(scores: SetScores) -> dict[str, Any]:
    n_folders = len(set(scores.groups))
    return {
        "name": scores.name,
        "images": len(scores.paths),
        "unreadable": int((~scores.readable).sum()),
        "folders": n_folders if n_folders > 1 else 0,
    }


def _finite(scores: SetScores, method: str) -> Scores:
    values = first_seed(scores, method)
    return np.asarray(values[np.isfinite(values)], dtype=np.float64)


# ---------------------------------------------------------------------------------- figures


def _figures(evaluation: Evaluation, main: str) -> dict[str, Any]:
    methods = [main, *(method for method in evaluation.methods if method != main)]
    id_scores = {method: _finite(evaluation.id_set, method) for method in methods}
    ood_scores = {scores.name: _each(scores, methods) for scores in evaluation.ood_sets}
    styles = figures.line_styles(evaluation.methods, main)
    names = {method: display_name(method) for method in methods}
    rocs = [
        {
            "name": name,
            "svg": figures.roc_figure(
                id_scores, found, styles, names, ood_name=name, key=f"roc{i}"
            ),
        }
        for i, (name, found) in enumerate(ood_scores.items())
    ]
    return {
        "rocs": rocs,
        "legend": [(names[method], styles[method]) for method in methods],
        "histograms": [
            (
                names[method],
                [
                    _histogram(
                        id_scores[method],
                        found[method],
                        shared_bins([id_scores[method], *(s[method] for s in ood_scores.values())]),
                        names[method],
                        name,
                        key=f"histogram{m}x{i}",
                    )
                    for i, (name, found) in enumerate(ood_scores.items())
                ],
            )
            for m, method in enumerate(methods)
        ],
        "id_colour": figures.ID_COLOUR,
        "ood_colour": figures.OOD_COLOUR,
        "ink": figures.INK,
    }


def _each(scores: SetScores, methods: Sequence[str]) -> dict[str, Scores]:
    return {method: _finite(scores, method) for method in methods}


def _histogram(
    id_scores: Scores, ood_scores: Scores, edges: Scores, method: str, name: str, *, key: str
) -> dict[str, Any]:
    svg = figures.histogram_figure(
        id_scores, ood_scores, edges, name=method, ood_name=name, key=key
    )
    return {"name": name, "svg": svg, "point": operating_point(id_scores, ood_scores)}


# ------------------------------------------------------------------------- classes and folders


def _class_table(evaluation: Evaluation, main: str) -> PartTable | None:
    """Return the AUROC of each class's ID images against the images of all OOD sets."""
    scores = evaluation.id_set
    methods = [main, *(method for method in evaluation.methods if method != main)]
    readable = np.isfinite(first_seed(scores, main))
    labels = scores.labels[readable]
    if not (labels >= 0).any():
        return None
    right = scores.predictions[readable] == labels
    columns = [
        class_aurocs(
            _finite(scores, method),
            labels,
            np.concatenate([_finite(ood_set, method) for ood_set in evaluation.ood_sets]),
        )
        for method in methods
    ]
    accuracy = [
        percent(float(right[labels == i].mean())) if (labels == i).any() else ""
        for i in range(len(columns[0]))
    ]
    counts = np.bincount(labels[labels >= 0])
    return _part_table("Class", evaluation.class_names, methods, columns, counts, accuracy)


def _folder_table(evaluation: Evaluation, scores: SetScores, main: str) -> PartTable | None:
    """Return the AUROC of all ID images against each folder of an OOD set."""
    methods = [main, *(method for method in evaluation.methods if method != main)]
    readable = np.isfinite(first_seed(scores, main))
    groups = np.array(scores.groups, dtype=object)[readable]
    names, numbers = np.unique(groups.astype(str), return_inverse=True)
    if len(names) < 2:
        return None
    columns = [
        group_aurocs(
            _finite(evaluation.id_set, method), _finite(scores, method), numbers.astype(np.int64)
        )
        for method in methods
    ]
    shown = [str(name) or "(no folder)" for name in names]
    return _part_table("Folder", shown, methods, columns, np.bincount(numbers))


def _part_table(
    kind: str,
    names: Sequence[str],
    methods: Sequence[str],
    columns: Sequence[Scores],
    counts: np.ndarray[Any, np.dtype[np.int64]],
    accuracy: Sequence[str] = (),
) -> PartTable:
    order = np.argsort(columns[0], kind="stable")
    order = order[np.isfinite(columns[0][order])]
    rows = [
        (
            names[i],
            int(counts[i]),
            [percent(float(column[i])) for column in columns],
            accuracy[i] if accuracy else "",
        )
        for i in order.tolist()
    ]
    mean = [percent(float(column[order].mean())) for column in columns]
    captions = [display_name(method) for method in methods]
    return PartTable(kind, captions, rows[:MAX_PARTS], mean, max(0, len(rows) - MAX_PARTS))


# --------------------------------------------------------------- mistakes, labels, errors, settings


def _load(
    evaluation: Evaluation, method: str, encoder: CLIPEncoder | None, threshold: float
) -> tuple[Detector | None, str]:
    """Return the detector with the report's threshold, or None and the reason."""
    if encoder is None:
        return None, "The mistakes are not explained: no encoder was given to write_report."
    if method not in evaluation.detectors:
        return None, "The mistakes are not explained: the detector was not saved."
    try:
        detector = load_detector(evaluation.detectors[method], encoder)
    except (BundleError, EncoderError) as error:
        return None, f"The mistakes are not explained: {error}"
    detector.offset_ = threshold
    return detector, ""


def _labels(evaluation: Evaluation) -> list[tuple[str, MinedLabels]]:
    found = [
        (display_name(method), mined_labels(evaluation.detectors[method]))
        for method in evaluation.methods
        if method in evaluation.detectors
    ]
    return [(name, labels) for name, labels in found if labels is not None]


def _errors(evaluation: Evaluation) -> list[tuple[str, str, str]]:
    return [
        (scores.name, path, error)
        for scores in (evaluation.id_set, *evaluation.ood_sets)
        for path, error in zip(scores.paths, scores.errors, strict=True)
        if error is not None
    ]


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested settings as one list of dotted names and texts."""
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            rows += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, str):
            rows.append((f"{prefix}{name}", value))
        else:
            text = json.dumps(value, ensure_ascii=False, default=str)
            rows.append((f"{prefix}{name}", text))
    return rows


# ---------------------------------------------------------------------------------- the page


def _render(context: Mapping[str, Any]) -> str:
    from jinja2 import DictLoader, Environment, StrictUndefined
    from markupsafe import Markup

    folder = files("negrefine.report")
    style = (folder / "page.css").read_text(encoding="utf-8") + _dark_plots()
    digest = base64.b64encode(hashlib.sha256(style.encode("utf-8")).digest()).decode("ascii")
    template = (folder / "page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(
        loader=DictLoader({"report": template}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["shown"] = display_name
    environment.filters["details"] = _details
    environment.filters["drawing"] = Markup
    return str(
        environment.get_template("report").render(
            **context,
            style=Markup(style),  # noqa: S704 - our own file
            style_digest=digest,
        )
    )


def _dark_plots() -> str:
    """Return the rules that give drawings their colours on black."""
    rules = "".join(
        f"svg [{side}={json.dumps(light)}]{{{side}:{dark}}}\n"
        for light, dark in figures.DARK.items()
        for side in ("fill", "stroke")
    )
    return f"@media screen and (prefers-color-scheme: dark) {{\n{rules}}}\n"


def _details(mistake: Mistake) -> list[str]:
    """Return sentences about what decided, beside the lists of names."""
    from negrefine.detectors.explanation import verdict_sentences

    explanation = mistake.explanation
    if explanation is None:
        return []
    sentences = verdict_sentences(explanation)
    pair = explanation.pair
    if pair is not None:
        sentences.insert(
            1,
            f"Winning pair: \u201c{pair.text}\u201d {pair.similarity:.3f} against "
            f"\u201c{pair.negative}\u201d alone {pair.negative_similarity:.3f}; S_MM adds "
            f"{pair.added:.3f} to the score.",
        )
    return sentences
