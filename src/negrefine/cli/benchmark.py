"""`negrefine benchmark`: published benchmarks, what is missing of their images, and running one."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

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
from negrefine.cli.options import BatchSize, Device, Dtype
from negrefine.cli.run_detectors import check_methods, fit_ablation, fit_detectors
from negrefine.cli.run_options import (
    Bootstrap,
    LexiconFile,
    Methods,
    MinFrequency,
    Report,
    Resample,
    Seeds,
    parameters_of,
    read_seeds,
    split_list,
)
from negrefine.cli.run_results import check_report, write_results
from negrefine.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from negrefine.benchmarks import Benchmark, Finding
    from negrefine.benchmarks.run import GroupMean

benchmark = typer.Typer(
    name="benchmark",
    help="List the published benchmarks, check what is missing of their images, and run them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Name: TypeAlias = Annotated[
    str, typer.Argument(metavar="NAME", help="As 'negrefine benchmark list' prints it.")
]
Data: TypeAlias = Annotated[
    Path | None, typer.Option(metavar="ROOT", help="Folder that holds the data sets.")
]
Ood: TypeAlias = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="OOD sets instead of the benchmark's, separated by commas."),
]
SetFolders: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--folder", metavar="SET=DIR", help="Where one set lies, if not below ROOT; repeatable."
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON.")]
AllowIncomplete: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--allow-incomplete",
        help="Run on the images that are there; the numbers are then marked as not comparable.",
    ),
]


class NameChoice(str, Enum):
    """Which class names."""

    CORRECT = "correct"
    OFFICIAL = "official"


@benchmark.command("list")
def list_all(as_json: AsJson = False) -> None:
    """Show all benchmarks and their image sets."""
    from negrefine.benchmarks import (
        class_list,
        list_benchmarks,
        list_sets,
        load_benchmark,
        load_set,
    )

    benchmarks = [load_benchmark(name) for name in list_benchmarks()]
    sets = [load_set(name) for name in list_sets()]
    if as_json:
        content = {
            "benchmarks": [
                {
                    "name": each.name,
                    "title": each.title,
                    "id_set": each.id_set.name,
                    "ood_sets": [other.name for other in each.ood_sets],
                    "notes": each.notes,
                }
                for each in benchmarks
            ],
            "sets": [asdict(each) for each in sets],
        }
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(title="Benchmarks")
    for column in ("name", "in-distribution", "classes", "against"):
        table.add_column(column, justify="right" if column == "classes" else "left")
    for each in benchmarks:
        table.add_row(
            each.name,
            each.id_set.title,
            str(len(class_list(each.id_set.classes or ""))),
            ", ".join(
                other.title + ("*" if other.contamination else "") for other in each.ood_sets
            ),
        )
    console.print(table)
    table = Table(title="Image sets", caption="* contaminated with images of ImageNet-1K classes")
    for column in ("name", "images", "licence or terms"):
        table.add_column(column, justify="right" if column == "images" else "left")
    for image_set in sets:
        table.add_row(
            image_set.name + ("*" if image_set.contamination else ""),
            "" if image_set.images is None else f"{image_set.images:,}",
            image_set.license,
        )
    console.print(table)
    typer.echo("'negrefine benchmark check NAME --data ROOT' says what is missing and where to go.")


@benchmark.command("check")
def check_data(
    name: Name,
    data: Data = None,
    ood: Ood = None,
    folder: SetFolders = None,
    as_json: AsJson = False,
) -> None:
    """Say what is missing of a benchmark's images: exit code 0 if nothing is, 1 otherwise."""
    from negrefine.benchmarks import check

    chosen = choose(name, ood)
    findings = check(chosen, data, read_folders(folder))
    if as_json:
        content = [finding.as_dict() for finding in findings]
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        show_findings(chosen, findings)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@benchmark.command("run")
def run(
    name: Name,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write the results.")],
    encoder: Annotated[str, typer.Option(metavar="ID_OR_DIR", help="As for 'negrefine fit'.")],
    data: Data = None,
    methods: Methods = "mcm,glmcm,neglabel,csp,negrefine",
    names: Annotated[
        NameChoice,
        typer.Option(
            help="'official' takes the class names of the published code, flaws included."
        ),
    ] = NameChoice.CORRECT,
    classes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Class names instead, one a line, in the same order."),
    ] = None,
    ood: Ood = None,
    folder: SetFolders = None,
    allow_incomplete: AllowIncomplete = False,
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Also NegRefine's ablation.")
    ] = False,
    seeds: Seeds = "0",
    bootstrap: Bootstrap = 1000,
    judge: JudgeName = None,
    lexicon: LexiconFile = None,
    min_frequency: MinFrequency = 0,
    resample: Resample = None,
    judge_url: JudgeUrl = None,
    judge_key: JudgeKey = "OPENAI_API_KEY",
    concurrency: Concurrency = 16,
    judge_mode: Mode = JudgeMode.PROBABILITY,
    answers: Answers = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_size: BatchSize = 64,
    report: Report = None,
) -> None:
    """Check a benchmark's images, then evaluate methods on it, encoding each image once."""
    from negrefine.benchmarks.run import benchmark_class_names, make_ready, run_benchmark
    from negrefine.evaluation.experiment import check_evaluation
    from negrefine.labels.class_names import read_class_names

    with_report = check_report(report)
    chosen = choose(name, ood)
    listed = split_list("methods", methods)
    check_methods(listed, ablation=ablation)
    numbers = read_seeds(seeds)
    if classes is not None and names is NameChoice.OFFICIAL:
        raise InputError("--names official means nothing with --classes: leave one of them out.")
    class_names = benchmark_class_names(
        chosen, names.value, read_class_names(classes) if classes else None
    )
    ready = make_ready(
        chosen, data, folders=read_folders(folder), allow_incomplete=allow_incomplete
    )
    check_evaluation(out, ready.ood_names, numbers)
    warn(ready.warnings)
    parameters = parameters_of(
        listed,
        judge=parse_judge(
            judge,
            url=judge_url,
            key=judge_key,
            concurrency=concurrency,
            mode=judge_mode,
            answers=answers,
            device=device,
        ),
        lexicon=lexicon,
        min_frequency=min_frequency,
    )

    from rich.console import Console

    from negrefine.encoders import load_encoder

    loaded = load_encoder(encoder, device=device, dtype=dtype, resample=resample)
    published = {method: chosen.parameters(method) for method in listed}
    detectors = fit_detectors(
        loaded, class_names, listed, {m: published[m] | parameters.get(m, {}) for m in listed}
    )
    finished = run_benchmark(
        ready,
        detectors,
        out=out,
        ablation=fit_ablation(detectors) if ablation else None,
        seeds=numbers,
        n_bootstrap=bootstrap,
        batch_size=batch_size,
        progress=True,
    )
    if finished.group_means:
        Console(highlight=False).print(_group_table(finished.group_means))
    write_results(finished.evaluation, loaded, report=with_report)


