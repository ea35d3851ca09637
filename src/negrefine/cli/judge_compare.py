"""`negrefine judge-compare`: several judges on the same labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from negrefine.cli.bundles import option
from negrefine.cli.judge_options import JudgeSettings
from negrefine.cli.options import AS_JSON, BATCH_SIZE, DEVICE, DTYPE, named_folders, pinned_place
from negrefine.cli.output import print_json, print_table, say, warn_builtin, warn_unreadable
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.detectors import NegRefine
    from negrefine.evaluation.judge_comparison import JudgeComparison
    from negrefine.evaluation.judge_scores import JudgeResult
    from negrefine.evaluation.results import Measured
    from negrefine.judges.base import Judge

_KINDS = {"proper_noun": "proper noun", "subcategory": "subcategory"}


def judge_compare(
    judges: list[str] = typer.Argument(
        metavar="JUDGE",
        help="Two or more judges, as for --judge; the others are compared with the first one.",
    ),
    *,
    labels: Path | None = option(
        None, "Judge the mined labels of this NegRefine detector.", "DETECTOR_DIR"
    ),
    log: str | None = option(
        None,
        "Judge the words of an official log, with the class names that it asked about; several "
        "files are separated by commas.",
        "FILE",
    ),
    id_images: list[str] = option(
        [],
        "With --labels: score these in-distribution images with each judge's labels; may be given "
        "several times.",
        "IMAGES",
        name="--id",
    ),
    ood_images: list[str] = option(
        [], "With --id: an OOD set; may be given several times.", "NAME=IMAGES", name="--ood"
    ),
    settings: JudgeSettings,
    examples: int = option(
        20, "Classes and labels to show of those on which judges differ; JSON has all.", min=0
    ),
    as_json: bool = AS_JSON,
    encoder: str | None = option(
        None, "The encoder of the detector, if it moved; default: as saved.", "ID_OR_DIR"
    ),
    batch_size: int = BATCH_SIZE,
    device: str = DEVICE,
    dtype: str = DTYPE,
) -> None:
    """Compare judges on the same labels: agreement, labels that flip, and what that does to scores.

    Every question that the filter asks one judge is put to all of them. Answers of language models
    are stored as they arrive.
    """
    from negrefine.evaluation.judge_comparison import FilterTask, compare_judges
    from negrefine.judges.remembered import RememberedJudge
    from negrefine.judges.replay import ReplayJudge

    _check(judges, labels, log, id_images, ood_images)
    files = _find(id_images, ood_images)
    loaded = settings.load_each(judges, device, said="A JUDGE")
    asked: dict[str, Judge] = {
        text: RememberedJudge(judge) for text, judge in zip(judges, loaded, strict=True)
    }
    results: list[JudgeResult] = []
    if labels is None:
        task = FilterTask.of_log(ReplayJudge(*str(log).split(",")))
        compared = compare_judges(asked, task, progress=True)
    else:
        detector = _load(labels, encoder, device, dtype)
        task = FilterTask.of_detector(detector, progress=True)
        compared = compare_judges(asked, task, progress=True)
        if files:
            results = _score(detector, asked, files, batch_size)
    if as_json:
        content = asdict(compared)
        content["kept"] = {
            name: [each.text for each in of_judge if each.kept]
            for name, of_judge in compared.labels.items()
        }
        del content["labels"]
        print_json({**content, "results": [asdict(result) for result in results]})
        return
    _print(compared, judges, examples)
    if results:
        _print_results(results)


def _check(
    judges: Sequence[str],
    labels: Path | None,
    log: str | None,
    id_images: Sequence[str],
    ood_images: Sequence[str],
) -> None:
    if len(judges) < 2:
        raise InputError("There is nothing to compare: give at least two judges.")
    if len(set(judges)) < len(judges):
        raise InputError(f"A judge is named twice: {', '.join(judges)}.")
    if "none" in judges:
        raise InputError("'none' is no judge that can be asked: leave it out.")
    if (labels is None) == (log is None):
        raise InputError("Give either --labels DETECTOR_DIR or --log FILE: what is to be judged.")
    if bool(id_images) != bool(ood_images):
        raise InputError("Scores need both --id and --ood: give both or neither.")
    if id_images and labels is None:
        raise InputError("--id and --ood have no effect without --labels: a log has no images.")


def _find(id_images: list[str], ood_images: list[str]) -> dict[str, list[Path]]:
    """Return the files of each OOD set, and of the in-distribution set as ""; {} without images."""
    if not id_images:
        return {}
    from negrefine.encoders import find_images
    from negrefine.evaluation.overlap import check_apart

    outside = {n: find_images([f]) for n, f in named_folders("--ood", ood_images).items()}
    inside = find_images(id_images)
    check_apart(inside, outside)
    return {"": inside, **outside}


def _load(directory: Path, encoder: str | None, device: str, dtype: str) -> NegRefine:
    from negrefine.detectors import NegRefine, load_detector

    detector = load_detector(pinned_place(directory), encoder, device=device, dtype=dtype)
    if not isinstance(detector, NegRefine):
        raise InputError(
            f"{str(directory)!r} holds a {detector.method!r} detector: only {NegRefine.method!r} "
            "has a filter."
        )
    return detector


def _score(
    detector: NegRefine,
    judges: dict[str, Judge],
    files: dict[str, list[Path]],
    batch_size: int,
) -> list[JudgeResult]:
    from negrefine.evaluation.images import encode_readable
    from negrefine.evaluation.judge_scores import compare_judge_scores

    warn_builtin(detector.encoder, [path for paths in files.values() for path in paths])
    features = {}
    for name, paths in files.items():
        shown = name or "in-distribution"
        features[name], errors = encode_readable(
            detector.encoder,
            paths,
            description=f"Encoding {shown}",
            batch_size=batch_size,
            progress=True,
        )
        warn_unreadable(errors, len(paths), shown)
    inside = features.pop("")
    return compare_judge_scores(detector, judges, inside, features, progress=True)


def _print(compared: JudgeComparison, judges: Sequence[str], examples: int) -> None:
    from negrefine.labels.negatives import removal_counts

    rows = []
    for name, labels in compared.labels.items():
        counts = removal_counts(labels)
        nouns = counts.pop("proper noun", 0)
        subcategories = counts.pop("subcategory of a class", 0)
        kept = sum(label.kept for label in labels)
        numbers = (kept, nouns, subcategories, sum(counts.values()))
        rows.append([name, *(f"{number:,}" for number in numbers)])
    columns = ["judge", "kept", "proper nouns", "subcategories", "otherwise"]
    print_table(columns, rows, title="Labels kept and removed")
    print_table(
        [
            *("question", "first", "second", "both decide", "agree", "kappa (95 %)"),
            *("both yes", "first only", "second only", "undecided"),
        ],
        [
            [
                _KINDS[each.kind],
                each.first,
                each.second,
                f"{each.n:,}",
                "-" if each.agreed is None else f"{100 * each.agreed:.2f} %",
                _kappa(each.kappa, each.low, each.high),
                f"{each.both_yes:,}",
                f"{each.first_only:,}",
                f"{each.second_only:,}",
                f"{each.undecided:,}",
            ]
            for each in compared.agreements
        ],
        title="Agreement",
    )
    print_table(
        ["judge", "question", "says", "questions", "labels removed", "labels kept"],
        [
            [
                each.judge,
                _KINDS[each.kind],
                "yes" if each.says_yes else "not yes",
                *(f"{number:,}" for number in (each.n_questions, each.removed, each.kept)),
            ]
            for each in compared.effects
        ],
        title=f"What each kind of disagreement with {judges[0]} does by itself",
    )
    classes = compared.classes[:examples]
    if classes:
        print_table(
            ["class name", "judge", "questions", "both yes", "first only", "judge only"],
            [
                [
                    each.class_name,
                    each.judge,
                    *(str(n) for n in (each.n, each.both_yes, each.first_only, each.other_only)),
                ]
                for each in classes
            ],
            title=f"Classes, those with most disagreements ({len(classes)} of "
            f"{len(compared.classes)})",
        )
    flips = compared.flips[:examples]
    if flips:
        print_table(
            ["label", *judges],
            [[flip.text, *(flip.reasons[name] or "kept" for name in judges)] for flip in flips],
            title=f"Labels that not all judges keep ({len(flips)} of {len(compared.flips)})",
        )
    else:
        n = len(compared.flips)
        say(f"{n} labels are not kept by all judges." if n else "All judges keep the same labels.")


def _print_results(results: Sequence[JudgeResult]) -> None:
    rows = []
    for each in sorted(results, key=lambda result: result.ood_set):
        change = "" if each.score_change is None else f"{each.score_change:.4f}"
        cells = [_interval(m) for m in (each.auroc, each.fpr95, each.auroc_change)]
        rows.append([each.ood_set, each.judge, f"{each.n_labels:,}", *cells, change])
    print_table(
        ["OOD set", "judge", "labels", "AUROC", "FPR95", "AUROC change", "score change"],
        rows,
        title="Scores, in percent with 95 % intervals over images; changes from the first judge",
    )


def _interval(measured: Measured | None) -> str:
    if measured is None:
        return ""
    value = f"{100 * measured.value:.2f}"
    if measured.low is None or measured.high is None:
        return value
    return f"{value} [{100 * measured.low:.2f}, {100 * measured.high:.2f}]"


def _kappa(kappa: float | None, low: float | None, high: float | None) -> str:
    if kappa is None:
        return "-"
    return f"{kappa:.3f}" if low is None or high is None else f"{kappa:.3f} [{low:.3f}, {high:.3f}]"
