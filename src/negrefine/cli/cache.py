"""`negrefine cache`: the stored embeddings of prompts."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from negrefine.cli.bundles import option
from negrefine.cli.groups import CommandGroup
from negrefine.cli.output import counted, print_rows, say, warn
from negrefine.errors import InputError

if TYPE_CHECKING:
    from negrefine.encoders.embedding_cache import EmbeddingCache, StoredSpace

cache = CommandGroup("cache", "Look at, export and import the stored embeddings of prompts.")

_EMBEDDINGS = option(
    None,
    "File of embeddings; default: embeddings.sqlite in $NEGREFINE_CACHE or the user's cache "
    "directory.",
    "FILE",
    name="--embeddings",
)
_FINGERPRINT = re.compile(r"[0-9a-f]{8,64}")


def info(embeddings: Path | None = _EMBEDDINGS) -> None:
    """Show what is stored of which encoder, as a tab-separated table.

    A space is an encoder, its precision and device, and prompt templates; its first word is the
    fingerprint of the encoder.
    """
    stored = _existing(embeddings)
    spaces = stored.spaces()
    rows = [(each.n, each.dim, _size(each), _day(each.used), each.name) for each in spaces]
    print_rows(["embeddings", "dim", "MiB", "last_used", "space"], rows, "\t", quote=False)
    n = sum(each.n for each in spaces)
    say(f"{stored.path}: {counted(n, 'embedding')} in {counted(len(spaces), 'space')}.", err=True)


def export_embeddings(
    out: Path = typer.Argument(metavar="FILE", help="Such as 'embeddings.safetensors'."),
    encoder: str | None = option(
        None,
        "Only those of this encoder: hub id, directory, 'builtin' or 'builtin-photo', or the "
        "first 8 digits or more of its fingerprint, as 'info' prints it.",
        "ENCODER",
    ),
    force: bool = option(False, "Replace a file that exists.", name="--force"),
    embeddings: Path | None = _EMBEDDINGS,
) -> None:
    """Write stored embeddings to a file, for 'import' on other machines."""
    from negrefine.encoders import embedding_exchange as exchange
    from negrefine.files.writing import check_replaceable

    if out.exists() and out.stat().st_size and not force:
        raise InputError(f"{str(out)!r} exists: choose another name, or add --force.")
    check_replaceable(out, exchange.FORMAT)
    stored = _existing(embeddings)
    spaces = stored.spaces()
    if encoder is not None:
        start = _fingerprint(encoder)
        spaces = [each for each in spaces if each.name.startswith(start)]
    if not spaces:
        of = "" if encoder is None else f" of the encoder {encoder!r}"
        raise InputError(
            f"{str(stored.path)!r} holds no embeddings{of}: 'negrefine cache info' lists them."
        )
    done = exchange.export_embeddings(stored, spaces, out)
    if done.n_damaged:
        warn(f"{counted(done.n_damaged, 'damaged embedding')} were left out.")
    what = f"{counted(done.n, 'embedding')} in {counted(done.n_spaces, 'space')}"
    say(f"Wrote {what} to {out}.", err=True)


def import_embeddings(
    files: list[Path] = typer.Argument(metavar="FILE", help="Files that 'export' wrote."),
    embeddings: Path | None = _EMBEDDINGS,
) -> None:
    """Store embeddings that 'export' wrote to files; those that are stored already stay.

    They decide scores: import what you trust. Checksums find damage, not intent.
    """
    from negrefine.encoders import embedding_exchange as exchange
    from negrefine.encoders.embedding_cache import EmbeddingCache

    stored = EmbeddingCache(embeddings)
    for file in files:
        done = exchange.import_embeddings(stored, file)
        counts = f"{done.new} new, {done.known} known, {done.refused} refused"
        say(f"{file}: {counts}.", err=True)
        if done.refused:
            warn(
                f"{done.refused} rows of {file} are no embeddings (numbers that are not finite, of "
                "another length than one, or more or fewer than the cache has for their space)."
            )
        if done.differing:
            warn(
                f"{done.differing} known texts of {file} have other numbers there; the stored ones "
                "stay."
            )


def _existing(path: Path | None) -> EmbeddingCache:
    """Return the cache that is there; a missing file must not become an empty one."""
    from negrefine.encoders.embedding_cache import EmbeddingCache

    stored = EmbeddingCache(path)
    if not stored.path.is_file():
        raise InputError(f"There is no file of embeddings {str(stored.path)!r}: check the path.")
    return stored


def _fingerprint(encoder: str) -> str:
    """Return what the spaces of an encoder begin with."""
    if _FINGERPRINT.fullmatch(encoder) and not Path(encoder).exists():
        return encoder
    from negrefine.encoders import load_encoder

    return load_encoder(encoder, cache=False).fingerprint


def _size(space: StoredSpace) -> str:
    return f"{space.n * space.dim * 4 / (1 << 20):.1f}"


def _day(days: int) -> str:
    return str(datetime.date(1970, 1, 1) + datetime.timedelta(days=days))


cache.add(info)
cache.add(export_embeddings, "export")
cache.add(import_embeddings, "import")
