"""`negrefine reproduce --plan`: what the paper's tables need."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from negrefine.cli.options import ImageFolders
from negrefine.cli.output import print_table, say
from negrefine.cli.stream_options import seed_numbers

if TYPE_CHECKING:
    from negrefine.benchmarks import Finding
    from negrefine.benchmarks.needs import Needs, SetNeed

CONTAMINATED = ("sun", "places", "textures")
"""Sets that serve the numbers of seed 0 alone, and are left out where they are not there."""


def print_plan(tables: Sequence[str], folders: ImageFolders, seeds: str | None) -> None:
    """Print it; with a data folder, also what is missing there."""
    from negrefine.benchmarks import check, load_benchmark
    from negrefine.benchmarks.needs import facts, needs

    benchmark = load_benchmark("imagenet-1k")
    if "seed0" in tables:
        names = [dataset.name for dataset in benchmark.ood_sets]
        benchmark = benchmark.with_ood([*names, *CONTAMINATED])
    findings: list[Finding] = []
    if folders.data is not None or folders.folder:
        findings = check(benchmark, folders.data, folders.by_set())
    n_seeds = 10 if seeds is None else len(seed_numbers("--seeds", seeds))
    found = needs(benchmark.sets, findings, n_seeds)
    known = facts()
    say(f"What the tables {', '.join(tables)} of the NegRefine paper need ({_seeds(n_seeds)}):", "")
    weights = known["weights"]
    say(
        f"1. Weights: {weights['title']}, {weights['gigabytes']} GB ({weights['basis']}).",
        f"   From {weights['source']}.",
        "   Not needed, and nearer to the published run:",
    )
    for each in known["optional"]:
        say(f"   - {each['title']}: {each['source']}. Without: {each['without']}.")
    say("", "2. Images (~: an estimate, no archive was measured):")
    print_table(
        ["set", "images", "GB", "here"],
        [
            (each.dataset.title, f"{each.dataset.images or 0:,}", _size(each), _here(each))
            for each in found.sets
        ],
    )
    for each in found.sets:
        if each.state == "not looked for":
            say(f"   - {each.dataset.title}: {each.dataset.source}. {each.dataset.get}")
            say(f"     Terms: {each.dataset.license}.")
    for finding in findings:
        if not finding.ok:
            say(f"   - {finding.problem}", f"     {finding.remedy}")
    if "seed0" in tables:
        say(
            "   SUN, Places and Textures are contaminated, serve the seed-0 numbers alone, and are "
            "left out where they are not there."
        )
    _print_costs(found)
    _print_steps(tables, folders, "0-9" if seeds is None else seeds)


def _print_costs(found: Needs) -> None:
    from negrefine.benchmarks.needs import facts

    devices_known = facts()["devices"]
    sizes = [each.gigabytes or 0.0 for each in found.sets]
    say(
        "",
        f"3. Disk: {sum(sizes):.0f} GB of images, as much again while archives are unpacked, "
        f"{found.result_gigabytes:.1f} GB of results, at most {found.cache_gigabytes:.0f} GB of "
        "stored embeddings of texts ($NEGREFINE_CACHE). "
        f"Memory: pairs that are remembered take at most {found.memory_gigabytes:.1f} GB.",
        "",
        "4. Hours:",
    )
    rows = [
        (work.title, _amount(work.least, work.most), *(_hours(*each) for each in work.hours))
        for work in found.work
    ]
    totals = [_hours(*found.total_hours(i)) for i in range(len(found.devices))]
    devices = [f"{each['title']}, {_kind(each)}" for each in devices_known]
    print_table(["work", "amount", *devices], [*rows, ("together", "", *totals)])
    for title, basis in zip(found.devices, found.bases, strict=True):
        say(f"   {title}: {basis}.")
    say(
        "   Pairs repeat: with the built-in encoder, 13 of the 25 of an image were new at first, 6 "
        "later.",
        f"   The WordNet judge and recorded answers take seconds. {facts()['authors']}",
    )


def _print_steps(tables: Sequence[str], folders: ImageFolders, seeds: str) -> None:
    from negrefine.benchmarks import published

    given = ["--data", str(folders.data or "DATA")]
    given += [text for each in folders.folder for text in ("--folder", each)]
    # One seed, 0, is the default.
    drawn = [] if seeds == "0" else ["--seeds", seeds]
    only = [] if set(tables) == set(published.table_names()) else ["--only", ",".join(tables)]
    ours = [*given, "--out", "reproduced/negrefine", *drawn, "--methods", "negrefine", *only]
    others = [*given, "--out", "reproduced/others", *drawn]
    others += ["--methods", "mcm,glmcm,neglabel,csp", "--resample", "bilinear", "--only", "main"]
    commands = [["reproduce", "--dry-run"], ["reproduce", *ours]]
    if "main" in tables:
        compared = ["compare", "reproduced/negrefine", "reproduced/others"]
        commands += [["reproduce", *others], compared]
    say(
        "",
        "5. Commands, each of which continues when it is started again after an interruption:",
        *(f"   negrefine {shlex.join(command)}" for command in commands),
        "   Runs check their numbers against the paper, cell by cell. CLIPN needs weights of its "
        "own (docs/methods.md). docs/reproduce.md has every step.",
    )


def _seeds(n: int) -> str:
    return "one seed" if n == 1 else f"{n} seeds"


def _size(each: SetNeed) -> str:
    if each.gigabytes is None:
        return "?"
    return f"{each.gigabytes:.1f}" if each.is_measured else f"~{each.gigabytes:.1f}"


def _here(each: SetNeed) -> str:
    return f"{each.found:,} {each.state}" if each.found else each.state


def _amount(least: int, most: int) -> str:
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _kind(device: Mapping[str, Any]) -> str:
    return "measured rates" if device["is_measured"] else "an estimate"


def _hours(least: float, most: float) -> str:
    low, high = (
        f"{hours:.1f}" if hours == 0 or hours >= 0.05 else "<0.1" for hours in (least, most)
    )
    return low if low == high else f"{low} to {high}"
