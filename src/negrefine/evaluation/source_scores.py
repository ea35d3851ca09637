"""Scores of the images of any sources, in order, while they are read."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from negrefine.detectors import Detector
from negrefine.detectors.selected import Selected
from negrefine.detectors.selection import marks_of_digests
from negrefine.encoders.batches import iter_encoded_images
from negrefine.encoders.image_sources import ImageSource
from negrefine.encoders.undecoded import held_bytes
from negrefine.errors import ImageError, InputError, NotFittedError
from negrefine.evaluation.image_scores import (
    CalibrationReport,
    DetectionReport,
    calibrate_rows,
    detection_report,
)
from negrefine.evaluation.journal import Journal, continued
from negrefine.evaluation.scored_image import ScoredImage, score_rows
from negrefine.progress import progress_bar
from negrefine.shown_text import restored, storable
from negrefine.sources.ahead import Fetcher, Fetching, ReadAhead
from negrefine.sources.base import NamedImage, Shard, error_text, stamp_of
from negrefine.sources.bounded import content_digest
from negrefine.sources.opening import Source, open_sources

Sources = Source | Sequence[Source] | Sequence[Shard]


@dataclass(frozen=True)
class ScoredSources:
    """Rows of images that were read once, and SHA-256 sums of the readable ones' files."""

    rows: list[ScoredImage]
    contents: list[bytes]

    @cached_property
    def readable(self) -> list[ScoredImage]:
        """The rows without an error."""
        return [row for row in self.rows if row.error is None]

    @property
    def names(self) -> list[str]:
        """What the readable images are called."""
        return [restored(row.path) for row in self.readable]

    @property
    def errors(self) -> tuple[str, ...]:
        """Why the others could not be read."""
        return tuple(row.error for row in self.rows if row.error is not None)

    def check_readable(self) -> None:
        """Raise ImageError if no image could be read."""
        if not self.rows:
            raise ImageError("Standard input names no image: write a path or URL on each line.")
        if not self.readable:
            first = f" The first: {self.errors[0]}" if self.errors else ""
            raise ImageError(f"None of the {len(self.rows)} images could be read.{first}")


