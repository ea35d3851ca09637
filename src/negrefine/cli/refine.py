"""`negrefine refine`: another filter for a fitted detector, without mining again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from negrefine.cli.judges import (
    Answers,
    Concurrency,
    JudgeKey,
    JudgeMode,
    JudgeName,
    JudgeUrl,
    Mode,
    parse_judge,
)
from negrefine.cli.options import DetectorDir, Device, Dtype, EncoderName
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.detectors import NegRefine


def refine(
    detector_dir: DetectorDir,
    judge: JudgeName = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DETECTOR_DIR", help="Where to save it; default: in its place."),
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Words the filter must not remove.")
    ] = None,
    drop: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Words to remove without asking.")
    ] = None,
    n_candidates: Annotated[
        int | None, typer.Option(help="Class names to ask about for each label.")
    ] = None,
    wordnet_candidates: Annotated[
        bool,
        typer.Option(
            "--wordnet-candidates",
            help="Also ask about class names among a label's WordNet hypernyms or in its gloss.",
        ),
    ] = False,
    names_per_question: Annotated[
        int,
        typer.Option(
            min=1,
            help="Ask about so many class names at once, one by one only where the answer is not "
            "no; fewer questions, but a model may answer differently.",
        ),
    ] = 1,
    judge_url: JudgeUrl = None,
    judge_key: JudgeKey = "OPENAI_API_KEY",
    concurrency: Concurrency = 16,
    judge_mode: Mode = JudgeMode.PROBABILITY,
    answers: Answers = None,
    encoder: EncoderName = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Filter the mined labels of a NegRefine detector again, with another judge or other lists.

    A run that was stopped goes on where it was: answers of language models are stored as they
    arrive. The threshold is dropped, because scores change.
    """
    chosen = parse_judge(
        judge,
        url=judge_url,
        key=judge_key,
        concurrency=concurrency,
        mode=judge_mode,
        answers=answers,
        device=device,
    )
    from negrefine.detectors import NegRefine, load_detector
    from negrefine.detectors.bundle import check_target
    from negrefine.labels.class_names import read_class_names

    target = out or detector_dir
    if out is not None:
        check_target(out)
    detector = load_detector(detector_dir, encoder, device=device, dtype=dtype)
    if not isinstance(detector, NegRefine):
        raise InputError(
            f"{str(detector_dir)!r} holds a {detector.method!r} detector: only 'negrefine' has "
            "a filter."
        )
    parameters: dict[str, Any] = {} if n_candidates is None else {"n_candidates": n_candidates}
    refined = detector.with_filter(
        chosen,
        keep=read_class_names(keep) if keep else (),
        drop=read_class_names(drop) if drop else (),
        wordnet_candidates=wordnet_candidates,
        names_per_question=names_per_question,
        progress=True,
        **parameters,
    )
    refined.save(target)
    show_summary(refined)
    had = "" if detector.offset_ is None else " Its threshold is gone: calibrate it again."
    typer.echo(f"Saved {refined.method} to {target}.{had}")


def show_summary(detector: NegRefine) -> None:
    """Print what the filter did and what it cost as a table on standard error."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title="NegFilter", title_justify="left")
    table.add_column("")
    table.add_column("count", justify="right")
    for name, count in summary(detector).items():
        table.add_row(name, f"{count:,}")
    Console(stderr=True).print(table)


def summary(detector: NegRefine) -> dict[str, int]:
    """Return what the filter did and what it cost, by name, in the order to show it."""
    labels = detector.negative_labels_
    audit = detector.audit_
    rows = {
        "labels kept": sum(label.kept for label in labels),
        "removed as proper nouns": sum(
            not label.kept and label.reason.startswith("proper noun") for label in labels
        ),
        "removed as subcategories": sum(
            not label.kept and label.reason.startswith("subcategory") for label in labels
        ),
        "removed otherwise": sum(
            not label.kept and not label.reason.startswith(("proper noun", "subcategory"))
            for label in labels
        ),
        "questions answered": len(audit),
        "of them undecided": sum(question.yes is None for question in audit),
    }
    usage = getattr(detector.judge, "usage", None)
    if usage is not None:
        rows |= {
            "asked the model": usage.asked,
            "taken from the store": usage.cached,
            "tokens read": usage.prompt_tokens,
            "tokens written": usage.completion_tokens,
        }
    return rows
