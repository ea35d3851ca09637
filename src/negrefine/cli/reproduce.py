"""`negrefine reproduce`: the tables of the NegRefine paper, measured beside published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from negrefine.cli.bundles import given_options, option
from negrefine.cli.options import (
    ALLOW_INCOMPLETE,
    ENCODER_HELP,
    EncoderOptions,
    ImageFolders,
    split_list,
)
from negrefine.cli.output import print_tables, say, warn
from negrefine.cli.reproduce_plan import CONTAMINATED, print_plan
from negrefine.cli.runs import Run, RunOptions
from negrefine.detectors import CLIPN, DETECTORS, NegRefine
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.benchmarks import Benchmark

PAPERS_ENCODER = "openai/clip-vit-base-patch16"
_ALL_TABLES = "main,ablation,seed0"


@dataclass(frozen=True, kw_only=True)
class PapersEncoder(EncoderOptions):
    """The encoder, by default the one of the paper."""

    encoder: str = option(PAPERS_ENCODER, ENCODER_HELP, "ID_OR_DIR")


def reproduce(
    *,
    out: Path | None = option(
        None, "Where to write the results; only --plan and --dry-run need none.", "DIR"
    ),
    plan: bool = option(
        False,
        "Only say what is needed: weights, image sets (with --data, what is missing of them), disk "
        "and hours.",
        name="--plan",
    ),
    dry_run: bool = option(
        False,
        "Prove every step but the numbers on random weights and generated images, within a minute: "
        "nothing is needed.",
        name="--dry-run",
    ),
    new: PapersEncoder,
    only: str = option(
        _ALL_TABLES,
        "Tables, separated by commas: 'main', 'ablation', 'seed0' (the numbers of the released "
        "code, including SUN, Places and Textures where they are there).",
        "LIST",
    ),
    folders: ImageFolders,
    allow_incomplete: bool = ALLOW_INCOMPLETE,
    options: RunOptions,
) -> None:
    """Run NegRefine's main table and ablation, and print measured beside published numbers.

    ImageNet-1K against iNaturalist, OpenImage-O, Clean and NINCO with CLIP ViT-B/16. Each number is
    checked against the published one with a stated tolerance, and every difference is followed by
    the numbers of the known reasons for one. The paper averages ten seeds, of which each draws
    other phrases: --seeds 0-9. A run that was interrupted continues when it is started again.
    """
    tables = _tables(only)
    if plan and dry_run:
        raise InputError("--plan and --dry-run are two things: give one of them.")
    given = [*given_options(new), *given_options(options)]
    given += ["--allow-incomplete"] if allow_incomplete else []
    if plan:
        given += ["--out"] if out is not None else []
        _refuse([name for name in given if name != "--seeds"], "--plan, which only says things")
        print_plan(tables, folders, options.seeds)
        return
    if dry_run:
        from negrefine.cli.dry_run import dry_run_of_reproduce

        given += [*given_options(folders), *(["--only"] if only != _ALL_TABLES else [])]
        _refuse(given, "--dry-run, which makes its own images and weights")
        dry_run_of_reproduce(out)
        return
    if out is None:
        raise InputError(
            "Say where to write the results (--out DIR), or what is needed first (--plan)."
        )
    _reproduce(out, new, tables, folders, options, allow_incomplete=allow_incomplete)


def _reproduce(
    out: Path,
    new: PapersEncoder,
    tables: Sequence[str],
    folders: ImageFolders,
    options: RunOptions,
    *,
    allow_incomplete: bool,
) -> None:
    from negrefine.benchmarks import published
    from negrefine.benchmarks.practice import has_random_weights
    from negrefine.benchmarks.run import (
        NOT_COMPARABLE,
        benchmark_class_names,
        make_ready,
        run_benchmark,
    )
    from negrefine.evaluation.experiment import check_evaluation
    from negrefine.files.writing import check_folder, check_replaceable, write_text

    run = options.prepare(new.device)
    _check_methods(run, tables, options)
    ready = make_ready(
        wanted_benchmark(tables, folders),
        folders.data,
        folders=folders.by_set(),
        allow_incomplete=allow_incomplete,
    )
    check_evaluation(out, ready.ood_names, run.seeds)
    check_replaceable(out / "reproduce.json", '"comparable": ', '"cells": ')
    check_replaceable(out / "reproduce.md", "# Measured and published\n")
    check_folder(out)
    lexicons = [each["lexicon"] for each in run.parameters.values() if "lexicon" in each]
    papers_words = bool(lexicons) and published.is_published_lexicon(lexicons[0])
    is_random = has_random_weights(new.encoder)
    # CLIPN's weights are its own.
    is_papers = new.encoder == PAPERS_ENCODER or list(run.parameters) == [CLIPN.method]
    departures = _departures(new, options, papers_words=papers_words)
    if not is_papers:
        departures.append(f"the encoder is {new.encoder}, the paper's is {PAPERS_ENCODER}.")
    warnings = [*ready.warnings, *(f"{NOT_COMPARABLE} {sentence}" for sentence in departures)]
    if is_random:
        warnings.insert(0, f"{NOT_COMPARABLE} random weights: numbers mean nothing.")
    warn(*warnings)
    # The published runs did not turn photographs upright, and dropped the alpha channel.
    encoder = new.load(exif_orientation=False, background=None)
    # Each seed draws other phrases; the groups of labels stay those of seed 0, as published.
    evaluation, _ = replace(run, ablation="ablation" in tables, seeds=[0]).evaluate(
        encoder,
        benchmark_class_names(ready.benchmark, "official"),
        out,
        partial(run_benchmark, ready),
        draws=run.seeds,
    )
    run.write_results(evaluation, encoder)
    is_replay = (options.judge.judge or "").startswith("replay:")
    states = {
        "incomplete": bool(ready.warnings),
        "other encoder": not (is_papers or is_random),
        "random weights": is_random,
        "other settings": bool(departures),
        "lexicon": papers_words,
        "replay": is_replay,
        "replay of other seeds": is_replay and run.seeds != [0],
        "bilinear": new.resample == "bilinear",
        "float16": new.dtype == "float16",
        "ten seeds": len(run.seeds) >= 10,
        "seed 0": 0 in run.seeds,
    }
    known = {fact for fact, is_true in states.items() if is_true}
    cells = published.compare_with_published(evaluation, known, tables)
    write_text(out / "reproduce.json", published.as_json(cells, warnings, evaluation.settings))
    write_text(out / "reproduce.md", published.as_markdown(cells, warnings))
    print_tables(published.rich_tables(cells))
    say("Known reasons for differences:", *published.reason_lines(cells))
    say("", published.summary(cells), published.tolerance_text())
    warn(*warnings)
    say(f"Wrote {out / 'reproduce.json'} and {out / 'reproduce.md'}.", err=True)


def _refuse(given: Sequence[str], beside: str) -> None:
    if given:
        raise InputError(f"{given[0]} has no effect with {beside}: leave one of them out.")


def wanted_benchmark(tables: Sequence[str], folders: ImageFolders) -> Benchmark:
    """Return the benchmark of some tables; the contaminated sets are in it where they are there."""
    from negrefine.benchmarks import load_benchmark

    benchmark = load_benchmark("imagenet-1k")
    if "seed0" not in tables:
        return benchmark
    ood_sets = [image_set.name for image_set in benchmark.ood_sets]
    return benchmark.with_ood([*ood_sets, *_contaminated_sets(folders)])


def _tables(only: str) -> list[str]:
    from negrefine.benchmarks import published

    tables, known = split_list("--only", only), published.table_names()
    unknown = [table for table in tables if table not in known]
    if unknown:
        raise InputError(f"--only takes {', '.join(known)}, not {unknown[0]!r}.")
    return tables


def _check_methods(run: Run, tables: Sequence[str], options: RunOptions) -> None:
    from negrefine.benchmarks.draws import draws_words

    if {"ablation", "seed0"} & set(tables) and NegRefine.method not in run.parameters:
        raise InputError(
            "The ablation and seed 0 are NegRefine's: add negrefine to --methods, or take "
            "--only main."
        )
    drawing = [method for method, cls in DETECTORS.items() if draws_words(cls)]
    if options.seeds is not None and not set(drawing) & set(run.parameters):
        raise InputError(
            f"--seeds has no effect here without {' or '.join(drawing)}, whose phrases they draw: "
            "leave it out."
        )


def _departures(new: EncoderOptions, options: RunOptions, *, papers_words: bool) -> list[str]:
    """Say which options make the numbers those of another experiment."""
    words, sentences = options.labels.words, []
    given = {**vars(options.labels.lists), **vars(options.filtering)}
    given["prompts"] = options.labels.prompts
    for name, value in given.items():
        if value is not None:
            shown = name.replace("_", "-")
            sentences.append(f"--{shown} was given, which the paper's run had not.")
    if new.exif_orientation:
        sentences.append("photographs were turned upright by their EXIF tag.")
    if (new.background or "none").strip().lower() != "none":
        sentences.append(f"transparent pixels were shown as {new.background}.")
    if words.min_frequency:
        sentences.append(f"only words seen {words.min_frequency} times or more were mined.")
    if words.lexicon is not None and not papers_words:
        sentences.append(f"{words.lexicon} does not hold the words of the published files.")
    return sentences


def _contaminated_sets(folders: ImageFolders) -> list[str]:
    """Return those of the three other sets that are there."""
    from negrefine.benchmarks import load_set
    from negrefine.benchmarks.image_files import FoundImages, find_set

    given = {load_set(name).name for name in folders.by_set()}
    return [
        name
        for name in CONTAMINATED
        if name in given
        or (folders.data and isinstance(find_set(load_set(name), folders.data), FoundImages))
    ]
