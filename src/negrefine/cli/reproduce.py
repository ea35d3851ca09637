"""`negrefine reproduce`: the tables of the NegRefine paper, measured beside published."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from negrefine.cli.bundles import option
from negrefine.cli.options import (
    ALLOW_INCOMPLETE,
    ENCODER_HELP,
    EncoderOptions,
    ImageFolders,
    split_list,
)
from negrefine.cli.output import print_tables, say, warn
from negrefine.cli.runs import RunOptions
from negrefine.detectors import NegRefine
from negrefine.errors import InputError

PAPERS_ENCODER = "openai/clip-vit-base-patch16"
_CONTAMINATED = ("sun", "places", "textures")


@dataclass(frozen=True, kw_only=True)
class PapersEncoder(EncoderOptions):
    """The encoder, by default the one of the paper."""

    encoder: str = option(PAPERS_ENCODER, ENCODER_HELP, "ID_OR_DIR")


def reproduce(
    *,
    out: Path = option(..., "Where to write the results.", "DIR"),
    new: PapersEncoder,
    only: str = option(
        "main,ablation,seed0",
        "Tables, separated by commas: 'main', 'ablation', 'seed0' (the numbers of the released "
        "code, including SUN, Places and Textures where they are there).",
        "LIST",
    ),
    folders: ImageFolders,
    allow_incomplete: bool = ALLOW_INCOMPLETE,
    options: RunOptions,
) -> None:
    """Run NegRefine's main table and ablation, and print measured beside published numbers.

    ImageNet-1K against iNaturalist, OpenImage-O, Clean and NINCO with CLIP ViT-B/16. Every
    difference is followed by the numbers of the known reasons for one. The paper averages ten
    seeds: --seeds 0-9.
    """
    from negrefine.benchmarks import load_benchmark, published
    from negrefine.benchmarks.run import benchmark_class_names, make_ready, run_benchmark
    from negrefine.evaluation.experiment import check_evaluation
    from negrefine.files.writing import check_replaceable, write_text

    tables = split_list("--only", only)
    known = published.table_names()
    unknown = [table for table in tables if table not in known]
    if unknown:
        raise InputError(f"--only takes {', '.join(known)}, not {unknown[0]!r}.")
    run = options.prepare(new.device)
    if {"ablation", "seed0"} & set(tables) and NegRefine.method not in run.parameters:
        raise InputError(
            "The ablation and seed 0 are NegRefine's: add negrefine to --methods, or take "
            "--only main."
        )
    benchmark = load_benchmark("imagenet-1k")
    if "seed0" in tables:
        ood_sets = [image_set.name for image_set in benchmark.ood_sets]
        benchmark = benchmark.with_ood([*ood_sets, *_contaminated_sets(folders)])
    ready = make_ready(
        benchmark, folders.data, folders=folders.by_set(), allow_incomplete=allow_incomplete
    )
    check_evaluation(out, ready.ood_names, run.seeds)
    check_replaceable(out / "reproduce.json", '"comparable": ', '"cells": ')
    check_replaceable(out / "reproduce.md", "# Measured and published\n")
    lexicons = [each["lexicon"] for each in run.parameters.values() if "lexicon" in each]
    papers_words = bool(lexicons) and published.is_published_lexicon(lexicons[0])
    warnings = [*ready.warnings, *_departures(new, options, papers_words=papers_words)]
    warn(*warnings)
    # The published runs did not turn photographs upright, and dropped the alpha channel.
    encoder = new.load(exif_orientation=False, background=None)
    evaluation, _ = replace(run, ablation="ablation" in tables).evaluate(
        encoder,
        benchmark_class_names(ready.benchmark, "official"),
        out,
        partial(run_benchmark, ready),
    )
    run.write_results(evaluation, encoder)
    states = {
        "incomplete": bool(ready.warnings),
        "other encoder": new.encoder != PAPERS_ENCODER,
        "lexicon": papers_words,
        # The recorded answers are about the labels of seed 0.
        "replay": (options.judge.judge or "").startswith("replay:") and run.seeds == [0],
        "bilinear": new.resample == "bilinear",
        "float16": new.dtype == "float16",
        "ten seeds": len(run.seeds) >= 10,
        "seed 0": run.seeds == [0],
    }
    facts = {fact for fact, is_true in states.items() if is_true}
    cells = published.compare_with_published(evaluation, facts, tables)
    write_text(out / "reproduce.json", published.as_json(cells, warnings, evaluation.settings))
    write_text(out / "reproduce.md", published.as_markdown(cells, warnings))
    print_tables(published.rich_tables(cells))
    say("Known reasons for differences:", *published.reason_lines(cells))
    warn(*warnings)
    say(f"Wrote {out / 'reproduce.json'} and {out / 'reproduce.md'}.", err=True)


def _departures(new: EncoderOptions, options: RunOptions, *, papers_words: bool) -> list[str]:
    """Say which options make the numbers those of another experiment."""
    from negrefine.benchmarks.run import NOT_COMPARABLE

    words, sentences = options.labels.words, []
    given = {**vars(options.labels.lists), **vars(options.filtering)}
    given["prompts"] = options.labels.prompts
    for name, value in given.items():
        if value is not None:
            shown = name.replace("_", "-")
            sentences.append(f"--{shown} was given, which the paper's run had not.")
    if new.encoder != PAPERS_ENCODER:
        sentences.append(f"the encoder is {new.encoder}, the paper's is {PAPERS_ENCODER}.")
    if new.exif_orientation:
        sentences.append("photographs were turned upright by their EXIF tag.")
    if (new.background or "none").strip().lower() != "none":
        sentences.append(f"transparent pixels were shown as {new.background}.")
    if words.min_frequency:
        sentences.append(f"only words seen {words.min_frequency} times or more were mined.")
    if words.lexicon is not None and not papers_words:
        sentences.append(f"{words.lexicon} does not hold the words of the published files.")
    return [f"{NOT_COMPARABLE} {sentence}" for sentence in sentences]


def _contaminated_sets(folders: ImageFolders) -> list[str]:
    """Return those of the three other sets that are there."""
    from negrefine.benchmarks import load_set
    from negrefine.benchmarks.image_files import FoundImages, find_set

    given = {load_set(name).name for name in folders.by_set()}
    return [
        name
        for name in _CONTAMINATED
        if name in given
        or (folders.data and isinstance(find_set(load_set(name), folders.data), FoundImages))
    ]