def warn(warnings: list[str]) -> None:
    """Print warnings to standard error."""
    for warning in warnings:
        typer.echo(f"negrefine: warning: {warning}", err=True)


def _group_table(rows: list[GroupMean]) -> Table:
    from rich.table import Table

    table = Table(
        title="Means over the classes of an OOD set (percent)",
        caption="As the set's authors report it; the tables above pool all images.",
    )
    for column in ("method", "set", "classes", "AUROC", "FPR95"):
        table.add_column(column, justify="left" if column in {"method", "set"} else "right")
    for row in rows:
        table.add_row(
            row.method,
            row.ood_set,
            str(row.n_groups),
            f"{100 * row.auroc:.2f}",
            f"{100 * row.fpr95:.2f}",
        )
    return table


def choose(name: str, ood: str | None) -> Benchmark:
    """Return what NAME and --ood mean."""
    from negrefine.benchmarks import load_benchmark

    chosen = load_benchmark(name)
    if ood is None:
        return chosen
    return chosen.with_ood([part.strip() for part in ood.split(",") if part.strip()])


def read_folders(texts: list[str] | None) -> dict[str, Path]:
    """Return what --folder means.

    Raises:
        InputError: Not SET=DIR.
    """
    folders: dict[str, Path] = {}
    for text in texts or []:
        name, _, folder = text.partition("=")
        if not name or not folder or name in folders:
            raise InputError(f"--folder takes SET=DIR with a new SET each time, not {text!r}.")
        folders[name] = Path(folder)
    return folders


def show_findings(chosen: Benchmark, findings: list[Finding]) -> None:
    """Print a table of all sets, then what to do about those that are not complete."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{chosen.name}: {chosen.title}")
    for column in ("set", "state", "images", "published", "folder"):
        right = column in {"images", "published"}
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for image_set, finding in zip(chosen.sets, findings, strict=True):
        table.add_row(
            image_set.title,
            finding.status,
            f"{finding.found:,}",
            "" if finding.expected is None else f"{finding.expected:,}",
            "" if finding.folder is None else str(finding.folder),
        )
    Console(highlight=False).print(table)
    for finding in findings:
        if not finding.ok:
            typer.echo(f"- {finding.problem}\n  {finding.remedy}")
    for image_set in chosen.sets:
        if image_set.contamination:
            typer.echo(f"Note: {image_set.title}: {image_set.contamination}")
    for note in chosen.notes:
        typer.echo(f"Note: {note}")
