"""A folder of results in parts, one Parquet file for each shard of a source.

    scores/
      _scores.json           what the parts are of: detector, encoder, columns; how many are done
      part-0000000.parquet   the rows of the first shard, in order
      part-0000001.parquet

A part appears at once and as a whole, and says in the metadata of its schema of which detector and
of which state of which shard it is. So a run that was killed continues with the shards that have no
part.
`pyarrow.parquet.read_table("scores/")` reads all rows in order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from negrefine.detectors import Detector
from negrefine.detectors.bundle import own_version
from negrefine.errors import InputError
from negrefine.evaluation.scored_image import ScoredImage, score_columns
from negrefine.files.lock import lock_directory
from negrefine.files.reading import read_json
from negrefine.files.records import from_row
from negrefine.files.writing import naming, write_atomically, write_text

MANIFEST = "_scores.json"
"""Names that begin with "_" are no data for Arrow and Spark."""

FORMAT = "negrefine-scores"

MOST_ATTEMPTS = 5
"""Workers that may die in one run while they score the same shard, which may be what kills them."""

_VERSION = 1
_MANIFEST_BYTES = 1 << 20
_KEY = b"negrefine"
_ATTEMPT = "_attempt-"
_PART = re.compile(r"part-(\d{7,})\.parquet")


@dataclass(frozen=True)
class PartSummary:
    """What a part says of itself.

    Attributes:
        detector: `Detector.identity` of the one that scored it.
        encoder: The fingerprint of its encoder.
        shard: The name of its shard.
        identity: `Shard.identity` before the shard was read.
        rows: Its rows.
        errors: Those of images that could not be read.
        flagged: Those with the verdict OOD.
        first_error: The first reason, None without errors.
    """

    detector: str
    encoder: str
    shard: str
    identity: str
    rows: int
    errors: int
    flagged: int
    first_error: str | None


@dataclass(frozen=True)
class ScoredBy:
    """What decides the rows of parts: the detector and its encoder, and the columns."""

    detector: str
    encoder: str
    columns: Mapping[str, str]

    @classmethod
    def of(cls, detector: Detector) -> ScoredBy:
        """Describe a fitted detector."""
        columns = score_columns(
            detector.part_names_,
            p_value=detector.calibration_scores_ is not None,
            threshold=detector.by_ is not None,
        )
        return cls(detector.identity(), detector.encoder.fingerprint, columns)

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the rows."""
        return pa.schema(self.columns.items())

    def table(self, scored: Sequence[ScoredImage]) -> pa.Table:
        """Return rows as a table."""
        parts = [name for name in self.columns if name not in _OTHER_COLUMNS]
        settings = {name: name in self.columns for name in ("p_value", "threshold")}
        rows = [row.as_row(parts, **settings) for row in scored]
        return pa.Table.from_pylist(rows, schema=self.schema)


_OTHER_COLUMNS = {each.name for each in fields(ScoredImage)}


