"""The journal of a run: rows that are finished, for the run that continues an interrupted one."""

from __future__ import annotations

import itertools
import json
import math
import os
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TextIO, cast

from negrefine.detectors import Detector
from negrefine.detectors.explanation import verdict_of
from negrefine.errors import InputError
from negrefine.evaluation.scored_image import ScoredImage
from negrefine.files.writing import naming, write_text


@dataclass
class Journal:
    """Rows by what tells their images from others, and the shards that were read to their end.

    Attributes:
        known: Rows of an earlier run of the same detector.
        finished: Identity of a shard to the number of its images.
        path: The file that rows are added to; None keeps nothing.
    """

    known: dict[str, ScoredImage] = field(default_factory=dict)
    finished: dict[str, int] = field(default_factory=dict)
    path: Path | None = None
    _stream: TextIO | None = None

    def rows_of(self, identity: str) -> list[ScoredImage] | None:
        """Return the rows of a shard that was read to its end, in order, None for another."""
        n = self.finished.get(identity)
        rows = self._by_shard.get(identity, {})
        if n is None or set(rows) != set(range(n)):
            return None
        return [rows[position] for position in range(n)]

    @cached_property
    def _by_shard(self) -> dict[str, dict[int, ScoredImage]]:
        found: dict[str, dict[int, ScoredImage]] = {}
        for stamp, row in self.known.items():
            identity, _, rest = stamp.partition("|")
            position = rest.partition("|")[0]
            if identity in self.finished and position.isdecimal():
                found.setdefault(identity, {})[int(position)] = row
        return found

    def keep(self, rows: Mapping[str, ScoredImage]) -> None:
        """Add rows; they are on disk when this returns."""
        self._add(itertools.starmap(_line, rows.items()))

    def finish(self, identity: str, n_images: int) -> None:
        """Add that all images of a shard have rows."""
        self._add([_end_line(identity, n_images)])

    def _add(self, lines: Iterable[str]) -> None:
        if self.path is None or self._stream is None:
            return
        with naming(self.path):
            self._stream.writelines(lines)
            self._stream.flush()
            os.fsync(self._stream.fileno())


@contextmanager
def continued(path: Path | None, detector: Detector) -> Iterator[Journal]:
    """Yield the journal of a run, with what an earlier run of the same detector left in the file.

    Rows of one detector never continue the journal of another.
    """
    if path is None:
        yield Journal()
        return
    header = {
        "detector": detector.identity(),
        "encoder": detector.encoder.fingerprint,
        "columns": [each.name for each in fields(ScoredImage)],
    }
    identity = json.dumps(header)
    with naming(path):
        known, finished = _read_journal(path, identity, detector)
        rows = itertools.starmap(_line, known.items())
        ends = itertools.starmap(_end_line, finished.items())
        # Written anew, so that nothing is left that is no row.
        write_text(path, "".join([identity + "\n", *rows, *ends]))
        stream = path.open("a", encoding="utf-8")
    try:
        yield Journal(known, finished, path, stream)
    finally:
        # What could not be written to a full disk cannot be written now, either.
        with suppress(OSError):
            stream.close()


def _read_journal(
    journal: Path, identity: str, detector: Detector
) -> tuple[dict[str, ScoredImage], dict[str, int]]:
    _check_journal(journal)
    header, *lines = journal.read_bytes().split(b"\n") if journal.exists() else [b""]
    if header != identity.encode():
        return {}, {}
    finished: dict[str, int] = {}
    rows: dict[str, ScoredImage] = {}
    # A killed run leaves at most one unfinished line, at the end; a finished run nothing.
    *lines, _ = lines or [b""]
    n_bad = 0
    negatives = frozenset(() if detector.negatives_ is None else detector.negatives_.texts)
    classes = detector.class_indices()
    for line in lines:
        stamp, row = _read_line(line, detector, classes, negatives)
        if row is None:
            end = _read_end_line(line)
            finished |= end
            n_bad += not end
        # The cause of an error may be gone.
        elif row.error is None:
            rows[stamp] = row
    if n_bad:
        warnings.warn(
            f"Lines of {str(journal)!r} that are no rows of results: {n_bad}; their images are "
            "scored again.",
            stacklevel=2,
        )
    return rows, finished


def _read_line(
    line: bytes, detector: Detector, classes: Mapping[str, int], negatives: Collection[str]
) -> tuple[str, ScoredImage | None]:
    """Return the stamp and row of a line, None for one that is damaged or something else."""
    # JSON may be no JSON, too deep, no object, or have other fields.
    with suppress(ValueError, RecursionError, TypeError, KeyError):
        content = json.loads(line)
        stamp, row = content["stamp"], ScoredImage(**content["row"])
        named = isinstance(stamp, str) and isinstance(row.path, str)
        if named and _is_row(row, detector, classes, negatives):
            return stamp, row
    return "", None


def _read_end_line(line: bytes) -> dict[str, int]:
    """Return the identity of a finished shard and its number of images, {} for another line."""
    with suppress(ValueError, RecursionError, TypeError, KeyError):
        content = json.loads(line)
        identity, n = content["finished"], content["images"]
        if isinstance(identity, str) and isinstance(n, int) and len(content) == 2:
            return {identity: n}
    return {}


def _is_row(
    row: ScoredImage, detector: Detector, classes: Mapping[str, int], negatives: Collection[str]
) -> bool:
    """Whether `_score_batches` may have made a row with this detector, its classes and labels."""
    if row.error is not None:
        return isinstance(row.error, str)
    if row.nearest_class is None or row.nearest_class not in classes:
        return False
    names = [row.nearest_class, row.runner_up]
    numbers = [row.score, row.similarity]
    if len(detector.class_names_) == 1:
        del names[1]
    else:
        numbers.append(row.runner_up_similarity)
    if detector.calibration_scores_ is not None:
        numbers.append(row.p_value)
    if negatives:
        numbers.append(row.negative_similarity)
    threshold = detector.offset_
    if detector.class_offsets_ is not None:
        threshold = float(detector.class_offsets_[classes[row.nearest_class]])
        numbers.append(row.threshold)
    return (
        isinstance(row.parts, dict)
        and set(detector.part_names_) - set(detector.image_parts)
        <= set(row.parts)
        <= set(detector.part_names_)
        and all(isinstance(x, float) and math.isfinite(x) for x in [*numbers, *row.parts.values()])
        and all(name in classes for name in names)
        and (not negatives or row.nearest_negative in negatives)
        and row.verdict == verdict_of(cast(float, row.score), threshold)
        and row.threshold == (None if detector.class_offsets_ is None else threshold)
    )


def _check_journal(journal: Path) -> None:
    """Raise InputError for a file that `score_files` has not written, which is never replaced."""
    if not journal.exists():
        return
    head = b""
    if journal.is_file():
        with journal.open("rb") as stream:
            head = stream.readline(4096)
            if not head:
                return
    if not head.startswith(b'{"detector": "'):
        raise InputError(
            f"{str(journal)!r} would keep the unfinished rows, and it is a file that negrefine "
            "has not written: rename it, or choose another name for the results."
        )


def _line(stamp: str, row: ScoredImage) -> str:
    return json.dumps({"stamp": stamp, "row": asdict(row)}) + "\n"


def _end_line(identity: str, n_images: int) -> str:
    return json.dumps({"finished": identity, "images": n_images}) + "\n"