def score_sources(
    detector: Detector,
    sources: Sources,
    *,
    image_column: str | None = None,
    journal: Path | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> list[ScoredImage]:
    """Return one row for each image of any sources, in order; see `open_sources`.

    An image that cannot be read has a row with the error, and so has a shard that ends early. The
    images of a shard are scored in batches of their own, so its rows are the same bytes whichever
    other shards there are, and after an interrupted run too.

    Args:
        detector: A fitted detector.
        sources: What `open_sources` takes, or the shards that it returned.
        image_column: The column with the images of tables.
        journal: Where finished rows are kept for a run that continues this one, as for
            `score_files`. The caller removes it once the results are stored.
        batch_size: Images to encode at a time.
        progress: Show a progress bar.
    """
    shards = as_shards(sources, image_column)
    return list(
        iter_scored(detector, shards, journal=journal, batch_size=batch_size, progress=progress)
    )


def read_scored_sources(
    detector: Detector,
    sources: Sources,
    *,
    image_column: str | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> ScoredSources:
    """Return the rows of images with what tells copies: for `calibrate_scored` and the like.

    Raises ImageError if no image can be read.
    """
    shards = as_shards(sources, image_column)
    contents: list[bytes] = []
    rows = iter_scored(
        detector, shards, batch_size=batch_size, progress=progress, add_content=contents.append
    )
    scored = ScoredSources(list(rows), contents)
    scored.check_readable()
    return scored


def calibrate_scored(
    detector: Detector,
    scored: ScoredSources,
    fpr: float = 0.05,
    *,
    delta: float | None = None,
    by: str | None = None,
) -> CalibrationReport:
    """Set the threshold from images that were scored, as `calibrate_files` does with files."""
    if isinstance(detector, Selected):
        detector.check_unseen(marks_of_digests(scored.contents))
    return calibrate_rows(
        detector, scored.contents, scored.readable, scored.errors, fpr, delta=delta, by=by
    )


def detect_scored(detector: Detector, scored: ScoredSources) -> DetectionReport:
    """Count the images that a detector flags, as `detect_files` does with files.

    The threshold may have been set after the images were scored. Raises NotFittedError without one.
    """
    if detector.offset_ is None:
        raise NotFittedError("No threshold is set: call calibrate(id_images, fpr=0.05).")
    index = detector.class_indices()
    scores = np.array([row.score for row in scored.readable], dtype=np.float64)
    classes = np.array([index[str(row.nearest_class)] for row in scored.readable], dtype=np.intp)
    decisions = detector.decide(scores, classes)
    return detection_report([each.verdict for each in decisions], scored.errors)


def as_shards(sources: Sources, image_column: str | None = None) -> list[Shard]:
    """Return shards that are given, or those of the sources that are named."""
    if isinstance(sources, (str, os.PathLike)):
        return open_sources(sources, image_column=image_column)
    shards = [each for each in sources if not isinstance(each, (str, os.PathLike))]
    if not shards:
        return open_sources([os.fspath(each) for each in sources], image_column=image_column)  # type: ignore[arg-type]
    if len(shards) < len(sources):
        raise InputError("sources must be names, or shards from open_sources, and not both.")
    return shards


def iter_scored(
    detector: Detector,
    shards: Sequence[Shard],
    *,
    journal: Path | None = None,
    batch_size: int = 64,
    progress: bool = False,
    wait: float | None = None,
    add_content: Callable[[bytes], object] | None = None,
) -> Iterator[ScoredImage]:
    """Yield the rows of `score_sources` while images are read.

    Args:
        detector: A fitted detector.
        shards: From `open_sources`.
        journal: As for `score_sources`.
        batch_size: Images to encode at a time.
        progress: Show a progress bar.
        wait: Encode a batch that is not full when no image came for so many seconds. The last
            digits of scores may depend on it.
        add_content: Is given the SHA-256 sum of each image that could be read.
    """
    with (
        continued(journal, detector) as kept,
        progress_bar("Scoring images", None, enabled=progress) as advance,
        Fetcher() as fetcher,
        ReadAhead(_entries(shards, kept, batch_size, fetcher)) as ahead,
    ):
        scoring = _Scoring(detector, kept, batch_size, add_content)
        while not ahead.is_used_up:
            for rows in scoring.part(ahead.burst(wait)):
                advance(len(rows))
                yield from rows


@dataclass(frozen=True)
class _Entry:
    """An image to encode, or a row that needs no encoding."""

    stamp: str
    name: str
    image: ImageSource | ImageError | Fetching | ScoredImage


@dataclass(frozen=True)
class _End:
    """The end of a shard; `n_images` have rows that belong to its identity alone, or 0."""

    identity: str
    n_images: int


def _entries(
    shards: Sequence[Shard], journal: Journal, batch_size: int, fetcher: Fetcher
) -> Iterator[tuple[_Entry | _End, int]]:
    """Yield what is to be done, with the bytes that it holds, and start to fetch images.

    Rows of the journal are taken for whole batches, so that the others have the images that they
    had before.
    """
    for shard in shards:
        identity = shard.identity()
        if (rows := journal.rows_of(identity)) is not None:
            yield from ((_Entry("", restored(row.path), row), 0) for row in rows)
            yield _End(identity, 0), 0
            continue
        group: list[tuple[str, NamedImage]] = []
        n_images, all_own = 0, bool(identity)
        for position, named in enumerate(shard):
            n_images += 1
            all_own &= named.stamp is None
            group.append((stamp_of(identity, position, named), named))
            # Without rows to look up nothing is held back.
            size = batch_size if journal.known else 1
            if sum(not isinstance(each.image, ImageError) for _, each in group) == size:
                yield from _of_group(group, journal, fetcher)
                group = []
        yield from _of_group(group, journal, fetcher)
        yield _End(identity, n_images if all_own else 0), 0


def _of_group(
    group: Sequence[tuple[str, NamedImage]], journal: Journal, fetcher: Fetcher
) -> Iterator[tuple[_Entry, int]]:
    images = [stamp for stamp, named in group if not isinstance(named.image, ImageError)]
    if images and all(stamp in journal.known for stamp in images):
        for stamp, named in group:
            row = journal.known.get(stamp)
            yield _Entry(stamp, named.name, named.image if row is None else row), 0
        return
    for stamp, named in group:
        yield _Entry(stamp, named.name, fetcher.start(named.image)), held_bytes(named.image)


class _Scoring:
    """Makes rows of entries."""

    def __init__(
        self,
        detector: Detector,
        journal: Journal,
        batch_size: int,
        add_content: Callable[[bytes], object] | None,
    ) -> None:
        self._detector, self._journal, self._batch_size = detector, journal, batch_size
        self._add_content = add_content
        # Entries whose rows are not made yet, with the row or error if they need no encoding.
        self._open: deque[tuple[_Entry, ScoredImage | ImageError | None, bytes]] = deque()
        self._shard_has_errors = False

    def part(self, entries: Iterator[_Entry | _End]) -> Iterator[list[ScoredImage]]:
        """Yield rows of the entries to the end of a shard, or of what has come by now."""
        ends: list[_End] = []
        images = self._images(entries, ends)
        first = next(images, None)
        if first is not None:
            encoded = iter_encoded_images(
                self._detector.encoder,
                itertools.chain([first], images),  # type: ignore[arg-type]
                self._batch_size,
                patches=self._detector.uses_patches,
            )
            for batch in encoded:
                again = self._readable(batch.errors)
                scored = iter(score_rows(self._detector, batch.features, batch.patches, again))
                rows: list[tuple[str, ScoredImage]] = []
                for error in batch.errors:
                    rows += self._without_encoding()
                    entry, _, content = self._open.popleft()
                    row = _error_row(entry, error) if error is not None else next(scored)
                    rows.append(self._done(entry, row, content))
                yield self._kept(rows)
        yield self._kept(list(self._without_encoding()))
        for end in ends:
            if end.n_images and not self._shard_has_errors:
                self._journal.finish(end.identity, end.n_images)
            self._shard_has_errors = False

    def _images(self, entries: Iterator[_Entry | _End], ends: list[_End]) -> Iterator[ImageSource]:
        for entry in entries:
            if isinstance(entry, _End):
                ends.append(entry)
                return
            image = entry.image.take() if isinstance(entry.image, Fetching) else entry.image
            if isinstance(image, (ScoredImage, ImageError)):
                self._open.append((entry, image, b""))
                continue
            content = b"" if self._add_content is None else content_digest(image)
            # Unless the detector looks at it again, the image itself is held by the encoder alone,
            # and only as long as it needs it.
            kept = image if self._detector.image_parts else ImageError()
            self._open.append((replace(entry, image=kept), None, content))
            yield image

    def _readable(self, errors: Sequence[ImageError | None]) -> list[ImageSource]:
        """Return the images of the next batch that have no error, if they are looked at again."""
        if not self._detector.image_parts:
            return []
        encoded = [entry.image for entry, known, _ in self._open if known is None]
        return [
            image
            for image, error in zip(encoded, errors, strict=False)
            if error is None and not isinstance(image, (ImageError, Fetching, ScoredImage))
        ]

    def _without_encoding(self) -> Iterator[tuple[str, ScoredImage]]:
        """Yield the rows before the next image that is encoded."""
        while self._open and self._open[0][1] is not None:
            entry, known, _ = self._open.popleft()
            row = _error_row(entry, known) if isinstance(known, ImageError) else known
            yield self._done(entry, row, b"")

    def _done(self, entry: _Entry, row: Any, content: bytes) -> tuple[str, ScoredImage]:
        if row.error is not None:
            self._shard_has_errors = True
        elif self._add_content is not None:
            self._add_content(content)
        return entry.stamp, replace(row, path=storable(entry.name))

    def _kept(self, rows: list[tuple[str, ScoredImage]]) -> list[ScoredImage]:
        new = {stamp: row for stamp, row in rows if stamp and stamp not in self._journal.known}
        if new:
            self._journal.keep(new)
        return [row for _, row in rows]


def _error_row(entry: _Entry, error: ImageError) -> ScoredImage:
    return ScoredImage("", None, error=error_text(entry.name, error))
