"""Features and score components of an image set on disk, in blocks that a later run takes up."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from negrefine.detectors import Detector
from negrefine.encoders.base import Encoder, FloatArray
from negrefine.encoders.batches import iter_encoded_images
from negrefine.encoders.images import read_image
from negrefine.errors import ImageError
from negrefine.files import file_stamp, storable, write_atomically
from negrefine.progress import progress_bar

Parts = dict[str, NDArray[np.float64]]

# Images in a block: a killed run repeats the work on this many at most.
_BLOCK = 1024


@dataclass(frozen=True)
class FeatureBlock:
    """Features of consecutive images of a set.

    Attributes:
        features: float32 (n_readable, d), in order.
        errors: Why an image could not be read, None for readable ones; one entry for each image.
    """

    features: FloatArray
    errors: list[str | None]

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of the features."""
        return hashlib.sha256(self.features.tobytes()).hexdigest()


@dataclass(frozen=True)
class Scorer:
    """Some components of the score of a fitted detector.

    Attributes:
        detector: The detector.
        part_names: Names of the components.
    """

    detector: Detector
    part_names: tuple[str, ...]

    @cached_property
    def identity(self) -> str:
        """SHA-256 (hex) over everything but the features that decides the components."""
        # The threshold does not, but the code of a class that shares its method's name does.
        cls = type(self.detector)
        without_threshold = self.detector.with_params().identity()
        return _digest([cls.__module__, cls.__qualname__, without_threshold, *self.part_names])

    def score(self, features: FloatArray, patches: FloatArray | None = None) -> Parts:
        """Return the components, each float64 (n,), of features (n, d)."""
        parts = self.detector.score_feature_parts(features, patches, only=self.part_names)
        return {name: np.ascontiguousarray(parts[name]) for name in self.part_names}


@dataclass(frozen=True)
class SetStore:
    """The folders of one image set.

    Patch features are too large to keep. The components of scores on them are computed while the
    images are encoded, and kept.

    Attributes:
        features: The folder of features.
        parts: The folder of score components.
        caption: Name of the set for progress bars.
        progress: Draw progress bars on a terminal.
    """

    features: Path
    parts: Path
    caption: str
    progress: bool = False

    def encode(
        self,
        encoder: Encoder,
        paths: Sequence[Path],
        patch_scorers: Sequence[Scorer] = (),
        batch_size: int = 64,
    ) -> list[FeatureBlock]:
        """Encode images, each once, or take what an earlier run stored for the same files.

        Args:
            encoder: The image-text model.
            paths: Image files.
            patch_scorers: Components that need patch features; `score` finds them afterwards.
            batch_size: Number of images to encode at a time.
        """
        model = f"{encoder.fingerprint} {getattr(encoder, 'dtype', '')}"
        blocks: list[FeatureBlock] = []
        with progress_bar(f"Encoding {self.caption}", len(paths), enabled=self.progress) as advance:
            for number, start in enumerate(range(0, len(paths), _BLOCK)):
                files = paths[start : start + _BLOCK]
                target = self.features / f"{number:05}.safetensors"
                key = _digest([model, *map(file_stamp, files)])
                block = _read_features(target, key, files)
                missing = [
                    scorer
                    for scorer in patch_scorers
                    if block is None or self._read_parts(number, scorer, block) is None
                ]
                if block is None or missing:
                    encoded, parts = _encode_block(encoder, files, missing, batch_size)
                    if block is None or block.errors != encoded.errors:
                        block = encoded
                        arrays = {"features": np.ascontiguousarray(block.features)}
                        _write(target, key, arrays, block.errors)
                    for scorer, values in zip(missing, parts, strict=True):
                        self._write_parts(number, scorer, block, values)
                blocks.append(block)
                advance(len(files))
        return blocks

    def score(self, scorer: Scorer, blocks: Sequence[FeatureBlock], row: str) -> Parts:
        """Score features, or take what an earlier run stored for the same features.

        Args:
            scorer: What to compute.
            blocks: From `encode`, one at least.
            row: Name of the detector for the progress bar.

        Returns:
            Component name to float64 (n_readable,).
        """
        scored = []
        total = sum(len(block.features) for block in blocks)
        with progress_bar(
            f"Scoring {self.caption} ({row})", total, enabled=self.progress
        ) as advance:
            for number, block in enumerate(blocks):
                parts = self._read_parts(number, scorer, block)
                if parts is None:
                    parts = scorer.score(block.features)
                    self._write_parts(number, scorer, block, parts)
                scored.append(parts)
                advance(len(block.features))
        return {name: np.concatenate([s[name] for s in scored]) for name in scorer.part_names}

    def _read_parts(self, number: int, scorer: Scorer, block: FeatureBlock) -> Parts | None:
        stored = _read(self._parts_file(number, scorer), _digest([scorer.identity, block.digest]))
        return None if stored is None else stored[0]

    def _write_parts(self, number: int, scorer: Scorer, block: FeatureBlock, parts: Parts) -> None:
        key = _digest([scorer.identity, block.digest])
        _write(self._parts_file(number, scorer), key, parts)

    def _parts_file(self, number: int, scorer: Scorer) -> Path:
        return self.parts / f"{number:05}.{scorer.identity[:16]}.safetensors"


def _encode_block(
    encoder: Encoder, paths: Sequence[Path], scorers: Sequence[Scorer], batch_size: int
) -> tuple[FeatureBlock, list[Parts]]:
    """Return the features of images and, of each scorer, its components."""
    features: list[FloatArray] = []
    errors: list[str | None] = []
    scored: list[list[Parts]] = [[] for _ in scorers]
    for batch in iter_encoded_images(encoder, paths, batch_size, patches=bool(scorers)):
        features.append(batch.features)
        errors += [None if error is None else storable(str(error)) for error in batch.errors]
        for scorer, batches in zip(scorers, scored, strict=True):
            batches.append(scorer.score(batch.features, batch.patches))
    parts = [
        {name: np.concatenate([batch[name] for batch in batches]) for name in scorer.part_names}
        for scorer, batches in zip(scorers, scored, strict=True)
    ]
    return FeatureBlock(np.concatenate(features), errors), parts


def _read_features(target: Path, key: str, paths: Sequence[Path]) -> FeatureBlock | None:
    stored = _read(target, key)
    if stored is None:
        return None
    arrays, errors = stored
    failed = [path for path, error in zip(paths, errors, strict=True) if error is not None]
    # An image that failed before may be readable by now, as after a network fault.
    return None if any(map(_is_readable, failed)) else FeatureBlock(arrays["features"], errors)


def _is_readable(path: Path) -> bool:
    try:
        read_image(path)
    except ImageError:
        return False
    return True


def _write(
    target: Path, key: str, arrays: Mapping[str, NDArray[Any]], errors: Sequence[str | None] = ()
) -> None:
    metadata = {"key": key, "errors": json.dumps(list(errors))}
    write_atomically(target, lambda temporary: save_file(dict(arrays), temporary, metadata))


def _read(target: Path, key: str) -> tuple[dict[str, NDArray[Any]], list[str | None]] | None:
    """Return the arrays and errors of a file, or None unless it was written for this key."""
    try:
        with safe_open(target, framework="np") as stream:
            metadata = stream.metadata() or {}
            if metadata.get("key") != key:
                return None
            arrays = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            return arrays, json.loads(metadata["errors"])
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _digest(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode("utf-8", "surrogatepass")).hexdigest()
