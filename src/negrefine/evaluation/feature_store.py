"""Features of image sets on disk, in shards, so that a killed run encodes nothing twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from negrefine.detectors import Detector
from negrefine.encoders.base import FloatArray
from negrefine.encoders.clip import CLIPEncoder
from negrefine.encoders.images import read_image
from negrefine.errors import ImageError
from negrefine.files import write_atomically
from negrefine.progress import progress_bar

# Images in a shard: what a killed run may have to encode again.
_SHARD = 1024


@dataclass(frozen=True)
class StoredFeatures:
    """Features of the n images of a set.

    Attributes:
        features: float32 (n_readable, d), in order.
        errors: Why an image could not be read, None for readable ones; n entries.
        parts: For methods on patch features their score components, float64 (n_readable,): the
            patches themselves are too large to keep.
    """

    features: FloatArray
    errors: list[str | None]
    parts: Mapping[str, Mapping[str, NDArray[np.float64]]]


def store_features(
    directory: Path,
    encoder: CLIPEncoder,
    paths: Sequence[Path],
    patch_detectors: Mapping[str, Detector],
    *,
    description: str,
    batch_size: int = 64,
    progress: bool = False,
) -> StoredFeatures:
    """Encode images, each once, or take what an earlier run stored for the same files.

    Args:
        directory: Of this image set.
        encoder: From `load_encoder`.
        paths: Image files.
        patch_detectors: Fitted detectors with `uses_patches`, by method.
        description: Caption of the progress bar.
        batch_size: Images to encode at a time.
        progress: Draw a progress bar on a terminal.
    """
    model = f"{encoder.fingerprint} {encoder.dtype}"
    methods = {name: detector.identity() for name, detector in sorted(patch_detectors.items())}
    shards = []
    with progress_bar(description, len(paths), enabled=progress) as advance:
        for start in range(0, len(paths), _SHARD):
            some = paths[start : start + _SHARD]
            target = directory / f"{start // _SHARD:05}.safetensors"
            files = hashlib.sha256("\n".join(map(_stamp, some)).encode()).hexdigest()
            shard = _read(target, model, files, methods)
            if shard is None or _readable_now(shard.errors, some):
                shard = _encode(encoder, some, patch_detectors, batch_size)
                _write(target, shard, model, files, methods)
            shards.append(shard)
            advance(len(some))
    return StoredFeatures(
        np.concatenate([shard.features for shard in shards]),
        [error for shard in shards for error in shard.errors],
        {
            name: {
                part: np.concatenate([shard.parts[name][part] for shard in shards])
                for part in shards[0].parts[name]
            }
            for name in patch_detectors
        },
    )


def _encode(
    encoder: CLIPEncoder,
    paths: Sequence[Path],
    patch_detectors: Mapping[str, Detector],
    batch_size: int,
) -> StoredFeatures:
    features: list[FloatArray] = []
    errors: list[str | None] = []
    parts: dict[str, list[Mapping[str, NDArray[np.float64]]]] = {n: [] for n in patch_detectors}
    for batch in encoder.iter_encoded_images(paths, batch_size, patches=bool(patch_detectors)):
        features.append(batch.features)
        errors += [None if error is None else str(error) for error in batch.errors]
        for name, detector in patch_detectors.items():
            parts[name].append(detector.score_feature_parts(batch.features, batch.patches))
    return StoredFeatures(
        np.concatenate(features),
        errors,
        {
            name: {part: np.concatenate([b[part] for b in blocks]) for part in blocks[0]}
            for name, blocks in parts.items()
        },
    )


def _write(
    target: Path, shard: StoredFeatures, model: str, files: str, methods: Mapping[str, str]
) -> None:
    arrays: dict[str, np.ndarray] = {"features": np.ascontiguousarray(shard.features)}
    for name, parts in shard.parts.items():
        for part, values in parts.items():
            arrays[f"{name}/{part}"] = values
    metadata = {
        "model": model,
        "files": files,
        "methods": json.dumps(methods, sort_keys=True),
        "errors": json.dumps(shard.errors),
    }
    write_atomically(target, lambda temporary: save_file(arrays, temporary, metadata))


def _read(
    target: Path, model: str, files: str, methods: Mapping[str, str]
) -> StoredFeatures | None:
    """Return a shard of the same model, files and patch methods, or None."""
    try:
        with safe_open(target, framework="np") as stream:
            metadata = stream.metadata() or {}
            if metadata.get("model") != model or metadata.get("files") != files:
                return None
            known = json.loads(metadata["methods"])
            if any(known.get(name) != identity for name, identity in methods.items()):
                return None
            parts: dict[str, dict[str, NDArray[np.float64]]] = {name: {} for name in methods}
            for key in stream.keys():  # noqa: SIM118 - not a mapping
                name, slash, part = key.partition("/")
                if slash and name in parts:
                    parts[name][part] = stream.get_tensor(key)
            errors = json.loads(metadata["errors"])
            return StoredFeatures(stream.get_tensor("features"), errors, parts)
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _readable_now(errors: Sequence[str | None], paths: Sequence[Path]) -> bool:
    """Whether an image can be read that an earlier run could not, as after a network fault."""
    for error, path in zip(errors, paths, strict=True):
        if error is not None:
            try:
                read_image(path)
            except ImageError:
                continue
            return True
    return False


def _stamp(path: Path) -> str:
    try:
        info = path.stat()
    except OSError:
        return f"{path}|missing"
    return f"{path}|{info.st_size}|{info.st_mtime_ns}"
