"""Score many image files: one row for each, no row lost to a bad image or an interrupted run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from negrefine.detectors import Detector
from negrefine.detectors.conformal import p_values
from negrefine.detectors.explanation import verdict_of
from negrefine.encoders.clip import CLIPEncoder
from negrefine.errors import InputError
from negrefine.progress import progress_bar

# Images scored between two writes of the journal.
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class ScoredImage:
    """One row of results.

    Attributes:
        path: The image file.
        score: Larger means more in-distribution; None if the image could not be read.
        parts: Components of the score by name.
        verdict: "ID" or "OOD" if the detector has a threshold.
        error: Why the image could not be read.
        p_value: Conformal p-value if the detector has calibration scores; small means OOD.
    """

    path: str
    score: float | None
    parts: dict[str, float] = field(default_factory=dict)
    verdict: str | None = None
    error: str | None = None
    p_value: float | None = None

    def as_row(self, part_names: Sequence[str], *, p_value: bool = False) -> dict[str, Any]:
        """Return a flat row with one column for each component, and `p_value` if wanted."""
        parts = {name: self.parts.get(name) for name in part_names}
        return {
            "path": self.path,
            "score": self.score,
            **parts,
            **({"p_value": self.p_value} if p_value else {}),
            "verdict": self.verdict,
            "error": self.error,
        }


def score_files(
    detector: Detector,
    paths: Sequence[Path],
    *,
    journal: Path | None = None,
    batch_size: int = 64,
    progress: bool = False,
) -> list[ScoredImage]:
    """Score image files in order.

    Args:
        detector: Fitted, on an encoder from `load_encoder`.
        paths: Image files.
        journal: Finished rows are appended here as the run goes on, and rows of an earlier run of
            the same detector on unchanged files are taken from here. The caller removes it once
            the results are stored.
        batch_size: Images to encode at a time.
        progress: Draw a progress bar on a terminal.

    Returns:
        One row for each path, in order; unreadable images have an error and no score.
    """
    identity = _identity(detector)
    known = _read_journal(journal, identity) if journal is not None else {}
    stamps = [_stamp(path) for path in paths]
    missing = [i for i, stamp in enumerate(stamps) if stamp not in known]
    with progress_bar("Scoring images", len(paths), enabled=progress) as advance:
        advance(len(paths) - len(missing))
        stream = None if journal is None else _open_journal(journal, identity, resume=bool(known))
        try:
            for start in range(0, len(missing), _CHUNK):
                chunk = missing[start : start + _CHUNK]
                rows = _score_chunk(detector, [paths[i] for i in chunk], batch_size)
                for i, row in zip(chunk, rows, strict=True):
                    known[stamps[i]] = row
                if stream is not None:
                    _append(stream, [(stamps[i], known[stamps[i]]) for i in chunk])
                advance(len(chunk))
        finally:
            if stream is not None:
                stream.close()
    return [known[stamp] for stamp in stamps]


def _score_chunk(
    detector: Detector, paths: Sequence[Path], batch_size: int
) -> Iterator[ScoredImage]:
    encoder = detector.encoder
    if not isinstance(encoder, CLIPEncoder):
        raise InputError("Files can be scored with an encoder from load_encoder only.")
    position = 0
    for batch in encoder.iter_encoded_images(paths, batch_size, patches=detector.uses_patches):
        parts = detector.score_feature_parts(batch.features, batch.patches)
        scores = detector.combine(parts)
        known = detector.calibration_scores_
        p = None if known is None else p_values(known, scores)
        readable = 0
        for error in batch.errors:
            path = _storable(str(paths[position]))
            position += 1
            if error is not None:
                yield ScoredImage(path, None, error=_storable(str(error)))
                continue
            score = float(scores[readable])
            yield ScoredImage(
                path,
                score,
                {name: float(values[readable]) for name, values in parts.items()},
                verdict_of(score, detector.offset_),
                p_value=None if p is None else float(p[readable]),
            )
            readable += 1


def _identity(detector: Detector) -> dict[str, Any]:
    """Say which detector made the rows, so that another one never continues its journal."""
    return {"detector": detector.identity(), "encoder": detector.encoder.fingerprint}


def _storable(text: str) -> str:
    """Return text that UTF-8 can hold: file names on Linux may be any bytes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _stamp(path: Path) -> str:
    try:
        info = path.stat()
    except OSError:
        return f"{path}|missing"
    return f"{path}|{info.st_size}|{info.st_mtime_ns}"


def _read_journal(journal: Path, identity: dict[str, Any]) -> dict[str, ScoredImage]:
    try:
        lines = journal.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError):
        return {}
    rows: dict[str, ScoredImage] = {}
    for number, line in enumerate(lines):
        try:
            content = json.loads(line)
        except ValueError:
            # A killed run leaves at most one unfinished line, at the end.
            break
        if number == 0:
            if content != identity:
                return {}
            continue
        row = ScoredImage(**content["row"])
        # What kept an image from being read may have passed.
        if row.error is None:
            rows[content["stamp"]] = row
    return rows


def _open_journal(journal: Path, identity: dict[str, Any], *, resume: bool) -> TextIO:
    try:
        if resume:
            _drop_unfinished_line(journal)
            return journal.open("a", encoding="utf-8")
        stream = journal.open("w", encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"The results cannot be written to {str(journal.parent)!r}: {error.strerror}."
        ) from error
    stream.write(json.dumps(identity) + "\n")
    stream.flush()
    return stream


def _drop_unfinished_line(journal: Path) -> None:
    with journal.open("rb+") as stream:
        data = stream.read()
        stream.truncate(data.rfind(b"\n") + 1)


def _append(stream: TextIO, rows: list[tuple[str, ScoredImage]]) -> None:
    for stamp, row in rows:
        content = {name: getattr(row, name) for name in ScoredImage.__slots__}
        stream.write(json.dumps({"stamp": stamp, "row": content}) + "\n")
    stream.flush()
    os.fsync(stream.fileno())