@dataclass(frozen=True)
class ScoreParts:
    """The folder; see the module."""

    root: Path
    by: ScoredBy

    def path(self, number: int) -> Path:
        """Return where the part of a shard is, by its position in the source."""
        return self.root / f"part-{number:07}.parquet"

    @contextmanager
    def opened(self, n_shards: int) -> Iterator[None]:
        """Make the folder, or check that it is one of the same detector, and keep others out.

        Raises InputError if it holds anything else, parts of another detector, or more parts than
        shards, or if another process is at work there.
        """
        with naming(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(lock_directory(self.root, wait=0))
            except TimeoutError as error:
                raise InputError(
                    f"Another process writes scores to {str(self.root)!r}: wait for it, or choose "
                    "another folder."
                ) from error
            self._check(n_shards)
            for mark in self.root.glob(f"{_ATTEMPT}*"):
                mark.unlink(missing_ok=True)
            yield

    def finished(self, number: int) -> PartSummary | None:
        """Return what the part of a shard says of itself, None if there is none.

        Raises InputError for a file that negrefine has not written, or of another detector.
        """
        target = self.path(number)
        summary = read_part(target)
        if summary is not None and (summary.detector, summary.encoder) != (
            self.by.detector,
            self.by.encoder,
        ):
            raise InputError(
                f"{str(target)!r} is of another detector, or of this one before it was changed: "
                "choose another folder for these results."
            )
        return summary

    def begin(self, number: int, shard: str) -> None:
        """Note that a worker begins a shard; engines call the next worker when one dies.

        Raises InputError if `MOST_ATTEMPTS` have begun it before in this run, and not ended.
        """
        with naming(self.root), self._attempts(number).open("ab") as stream:
            stream.write(b".")
            n_begun = stream.tell()
        if n_begun > MOST_ATTEMPTS:
            raise InputError(
                f"{MOST_ATTEMPTS} workers died while they scored {shard!r}: it may need more "
                "memory than there is for a worker, or hold an image that kills one; leave it out."
            )

    def write(
        self, number: int, shard: str, identity: str, scored: Sequence[ScoredImage]
    ) -> PartSummary:
        """Write the part of a shard, atomically, over any earlier one."""
        errors = [row.error for row in scored if row.error is not None]
        summary = PartSummary(
            self.by.detector,
            self.by.encoder,
            shard,
            identity,
            len(scored),
            len(errors),
            sum(row.verdict == "OOD" for row in scored),
            errors[0] if errors else None,
        )
        content = json.dumps(asdict(summary)).encode()
        table = self.by.table(scored).replace_schema_metadata({_KEY: content})

        def write_file(temporary: Path) -> None:
            with temporary.open("wb") as stream:
                pyarrow.parquet.write_table(table, stream)

        write_atomically(self.path(number), write_file)
        self._attempts(number).unlink(missing_ok=True)
        return summary

    def write_manifest(self, n_shards: int, done: Sequence[PartSummary]) -> None:
        """Say in `MANIFEST` how far the run is."""
        content = {
            "format": FORMAT,
            "format_version": _VERSION,
            "negrefine_version": own_version(),
            **self._head(),
            "shards": n_shards,
            "done": len(done),
            "rows": sum(part.rows for part in done),
            "errors": sum(part.errors for part in done),
            "flagged": sum(part.flagged for part in done),
        }
        write_text(self.root / MANIFEST, json.dumps(content, indent=2) + "\n")

    def _attempts(self, number: int) -> Path:
        return self.root / f"{_ATTEMPT}{number:07}"

    def _head(self) -> dict[str, Any]:
        return asdict(self.by) | {"columns": dict(self.by.columns)}

    def _check(self, n_shards: int) -> None:
        with naming(self.root):
            names = sorted(path.name for path in self.root.iterdir() if path.name[0] != ".")
        if not names:
            return
        if MANIFEST not in names:
            raise InputError(
                f"{str(self.root)!r} holds {names[0]!r} and no {MANIFEST}, so negrefine has not "
                "written it: choose a new or empty folder."
            )
        manifest = _read_manifest(self.root / MANIFEST)
        if {name: manifest.get(name) for name in self._head()} != self._head():
            raise InputError(
                f"{str(self.root)!r} holds scores of another detector, or of this one before it "
                "was changed: choose another folder for these results."
            )
        for name in names:
            part = _PART.fullmatch(name)
            if part is None and name[0] != "_":
                raise InputError(
                    f"{str(self.root / name)!r} is no part of the scores, and would be read with "
                    "them: move it away."
                )
            if part is not None and int(part[1]) >= n_shards:
                raise InputError(
                    f"{str(self.root / name)!r} is of a shard that is not among the {n_shards} "
                    "given, and would be read with them: name the same source again, choose "
                    "another folder, or remove this part."
                )


def read_part(path: Path) -> PartSummary | None:
    """Return what a part says of itself, None if there is no such file.

    Raises InputError for a file that is no part.
    """
    try:
        with path.open("rb") as stream:
            metadata = pyarrow.parquet.read_schema(stream).metadata or {}
        return from_row(PartSummary, json.loads(metadata[_KEY]))
    except FileNotFoundError:
        return None
    # pyarrow.ArrowInvalid is a ValueError.
    except (OSError, KeyError, ValueError, RecursionError) as error:
        raise InputError(
            f"{str(path)!r} is not what negrefine writes there, or is damaged: move it away."
        ) from error


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        content = read_json(path, _MANIFEST_BYTES)
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(
            f"{str(path)!r} is not what negrefine writes there, or is damaged: move it away, or "
            "choose another folder."
        )
    if content.get("format_version") != _VERSION:
        raise InputError(
            f"{str(path)!r} is of format {content.get('format_version')!r}, and this version of "
            f"negrefine knows format {_VERSION}: choose another folder, or upgrade negrefine."
        )
    return content
