"""`negrefine benchmark`: published benchmarks, what is missing of their images, and running one."""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from negrefine.cli.bundles import option
from negrefine.cli.groups import CommandGroup
from negrefine.cli.options import (
    ABLATION,
    ALLOW_INCOMPLETE,
    AS_JSON,
    CLASSES_HELP,
    CLASSES_METAVAR,
    UNDERSCORES_AS_SPACES,
    ClassOptions,
    EncoderOptions,
    ImageFolders,
    split_list,
)
from negrefine.cli.output import print_json, print_table, say, warn
from negrefine.cli.runs import RunOptions
from negrefine.errors import InputError

if TYPE_CHECKING:
    from rich.text import Text

    from negrefine.benchmarks import Benchmark, Finding

benchmark = CommandGroup(
    "benchmark",
    "List the published benchmarks, check what is missing of their images, and run them.",
)

_NAME = typer.Argument(metavar="NAME", help="As 'negrefine benchmark list' prints it.")
_OOD = option(None, "OOD sets instead of the benchmark's, separated by commas.", "LIST")
NameChoice = Enum("NameChoice", {"CORRECT": "correct", "OFFICIAL": "official"}, type=str)


def list_all(as_json: bool = AS_JSON) -> None:
    """Show all benchmarks and their image sets."""
    from negrefine import benchmarks as catalogue

    benchmarks = [catalogue.load_benchmark(name) for name in catalogue.list_benchmarks()]
    sets = [catalogue.load_set(name) for name in catalogue.list_sets()]
    if as_json:
        content = [
            {
                "name": each.name,
                "title": each.title,
                "id_set": each.id_set.name,
                "ood_sets": [other.name for other in each.ood_sets],
                "notes": each.notes,
            }
            for each in benchmarks
        ]
        print_json({"benchmarks": content, "sets": [asdict(each) for each in sets]})
        return
    stars = {each.name: "*" if each.contamination else "" for each in sets}
    print_table(
        ["name", "in-distribution", "classes", "against"],
        [
            (
                each.name,
                _in_distribution(each),
                str(len(catalogue.class_list(each.id_set.classes or ""))),
                ", ".join(other.title + stars[other.name] for other in each.ood_sets),
            )
            for each in benchmarks
        ],
        title="Benchmarks",
    )
    print_table(
        ["name", "images", "licence or terms"],
        [(each.name + stars[each.name], _count(each.images), each.license) for each in sets],
        title="Image sets",
        caption="* contaminated with images of ImageNet-1K classes",
    )
    say("'negrefine benchmark check NAME --data ROOT' says what is missing and where to go.")


def check_data(
    *, name: str = _NAME, folders: ImageFolders, ood: str | None = _OOD, as_json: bool = AS_JSON
) -> None:
    """Say what is missing of a benchmark's images: exit code 0 if nothing is, 1 otherwise."""
    from negrefine.benchmarks import check

    chosen = _choose(name, ood)
    findings = check(chosen, folders.data, folders.by_set())
    if as_json:
        print_json([finding.as_dict() for finding in findings])
    else:
        _show_findings(chosen, findings)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def run_benchmark(
    *,
    name: str = _NAME,
    out: Path = option(..., "Where to write the results.", "DIR"),
    new: EncoderOptions,
    folders: ImageFolders,
    allow_incomplete: bool = ALLOW_INCOMPLETE,
    names: NameChoice = option(
        NameChoice.CORRECT,
        "'official' takes the class names of the published code, flaws included.",
    ),
    classes: str | None = option(None, CLASSES_HELP, CLASSES_METAVAR),
    underscores_as_spaces: bool = UNDERSCORES_AS_SPACES,
    ood: str | None = _OOD,
    ablation: bool = ABLATION,
    options: RunOptions,
) -> None:
    """Check a benchmark's images, then evaluate methods on it, encoding each image once.

    --classes gives other class names than the benchmark's, in the order of its classes.
    """
    from negrefine.benchmarks import run as runs
    from negrefine.evaluation.experiment import check_evaluation
    from negrefine.evaluation.tables import percent

    chosen = _choose(name, ood)
    if classes is not None and names is NameChoice.OFFICIAL:
        raise InputError("--names official has no effect with --classes: leave one of them out.")
    given_names = _other_names(classes, underscores_as_spaces=underscores_as_spaces)
    class_names = runs.benchmark_class_names(chosen, names.value, given_names)
    run = options.prepare(new.device, ablation=ablation)
    ready = runs.make_ready(
        chosen, folders.data, folders=folders.by_set(), allow_incomplete=allow_incomplete
    )
    check_evaluation(out, ready.ood_names, run.seeds)
    warn(*ready.warnings)
    encoder = new.load()
    evaluation, means = run.evaluate(
        encoder, class_names, out, partial(runs.run_benchmark, ready), chosen.parameters
    )
    if means:
        print_table(
            ["method", "set", "classes", "AUROC", "FPR95"],
            [
                (m.method, m.ood_set, str(m.n_groups), percent(m.auroc), percent(m.fpr95))
                for m in means
            ],
            title="Means over the classes of an OOD set (percent)",
            caption="As the set's authors report it; the tables below pool all images. FPR95 is "
            "in-distribution positive, as in the papers.",
        )
    run.write_results(evaluation, encoder)


def _other_names(classes: str | None, *, underscores_as_spaces: bool) -> list[str] | None:
    if classes is not None:
        return ClassOptions(classes=classes, underscores_as_spaces=underscores_as_spaces).read()
    if underscores_as_spaces:
        raise InputError("--underscores-as-spaces has no effect without --classes: leave it out.")
    return None


def _choose(name: str, ood: str | None) -> Benchmark:
    from negrefine.benchmarks import load_benchmark

    chosen = load_benchmark(name)
    return chosen if ood is None else chosen.with_ood(split_list("--ood", ood))


def _show_findings(chosen: Benchmark, findings: list[Finding]) -> None:
    """Print a table of all sets, then what to do about those that are not complete."""
    print_table(
        ["set", "state", "images", "published", "folder"],
        [
            (s.title, f.status, _count(f.found), _count(f.expected), str(f.folder or ""))
            for s, f in zip(chosen.sets, findings, strict=True)
        ],
        title=f"{chosen.name}: {chosen.title}",
    )
    for finding in findings:
        if not finding.ok:
            say(f"- {finding.problem}", f"  {finding.remedy}")
    for image_set in chosen.sets:
        if image_set.contamination:
            say(f"Note: {image_set.title}: {image_set.contamination}")
    for note in chosen.notes:
        say(f"Note: {note}")


def _in_distribution(chosen: Benchmark) -> Text:
    """Return the in-distribution sets in lines that leave room for the name of the benchmark."""
    from rich.text import Text

    lines = [chosen.id_set.title.replace(" (", "\n(")]
    if chosen.further_id:
        lines.append(f"and {len(chosen.further_id)} more")
    return Text("\n".join(lines))


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


benchmark.add(list_all, "list")
benchmark.add(check_data, "check")
benchmark.add(run_benchmark, "run")
