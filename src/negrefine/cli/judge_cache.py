"""`negrefine judge-cache`: the stored answers of language models."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import typer

from negrefine.cli.bundles import option
from negrefine.cli.groups import CommandGroup
from negrefine.cli.judge_options import ANSWERS
from negrefine.cli.output import print_rows, say
from negrefine.errors import InputError
from negrefine.judges.prompts import kind_of
from negrefine.judges.replay import as_official_log, read_official_log
from negrefine.judges.store import AnswerStore, as_json_lines, read_json_lines
from negrefine.shown_text import storable

judge_cache = CommandGroup(
    "judge-cache", "Look at, export and import the stored answers of language models."
)

Format = Enum("Format", {"JSONL": "jsonl", "OFFICIAL": "official"}, type=str)
_FORMAT = option(Format.JSONL, "'official' is the log of the published code.", name="--format")


def stats(answers: Path | None = ANSWERS) -> None:
    """Show how many answers of which judge are stored, as a tab-separated table."""
    store = _existing(answers)
    kinds = ["proper_noun", "subcategory", "image", "proposal"]
    columns = [*kinds, "yes", "no", "undecided", "identity"]
    rows = [[getattr(row, name) for name in columns] for row in store.counts()]
    columns[-1] = "judge"
    print_rows(columns, rows, "\t", quote=False)
    say(str(store.path), err=True)


def export_answers(
    out: Path = typer.Argument(metavar="FILE", help="'-' is standard output."),
    file_format: Format = _FORMAT,
    judge: str | None = option(
        None, "Judge, as 'stats' prints it or an unambiguous part of it.", "TEXT"
    ),
    force: bool = option(False, "Replace a file that exists.", name="--force"),
    answers: Path | None = ANSWERS,
) -> None:
    """Write stored answers to a file."""
    if force and str(out) == "-":
        raise InputError("--force has no effect on standard output: leave it out.")
    store = _existing(answers)
    chosen = list(store)
    if judge is not None or file_format is Format.OFFICIAL:
        identity = _choose(store, judge)
        chosen = [stored for stored in chosen if stored.identity == identity]
        if file_format is Format.OFFICIAL and (kind := kind_of(identity)) != "words":
            raise InputError(
                f"The official log has answers about words, and {identity!r} has answers about "
                f"{kind}: leave out --format official."
            )
    write = as_json_lines if file_format is Format.JSONL else as_official_log
    lines = list(write(chosen))
    if str(out) == "-":
        say(*lines)
        return
    from negrefine.files.writing import write_text

    if out.exists() and out.stat().st_size and not force:
        raise InputError(f"{str(out)!r} exists: choose another name, or add --force.")
    write_text(out, "".join(f"{line}\n" for line in lines))
    say(f"Wrote {len(chosen)} answers to {out}.", err=True)


def import_answers(
    files: list[Path] = typer.Argument(
        metavar="FILE", help="Files that 'export' wrote, or official logs."
    ),
    file_format: Format = _FORMAT,
    judge: str | None = option(
        None,
        "Judge whose answers an official log holds, as 'stats' prints it; the log itself does not "
        "say. Default: its file name.",
        "TEXT",
    ),
    answers: Path | None = ANSWERS,
) -> None:
    """Read answers that 'export' wrote to files; those that are stored already are not changed."""
    if judge is not None and file_format is Format.JSONL:
        raise InputError(
            "--judge has no effect on JSONL files, which name it in every line: leave it out."
        )
    lines = [
        line
        for path in files
        for line in (
            read_json_lines(path)
            if file_format is Format.JSONL
            else read_official_log(path, judge or storable(path.name))
        )
    ]
    store = AnswerStore(answers)
    new = 0
    for identity in dict.fromkeys(line.identity for line in lines):
        own = [(line.query, line.answer) for line in lines if line.identity == identity]
        new += store.put(identity, own)
    n_judges = len(store.counts())
    say(f"{new} new of {len(lines)} answers; the store holds {n_judges} judges.", err=True)


def _existing(answers: Path | None) -> AnswerStore:
    """Return the store that is there; a given file that is missing must not become an empty one."""
    if answers is not None and not answers.exists():
        raise InputError(f"There is no store of answers {str(answers)!r}: check the path.")
    return AnswerStore(answers)


def _choose(store: AnswerStore, text: str | None) -> str:
    """Return the one stored judge whose name is or contains a text."""
    identities = [row.identity for row in store.counts()]
    if text in identities:
        return text
    found = [identity for identity in identities if text is None or text in identity]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"No judge in {str(store.path)!r} matches {text!r}: 'judge-cache stats' lists them."
            if text
            else f"The store {str(store.path)!r} is empty."
        )
    raise InputError(
        f"{len(found)} judges in {str(store.path)!r} match: name one with --judge, as "
        "'judge-cache stats' prints it."
    )


judge_cache.add(stats)
judge_cache.add(export_answers, "export")
judge_cache.add(import_answers, "import")
