"""`negrefine reproduce`: the NegRefine paper's tables, measured beside published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from negrefine.cli.benchmark import AllowIncomplete, Data, SetFolders, read_folders, warn
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
    from negrefine.benchmarks import Benchmark

PAPERS_ENCODER = "openai/clip-vit-base-patch16"
_CONTAMINATED = ("sun", "places", "textures")


def reproduce(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write the results.")],
    data: Data = None,
    encoder: Annotated[
        str, typer.Option(metavar="ID_OR_DIR", help="As for 'negrefine fit'.")
    ] = PAPERS_ENCODER,
    only: Annotated[
        str,
        typer.Option(
            metavar="LIST",
            help="Tables, separated by commas: 'main', 'ablation', 'seed0' (the numbers of the "
            "released code, SUN, Places and Textures included where they are there).",
        ),
    ] = "main,ablation,seed0",
    methods: Methods = "mcm,glmcm,neglabel,csp,negrefine",
    seeds: Seeds = "0",
    bootstrap: Bootstrap = 1000,
    folder: SetFolders = None,
    allow_incomplete: AllowIncomplete = False,
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
    """Run NegRefine's main table and ablation, and print measured beside published numbers.

    ImageNet-1K against iNaturalist, OpenImage-O, Clean and NINCO with CLIP ViT-B/16. Every
    difference is followed by the numbers of the known reasons for one. The paper averages ten
    seeds: --seeds 0-9.
    """
    from negrefine.benchmarks.published import (
        as_json,
        as_markdown,
        compare_with_published,
        is_published_lexicon,
        reason_lines,
        rich_tables,
        table_names,
    )
    from negrefine.benchmarks.run import benchmark_class_names, make_ready, run_benchmark
    from negrefine.evaluation.experiment import check_evaluation
    from negrefine.files import write_text

    with_report = check_report(report)
    tables = split_list("only", only)
    unknown = [table for table in tables if table not in table_names()]
    if unknown:
        raise InputError(f"--only takes {', '.join(table_names())}, not {unknown[0]!r}.")
    listed = split_list("methods", methods)
    if {"ablation", "seed0"} & set(tables) and "negrefine" not in listed:
        raise InputError(
            "The ablation and seed 0 are NegRefine's: add negrefine to --methods, or take "
            "--only main."
        )
    check_methods(listed)
    numbers = read_seeds(seeds)
    folders = read_folders(folder)
    chosen = _benchmark(data, folders, with_contaminated="seed0" in tables)
    ready = make_ready(chosen, data, folders=folders, allow_incomplete=allow_incomplete)
    check_evaluation(out, ready.ood_names, numbers)
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
    words = next((each["lexicon"] for each in parameters.values() if "lexicon" in each), None)
    published = words is not None and is_published_lexicon(words)
    warnings = [*ready.warnings, *_departures(encoder, min_frequency, lexicon, published)]
    facts = _facts(
        {
            "incomplete": bool(ready.warnings),
            "other encoder": encoder != PAPERS_ENCODER,
            "lexicon": published,
            # The recorded answers are about the labels of seed 0.
            "replay": judge is not None and judge.startswith("replay:") and numbers == [0],
            "bilinear": resample == "bilinear",
            "float16": dtype == "float16",
            "ten seeds": len(numbers) >= 10,
            "seed 0": numbers == [0],
        }
    )
    warn(warnings)

    from rich.console import Console

    from negrefine.encoders import load_encoder

    # The published runs did not turn photographs upright.
    loaded = load_encoder(
        encoder, device=device, dtype=dtype, resample=resample, exif_orientation=False
    )
    class_names = benchmark_class_names(ready.benchmark, "official")
    detectors = fit_detectors(loaded, class_names, listed, parameters)
    finished = run_benchmark(
        ready,
        detectors,
        out=out,
        ablation=fit_ablation(detectors) if "ablation" in tables else None,
        seeds=numbers,
        n_bootstrap=bootstrap,
        batch_size=batch_size,
        progress=True,
    )
    write_results(finished.evaluation, loaded, report=with_report)
    cells = compare_with_published(finished.evaluation, facts, tables)
    settings = finished.evaluation.settings
    write_text(out / "reproduce.json", as_json(cells, warnings, settings))
    write_text(out / "reproduce.md", as_markdown(cells, warnings))
    console = Console(highlight=False)
    for table in rich_tables(cells):
        console.print(table)
    typer.echo("Known reasons for differences:")
    for line in reason_lines(cells):
        typer.echo(line)
    warn(warnings)
    typer.echo(f"Wrote {out / 'reproduce.json'} and {out / 'reproduce.md'}.", err=True)


def _facts(states: dict[str, bool]) -> set[str]:
    return {fact for fact, true in states.items() if true}


def _departures(
    encoder: str, min_frequency: int, lexicon: Path | None, published: bool
) -> list[str]:
    """Say which options make the numbers those of another experiment."""
    from negrefine.benchmarks.run import NOT_COMPARABLE

    sentences = []
    if encoder != PAPERS_ENCODER:
        sentences.append(f"the encoder is {encoder}, the paper's is {PAPERS_ENCODER}.")
    if min_frequency:
        sentences.append(f"only words seen {min_frequency} times or more were mined.")
    if lexicon is not None and not published:
        sentences.append(f"{lexicon} does not hold the words of the published files.")
    return [f"{NOT_COMPARABLE} {sentence}" for sentence in sentences]


def _benchmark(
    data: Path | None, folders: dict[str, Path], *, with_contaminated: bool
) -> Benchmark:
    """Return the main benchmark, with those of the three other sets that are there."""
    from negrefine.benchmarks import load_benchmark, load_set
    from negrefine.benchmarks.image_files import FoundImages, find_set

    chosen = load_benchmark("imagenet-1k")
    names = [image_set.name for image_set in chosen.ood_sets]
    given = {load_set(name).name: path for name, path in folders.items()}
    for name in _CONTAMINATED if with_contaminated else ():
        place = given.get(name)
        there = place is not None or (
            data is not None and isinstance(find_set(load_set(name), data), FoundImages)
        )
        if there:
            names.append(name)
    return chosen.with_ood(names)
